package enrolment

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

const (
	// MaxInvitation is how long an enrolment token may be good.
	MaxInvitation     = issuer.MaxTTL
	defaultInvitation = time.Hour

	enrolmentType = "enrol+jwt"
	maxLabels     = 16
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

// Invite gives an administrator a token with which one device can enrol, once.
func (e *Register) Invite(ctx context.Context, c admission.Caller, r InviteRequest) (out Invitation, err error) {
	who, err := e.guard.Administer(ctx, c, policy.Configure)
	if err != nil {
		return out, err
	}
	at, err := checkInvitation(who.View, &r)
	if err != nil {
		return out, err
	}
	now := e.now()
	claims := map[string]any{"devices": at.URL, "labels": r.Labels, "by": who.Name, "made": now.UnixMicro()}
	if r.Thumbprint != "" {
		claims["cnf"] = map[string]string{"jkt": r.Thumbprint}
	}
	text, err := e.signer.Sign(ctx, issuer.Token{Type: enrolmentType, Algorithm: issuer.ES256, ID: rand.Text(), Subject: r.Name,
		Audience: []string{e.signer.URL()}, TTL: r.TTL, Claims: claims})
	if err != nil {
		return out, err
	}
	out = Invitation{Token: text, Issuer: at.Name, Name: r.Name, ExpiresAt: now.Add(r.TTL).Truncate(time.Second)}
	err = e.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceInvited, Device: at.Name + ":" + r.Name, Key: r.Thumbprint, Until: out.ExpiresAt})
		return err
	})
	if err != nil {
		return Invitation{}, err
	}
	who.Origin.Log(e.log).Info("an enrolment token was made", "issuer", at.Name, "device", r.Name, "by", who.Name, "until", out.ExpiresAt)
	return out, nil
}

// checkInvitation refuses what cannot be a device, and fills in what was left open.
func checkInvitation(view *admission.View, r *InviteRequest) (at access.Issuer, err error) {
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

// readInvitation reads an enrolment token.
func (e *Register) readInvitation(ctx context.Context, token secret.Text) (said invited, err error) {
	const op = "read an enrolment token"
	claims, err := e.signer.Verify(ctx, token, enrolmentType)
	switch {
	case errors.Is(err, issuer.ErrRejected):
		return said, stranger(op, "the enrolment token is not one of ours, or is no longer good (RFC 7519 §7.2 and §4.1.4)")
	case err != nil:
		return said, err
	}
	text, err := json.Marshal(claims)
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil || claims["aud"] != e.signer.URL() || said.ID == "" || !deviceName.MatchString(said.Name) {
		return said, stranger(op, "the enrolment token lacks what ours have (RFC 7519 §4)")
	}
	return said, nil
}

// outlived refuses an enrolment token that is older than the removal of the device that had its name: whoever removed it
// takes its name back, and need not know which tokens for it are still about.
func (e *Register) outlived(tx *store.Tx, issuerURL string, said invited) error {
	before, err := tx.Device(issuerURL, said.Name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil && time.UnixMicro(said.Made).Before(before.RemovedAt) {
		err = stranger("enrol a device", "the enrolment token was made before the device of that name was removed (RFC 7519 §4.1.6)")
	}
	return err
}
