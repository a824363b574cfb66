// Package enrolment makes devices of those who show an enrolment token and hold a key, and keeps them for as long as
// they renew. It owns the devices of each issuer of devices, from their invitation to their removal.
//
//	invite   administrator → token, good once, for a day at the most; nothing is kept of it but that it was used
//	enrol    token and a proof of the device's key → the device, in the transaction that uses the token up
//	renew    a proof of the key, and of the next one → another term
//	remove   administrator → the device counts no more, and its leases end
//
// It promises that of two who show one token one gets the device, and that a device past its term, or one that was
// removed, holds no lease for long. That it counts nowhere else either hangs on its row, which admission reads in the
// transaction that does what the device asks for.
//
// It must not import the broker, the edge, or what devices run.
package enrolment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/rate"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

const (
	spentEnrolment = "enrolment" // a word of the store, which must not change

	maxDevices   = 100_000 // of one issuer
	strangerRate = 5       // failed attempts of one address in a second
)

// Guard is what enrolment needs of admission. [admission.Guard] is one.
type Guard interface {
	View() *admission.View
	Administer(ctx context.Context, c admission.Caller, action policy.Action) (admission.Actor, error)
	Possess(op string, evidence admission.Evidence, with secret.Text) (accesstoken.Possession, []admission.Due, error)
	Settle(tx *store.Tx, dues []admission.Due) error
}

// Signer makes enrolment tokens, and reads them again.
type Signer interface {
	URL() string
	Sign(ctx context.Context, t issuer.Token) (secret.Text, error)
	Verify(ctx context.Context, token secret.Text, kind string) (map[string]any, error)
}

// Config is what a Register needs.
type Config struct {
	Guard  Guard
	Signer Signer
	Store  *store.Store
	Ender  admission.Ender
	Key    func(jwk []byte) (thumbprint string, err error) // refuses public keys that no device may have
	Rate   float64                                         // renewals of one device in a second; 0: no limit
	Now    func() time.Time
	Log    *slog.Logger
}

// Register keeps the devices. Its methods may be called concurrently.
type Register struct {
	guard      Guard
	signer     Signer
	store      *store.Store
	ender      admission.Ender
	key        func(jwk []byte) (thumbprint string, err error)
	now        func() time.Time
	log        *slog.Logger
	renewals   *rate.Limit
	strangers  *rate.Limit // failed attempts to enrol or renew, by address
	enrolments *prometheus.CounterVec
}

// New returns a Register.
func New(cfg Config) *Register {
	e := &Register{
		guard:     cfg.Guard,
		signer:    cfg.Signer,
		store:     cfg.Store,
		ender:     cfg.Ender,
		key:       cfg.Key,
		now:       cfg.Now,
		log:       cfg.Log,
		renewals:  rate.New(cfg.Rate),
		strangers: rate.New(strangerRate),
		enrolments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_enrolments_total", Help: "Devices that enrolled or renewed their term, or tried to, by step (enrol, renew) and outcome."},
			[]string{"step", "outcome"}),
	}
	// What seldom happens is there from the beginning, so that alarms have something to compare with.
	for _, step := range []string{"enrol", "renew"} {
		e.enrolments.WithLabelValues(step, fault.Outcome(nil))
	}
	return e
}

// Describe implements [prometheus.Collector].
func (e *Register) Describe(out chan<- *prometheus.Desc) { e.enrolments.Describe(out) }

// Collect implements [prometheus.Collector].
func (e *Register) Collect(out chan<- prometheus.Metric) { e.enrolments.Collect(out) }

// Enrolled is a device with the name of its issuer.
type Enrolled struct {
	store.Device
	Issuer string
}

// Enrol makes a device of who shows an enrolment token and holds a key. Of two that show one token, one gets the device.
// Who shows it again with the same key is told that it has it: the first answer may have been lost.
func (e *Register) Enrol(ctx context.Context, token secret.Text, evidence admission.Evidence, from admission.Origin) (out Enrolled, err error) {
	err = e.asStranger("enrol", from, func() error {
		out, err = e.enrol(ctx, token, evidence, from)
		return err
	})
	return out, err
}

func (e *Register) enrol(ctx context.Context, token secret.Text, evidence admission.Evidence, from admission.Origin) (out Enrolled, err error) {
	const op = "enrol a device"
	said, err := e.readInvitation(ctx, token)
	if err != nil {
		return out, err
	}
	held, dues, err := e.possess(op, evidence, token)
	if err != nil {
		return out, err
	}
	if said.Bound.Key != "" && said.Bound.Key != held.Key {
		return out, stranger(op, "the enrolment token is bound to another key (RFC 7800 §3.1, RFC 9449 §6.1)")
	}
	at, term, err := e.devicesAt(said.Issuer)
	if err != nil {
		return out, err
	}
	now := e.now()
	labels, err := json.Marshal(said.Labels)
	if err != nil {
		return out, fmt.Errorf("%s: encode its labels: %w", op, err)
	}
	fresh := store.Device{IssuerURL: at.URL, Name: said.Name, Thumbprint: held.Key, Key: []byte(held.Proof.Key), Labels: labels,
		EnrolledAt: now, EnrolledBy: said.By, Until: now.Add(term)}
	err = e.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		out = Enrolled{Issuer: at.Name} // the store may run this again
		if err := e.guard.Settle(tx, dues); err != nil {
			return err
		}
		first, err := tx.Spend(spentEnrolment, said.ID, now, time.Unix(said.Expires, 0).Add(admission.ClockRoom))
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
			return stranger(op, "the enrolment token was used before (RFC 7519 §4.1.7)")
		}
		if err := e.outlived(tx, at.URL, said); err != nil {
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
	from.Log(e.log).Info("a device was enrolled", "issuer", at.Name, "device", out.Name, "key", out.Thumbprint, "until", out.Until)
	return out, nil
}

// possess returns the key that a device proves to hold, one that devices may have, and what the proof uses up. The proof
// goes with a text.
func (e *Register) possess(op string, evidence admission.Evidence, with secret.Text) (held accesstoken.Possession, dues []admission.Due, err error) {
	if evidence.Proof == "" {
		return held, nil, admission.Unauthenticated(op, &accesstoken.Refusal{Code: accesstoken.InvalidProof, Text: "prove the device's key: send a DPoP proof (RFC 9449 §4)"})
	}
	if held, dues, err = e.guard.Possess(op, evidence, with); err != nil {
		return held, nil, err
	}
	if _, err := e.key([]byte(held.Proof.Key)); err != nil {
		return held, nil, stranger(op, "devices have keys of P-256, Ed25519, or RSA with 2,048 to 4,096 bits")
	}
	return held, dues, nil
}

// devicesAt returns the issuer of devices with a URL, and how long they count.
func (e *Register) devicesAt(url string) (at access.Issuer, term time.Duration, err error) {
	if view := e.guard.View(); view != nil {
		for _, one := range view.Access.Issuers {
			if one.URL == url && one.Kind == access.KindDevices {
				at = one
			}
		}
	}
	if at.Name == "" {
		return at, 0, stranger("look up an issuer of devices", "the issuer of the device has left the access configuration (RFC 7519 §4.1.1)")
	}
	term, err = at.DeviceTerm()
	return at, term, err
}

// RenewRequest asks for another term of a device.
type RenewRequest struct {
	Issuer, Name string
	Evidence     admission.Evidence // the proof is of the device's key
	Next         string             // a proof of the key that it will have, made for the same request, with the hash of the first proof as `ath`; empty: it keeps its key
	Origin       admission.Origin
}

// Renew gives a device that proves its key another term, and the key that it proves to hold beside.
func (e *Register) Renew(ctx context.Context, r RenewRequest) (out Enrolled, err error) {
	err = e.asStranger("renew", r.Origin, func() error {
		out, err = e.renew(ctx, r)
		return err
	})
	return out, err
}

func (e *Register) renew(ctx context.Context, r RenewRequest) (out Enrolled, err error) {
	const op = "renew a device"
	at, term, err := e.devicesAt(access.DeviceIssuer{}.URL(r.Issuer))
	if err != nil {
		return out, err
	}
	held, dues, err := e.possess(op, r.Evidence, secret.Text{})
	if err != nil {
		return out, err
	}
	next := held
	if r.Next != "" {
		var more []admission.Due
		second := r.Evidence
		second.Proof = r.Next
		if next, more, err = e.possess(op, second, secret.New(r.Evidence.Proof)); err != nil {
			return out, err
		}
		dues = append(dues, more...)
	}
	// By the key, and not by the name, whose renewals any stranger could use up.
	if err := e.renewals.Take(at.URL, held.Key, e.now()); err != nil {
		return out, err
	}
	now := e.now()
	err = e.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		if err := e.guard.Settle(tx, dues); err != nil {
			return err
		}
		d, err := tx.Device(at.URL, r.Name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err != nil || !d.Good(now) || d.Thumbprint != held.Key {
			return stranger(op, "there is no such device with this key, or it counts no more")
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

// stranger is the refusal of somebody who is not known yet.
func stranger(op, public string) error {
	return fault.New(fault.Unauthenticated, op, public)
}

// asStranger does what somebody asks for who has no evidence yet. What fails is counted, and by their address: it
// makes no entries of the ledger, which strangers could fill.
func (e *Register) asStranger(step string, from admission.Origin, do func() error) error {
	who := block(from.SourceIP)
	err := e.strangers.Used("", who, e.now())
	if err == nil {
		err = do()
		refusal, again := errors.AsType[*accesstoken.Refusal](err)
		if fault.Is(err, fault.Unauthenticated) && (!again || refusal.Code != accesstoken.UseNonce) {
			_ = e.strangers.Take("", who, e.now()) // it only counts
		}
	}
	e.enrolments.WithLabelValues(step, fault.Outcome(err)).Inc()
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
