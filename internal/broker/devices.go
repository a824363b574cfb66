package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// A device is enrolled with a token that an administrator gets for its name. Nothing is kept of the token but that it
// was used:
//
//	invite   administrator → token, good once, for a day at the most
//	enrol    token and a proof of the device's key → the device, in the transaction that uses the token up
//	renew    a proof of the key, and of the next one → another term
//	remove   administrator → the device counts no more, and its leases end
//
// A device past its term, or one that was removed, counts nowhere: what it does hangs on its row, which is read in the
// transaction that does it ([Broker.enrolled]).

const (
	// MaxInvitation is how long an enrolment token may be good.
	MaxInvitation     = issuer.MaxTTL
	defaultInvitation = time.Hour

	enrolmentType  = "enrol+jwt"
	spentEnrolment = "enrolment" // a word of the store, which must not change

	maxDevices   = 100_000 // of one issuer
	maxLabels    = 16
	strangerRate = 5 // failed attempts of one address in a second
	goneFor      = 90 * 24 * time.Hour
	sweepPage    = 100
)

var (
	deviceName  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	labelName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)
	labelValue  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}$`)
	thumbprints = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// InviteRequest asks for an enrolment token.
type InviteRequest struct {
	Issuer, Name string
	Labels       map[string]string
	Thumbprint   string        // of the one key that may use the token; empty: any
	TTL          time.Duration // 0: an hour
}

// Invitation is an enrolment token. It exists in one answer only.
type Invitation struct {
	Token        secret.Text
	Issuer, Name string
	ExpiresAt    time.Time
}

// invited is what an enrolment token says beside what all tokens say.
type invited struct {
	ID      string            `json:"jti"`
	Name    string            `json:"sub"`
	Issuer  string            `json:"devices"` // the URL of the device's issuer
	Labels  map[string]string `json:"labels"`
	By      string            `json:"by"`
	Made    int64             `json:"made"` // in microseconds since 1970; iat has whole seconds
	Expires int64             `json:"exp"`
	Bound   struct {
		Key string `json:"jkt"`
	} `json:"cnf"`
}

// InviteDevice gives an administrator a token with which one device can enrol, once.
func (b *Broker) InviteDevice(ctx context.Context, c Caller, r InviteRequest) (out Invitation, err error) {
	who, err := b.administer(ctx, c, policy.Configure)
	if err != nil {
		return out, err
	}
	at, err := checkInvitation(who.view, &r)
	if err != nil {
		return out, err
	}
	now := b.clock.Now()
	claims := map[string]any{"devices": at.URL, "labels": r.Labels, "by": who.name, "made": now.UnixMicro()}
	if r.Thumbprint != "" {
		claims["cnf"] = map[string]string{"jkt": r.Thumbprint}
	}
	text, err := b.issuer.Sign(ctx, issuer.Token{Type: enrolmentType, Algorithm: issuer.ES256, ID: rand.Text(), Subject: r.Name,
		Audience: []string{b.issuer.URL()}, TTL: r.TTL, Claims: claims})
	if err != nil {
		return out, err
	}
	out = Invitation{Token: text, Issuer: at.Name, Name: r.Name, ExpiresAt: now.Add(r.TTL).Truncate(time.Second)}
	err = b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceInvited, Device: at.Name + ":" + r.Name, Key: r.Thumbprint, Until: out.ExpiresAt})
		return err
	})
	if err != nil {
		return Invitation{}, err
	}
	b.logOf(who.origin).Info("an enrolment token was made", "issuer", at.Name, "device", r.Name, "by", who.name, "until", out.ExpiresAt)
	return out, nil
}

// checkInvitation refuses what cannot be a device, and fills in what was left open.
func checkInvitation(view *View, r *InviteRequest) (at access.Issuer, err error) {
	const op = "invite a device"
	if view != nil {
		at = view.Access.Issuers[r.Issuer]
	}
	if r.TTL == 0 {
		r.TTL = defaultInvitation
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	switch {
	case at.Kind != access.KindDevices:
		return at, fault.New(fault.NotFound, op, fmt.Sprintf("there is no issuer %.40q of devices", r.Issuer))
	case !deviceName.MatchString(r.Name):
		return at, fault.New(fault.Invalid, op, "the name of a device has 1 to 63 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit")
	case r.TTL < time.Second || r.TTL > MaxInvitation:
		return at, fault.New(fault.Invalid, op, fmt.Sprintf("an enrolment token is good for a second at least and %s at most", MaxInvitation))
	case r.Thumbprint != "" && !thumbprints.MatchString(r.Thumbprint):
		return at, fault.New(fault.Invalid, op, "the thumbprint is not that of a key (RFC 7638, SHA-256, base64url)")
	case len(r.Labels) > maxLabels:
		return at, fault.New(fault.Invalid, op, fmt.Sprintf("a device has at most %d labels", maxLabels))
	}
	for name, value := range r.Labels {
		if !labelName.MatchString(name) || !labelValue.MatchString(value) {
			return at, fault.New(fault.Invalid, op, "a label is a short name and a value of letters, digits and . _ : / @ + -")
		}
	}
	return at, nil
}

// Enrolled is a device with the name of its issuer.
type Enrolled struct {
	store.Device
	Issuer string
}

// Enrol makes a device of who shows an enrolment token and holds a key. Of two that show one token, one gets the device.
// Who shows it again with the same key is told that it has it: the first answer may have been lost.
func (b *Broker) Enrol(ctx context.Context, token secret.Text, evidence Evidence, from Origin) (out Enrolled, err error) {
	err = b.asStranger("enrol", from, func() error {
		out, err = b.enrol(ctx, token, evidence, from)
		return err
	})
	return out, err
}

func (b *Broker) enrol(ctx context.Context, token secret.Text, evidence Evidence, from Origin) (out Enrolled, err error) {
	const op = "enrol a device"
	said, err := b.readInvitation(ctx, token)
	if err != nil {
		return out, err
	}
	held, err := b.possessed(op, evidence, token)
	if err != nil {
		return out, err
	}
	if said.Bound.Key != "" && said.Bound.Key != held.Key {
		return out, b.stranger(op, "the enrolment token is bound to another key")
	}
	at, term, err := b.devicesAt(said.Issuer)
	if err != nil {
		return out, err
	}
	now := b.clock.Now()
	labels, err := json.Marshal(said.Labels)
	if err != nil {
		return out, fmt.Errorf("%s: encode its labels: %w", op, err)
	}
	fresh := store.Device{IssuerURL: at.URL, Name: said.Name, Thumbprint: held.Key, Key: []byte(held.Proof.Key), Labels: labels,
		EnrolledAt: now, EnrolledBy: said.By, Until: now.Add(term)}
	err = b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		out = Enrolled{Issuer: at.Name} // the store may run this again
		if err := b.settle(tx, dueOf(held)); err != nil {
			return err
		}
		first, err := tx.Spend(spentEnrolment, said.ID, now, time.Unix(said.Expires, 0).Add(clockRoom))
		if err != nil {
			return err
		}
		if !first {
			out.Device, err = tx.Device(at.URL, said.Name)
			if err == nil && out.Good(now) && out.Thumbprint == held.Key {
				return nil
			}
			if err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			return b.stranger(op, "the enrolment token was used before")
		}
		if err := b.outlived(tx, at.URL, said); err != nil {
			return err
		}
		if err := tx.EnrolDevice(fresh, maxDevices); err != nil {
			return err
		}
		out.Device = fresh
		_, err = tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceEnrolled, Device: at.Name + ":" + fresh.Name, Key: fresh.Thumbprint, Until: fresh.Until})
		return err
	})
	if err != nil {
		return Enrolled{}, err
	}
	b.logOf(from).Info("a device was enrolled", "issuer", at.Name, "device", out.Name, "key", out.Thumbprint, "until", out.Until)
	return out, nil
}

// readInvitation reads an enrolment token.
func (b *Broker) readInvitation(ctx context.Context, token secret.Text) (said invited, err error) {
	const op = "read an enrolment token"
	claims, err := b.issuer.Verify(ctx, token, enrolmentType)
	switch {
	case errors.Is(err, issuer.ErrRejected):
		return said, b.stranger(op, "the enrolment token is not one of ours, or is no longer good")
	case err != nil:
		return said, err
	}
	text, err := json.Marshal(claims)
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil || claims["aud"] != b.issuer.URL() || said.ID == "" || !deviceName.MatchString(said.Name) {
		return said, b.stranger(op, "the enrolment token lacks what ours have")
	}
	return said, nil
}

// possessed returns the key that a device proves to hold, one that devices may have. The proof goes with a text.
func (b *Broker) possessed(op string, evidence Evidence, with secret.Text) (held accesstoken.Possession, err error) {
	showing := evidence.showing()
	if showing.Proof == "" {
		return held, unauthenticated(op, &accesstoken.Refusal{Code: accesstoken.InvalidProof, Text: "prove the device's key: send a DPoP proof (RFC 9449 §4)"})
	}
	if held, err = b.tokens.Possess(showing, with); err != nil {
		return held, b.unproven(op, err)
	}
	if _, err := b.deviceKey([]byte(held.Proof.Key)); err != nil {
		return held, b.stranger(op, "devices have keys of P-256, Ed25519, or RSA with 2,048 to 4,096 bits")
	}
	return held, nil
}

// devicesAt returns the issuer of devices with a URL, and how long they count.
func (b *Broker) devicesAt(url string) (at access.Issuer, term time.Duration, err error) {
	if view := b.View(); view != nil {
		for _, one := range view.Access.Issuers {
			if one.URL == url && one.Kind == access.KindDevices {
				at = one
			}
		}
	}
	if at.Name == "" {
		return at, 0, b.stranger("look up an issuer of devices", "the issuer of the device has left the access configuration")
	}
	term, err = at.DeviceTerm()
	return at, term, err
}

// RenewRequest asks for another term of a device.
type RenewRequest struct {
	Issuer, Name string
	Evidence     Evidence // the proof is of the device's key
	Next         string   // a proof of the key that it will have, made for the same request, with the hash of the first proof as `ath`; empty: it keeps its key
	Origin       Origin
}

// RenewDevice gives a device that proves its key another term, and the key that it proves to hold beside.
func (b *Broker) RenewDevice(ctx context.Context, r RenewRequest) (out Enrolled, err error) {
	err = b.asStranger("renew", r.Origin, func() error {
		out, err = b.renewDevice(ctx, r)
		return err
	})
	return out, err
}

func (b *Broker) renewDevice(ctx context.Context, r RenewRequest) (out Enrolled, err error) {
	const op = "renew a device"
	at, term, err := b.devicesAt(access.DeviceIssuer{}.URL(r.Issuer))
	if err != nil {
		return out, err
	}
	held, err := b.possessed(op, r.Evidence, secret.Text{})
	if err != nil {
		return out, err
	}
	next, dues := held, dueOf(held)
	if r.Next != "" {
		second := r.Evidence
		second.Proof = r.Next
		if next, err = b.possessed(op, second, secret.New(r.Evidence.Proof)); err != nil {
			return out, err
		}
		dues = append(dues, dueOf(next)...)
	}
	// By the key, and not by the name, whose renewals any stranger could use up.
	if err := b.renews.take(at.URL, "key "+held.Key, time.Now()); err != nil {
		return out, err
	}
	now := b.clock.Now()
	err = b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := b.settle(tx, dues); err != nil {
			return err
		}
		d, err := tx.Device(at.URL, r.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err != nil || !d.Good(now) || d.Thumbprint != held.Key {
			return b.stranger(op, "there is no such device with this key, or it counts no more")
		}
		d.Thumbprint, d.Key, d.Until = next.Key, []byte(next.Proof.Key), now.Add(term)
		if err := tx.RenewDevice(d); err != nil {
			return err
		}
		out = Enrolled{d, at.Name}
		_, err = tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceRenewed, Device: at.Name + ":" + d.Name, Key: d.Thumbprint, Until: d.Until})
		return err
	})
	return out, err
}

// RemoveDevice makes a device count no more, for administrators who may lock. Its leases end before this returns,
// unless the store fails under it: then the next sweep ends them.
func (b *Broker) RemoveDevice(ctx context.Context, c Caller, at, name string) (out Enrolled, err error) {
	who, err := b.administer(ctx, c, policy.Lock)
	if err != nil {
		return out, err
	}
	ctx = context.WithoutCancel(ctx)
	url, now := access.DeviceIssuer{}.URL(at), b.clock.Now()
	err = b.store.Update(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(url, name)
		if err != nil || !d.RemovedAt.IsZero() {
			out = Enrolled{d, at}
			return err
		}
		if err := tx.RemoveDevice(url, name, now); err != nil {
			return err
		}
		d.RemovedAt = now
		out = Enrolled{d, at}
		_, err = tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceRemoved, Device: at + ":" + name, Key: d.Thumbprint})
		return err
	})
	if err != nil {
		return Enrolled{}, err
	}
	b.logOf(who.origin).Warn("a device was removed", "issuer", at, "device", name, "by", who.name)
	return out, b.endDevice(ctx, out.Device)
}

// endDevice ends the leases of a device that counts no more. Its row keeps new ones from being made.
func (b *Broker) endDevice(ctx context.Context, d store.Device) error {
	reason := lease.Withdrawn
	if !d.RemovedAt.IsZero() {
		reason = lease.Revoke
	}
	if err := b.revoker.EndAll(ctx, store.Filter{IssuerURL: d.IssuerURL, Subject: d.Name}, reason); err != nil {
		return fmt.Errorf("end the leases of device %s: %w", d.Name, err)
	}
	return b.store.Update(ctx, func(tx *store.Tx) error { return tx.EndDevice(d.IssuerURL, d.Name, b.clock.Now()) })
}

// devices is the review that looks for devices that count no more.
func (r *reviews) devices(ctx context.Context, _ *View) error { return r.broker.sweepDevices(ctx) }

// sweepDevices ends the leases of devices whose term is over, and what a crash left of those that were removed; and it
// forgets devices that are gone for long.
func (b *Broker) sweepDevices(ctx context.Context) error {
	now := b.clock.Now()
	var gone []store.Device
	err := b.store.View(ctx, func(tx *store.Tx) (err error) {
		gone, err = tx.GoneDevices(now, sweepPage)
		return err
	})
	for _, d := range gone {
		err = errors.Join(err, b.endDevice(ctx, d))
	}
	if err != nil || len(gone) > 0 {
		return err
	}
	var old []store.Device
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		old, err = tx.OldDevices(now.Add(-goneFor), 1)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return b.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ForgetDevices(now.Add(-goneFor), sweepPage)
		return err
	})
}

// Devices returns a page of the devices of an issuer by name, for administrators.
func (b *Broker) Devices(ctx context.Context, c Caller, at, cursor string, limit int) (page []Enrolled, next string, err error) {
	if _, err := b.administer(ctx, c, policy.Read); err != nil {
		return nil, "", err
	}
	var found []store.Device
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		found, next, err = tx.Devices(access.DeviceIssuer{}.URL(at), cursor, limit)
		return err
	})
	for _, d := range found {
		page = append(page, Enrolled{d, at})
	}
	return page, next, err
}

// membership is what evidence of a device depends on beside itself.
func membership(p identity.Principal) []due {
	if !isDevice(p.IssuerURL) {
		return nil
	}
	return []due{{of: p, looked: true, refusal: fault.New(fault.Unauthenticated, "look up a device", "the device was removed, its term is over, or it has another key now")}}
}

func isDevice(issuerURL string) bool {
	return strings.HasPrefix(issuerURL, access.DeviceIssuer{}.URL(""))
}

// enrolled reports whether a principal, and each who acts for it, still counts, where they are devices: an access token
// of one that was removed, or that has changed its key since, is worth nothing.
func (b *Broker) enrolled(tx *store.Tx, p identity.Principal) (bool, error) {
	print, _ := p.Claims["thumbprint"].(string)
	if good, err := b.enrolledAs(tx, p.IssuerURL, p.Subject, print); !good || err != nil {
		return false, err
	}
	for _, actor := range accesstoken.Actors(p) {
		if good, err := b.enrolledAs(tx, actor.IssuerURL, actor.Subject, ""); !good || err != nil {
			return false, err
		}
	}
	return true, nil
}

// enrolledAs asks nothing of who is no device. Of an actor no more is known than its name.
func (b *Broker) enrolledAs(tx *store.Tx, issuerURL, name, thumbprint string) (bool, error) {
	if !isDevice(issuerURL) {
		return true, nil
	}
	d, err := tx.Device(issuerURL, name)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && d.Good(b.clock.Now()) && (thumbprint == "" || d.Thumbprint == thumbprint), err
}

// stranger is the refusal of somebody who is not known yet.
func (b *Broker) stranger(op, public string) error {
	return fault.New(fault.Unauthenticated, op, public)
}

// asStranger does what somebody asks for who has no evidence yet. What fails is counted, and by their address: it
// makes no entries of the ledger, which strangers could fill.
func (b *Broker) asStranger(step string, from Origin, do func() error) error {
	who := block(from.SourceIP)
	err := b.strangers.spent("", who, time.Now())
	if err == nil {
		err = do()
		refusal, again := errors.AsType[*accesstoken.Refusal](err)
		if fault.Is(err, fault.Unauthenticated) && (!again || refusal.Code != accesstoken.UseNonce) {
			_ = b.strangers.take("", who, time.Now()) // it only counts
		}
	}
	b.figures.enrolments.WithLabelValues(step, outcome(err)).Inc()
	return err
}

// block is what one stranger has of addresses: one of IPv4, and 64 bits' worth of IPv6.
func block(ip netip.Addr) string {
	if ip = ip.Unmap(); ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}
