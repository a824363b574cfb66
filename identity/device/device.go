// Package device verifies tokens that devices sign themselves, each with the key that it was enrolled with.
//
// The form is that of RFC 7523: `iss` is the issuer's URL, `sub` the device's name, `aud` us, `jti` is there, and `exp`
// is five minutes after `iat` at the most; `kid` is the thumbprint of the key (RFC 7638). A [Directory] says which
// devices there are, and is asked each time: one that was removed, or whose term is over, is rejected at once.
//
// The package promises that a principal's claims are what the directory has, and never what the device says of itself.
// It imports identity, api, secret and go-jose, and knows neither store nor server.
package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

const (
	// MaxLife is how long a token may be meant to live.
	MaxLife = 5 * time.Minute
	// Leeway is how far a device's clock may be off.
	Leeway = 30 * time.Second
)

// Prefix begins the URLs of the issuers of devices.
const Prefix = "urn:daypass:devices:"

// URL is the URL of an issuer of devices: what tells it from every other, for ever.
func URL(issuer string) string { return Prefix + issuer }

// ErrUnknown says that there is no such device.
var ErrUnknown = errors.New("there is no such device")

// Device is what a directory knows of one.
type Device struct {
	Name       string
	Thumbprint string // of the key (RFC 7638, SHA-256)
	Key        []byte // the public key as a JWK
	Labels     map[string]string
	EnrolledAt time.Time
	Until      time.Time // the end of its term
}

// Directory knows the devices of one issuer.
type Directory interface {
	// Device returns a device that counts. The error is [ErrUnknown] where there is none, or where it was removed.
	Device(ctx context.Context, name string) (Device, error)
}

// Config is one issuer. All fields are required.
type Config struct {
	Name      string // in the access configuration, such as "edge"
	Audience  string // exactly the `aud` of its tokens: our own URL
	Directory Directory
	Now       func() time.Time
}

// Verifier verifies tokens of one issuer's devices.
type Verifier struct {
	cfg Config
	url string
}

var _ identity.Verifier = (*Verifier)(nil)

// names are the names of issuers; no colon, so that a principal's name is unambiguous.
const names = `^[a-z0-9-]{1,40}$`

// New returns a verifier. It asks nobody anything.
func New(cfg Config) (*Verifier, error) {
	if !regexp.MustCompile(names).MatchString(cfg.Name) {
		return nil, fmt.Errorf("issuer %q: a name is 1 to 40 of a-z, 0-9 and -", cfg.Name)
	}
	if cfg.Audience == "" || cfg.Directory == nil || cfg.Now == nil {
		return nil, fmt.Errorf("issuer %q: want an audience, a directory and a clock", cfg.Name)
	}
	return &Verifier{cfg, URL(cfg.Name)}, nil
}

// Verify returns the device that signed a token. See [Rejection] for tokens that are bad.
func (v *Verifier) Verify(ctx context.Context, evidence secret.Text) (identity.Principal, error) {
	p, err := v.verify(ctx, evidence)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify a token for issuer %q: %w", v.cfg.Name, err)
	}
	return p, nil
}

func (v *Verifier) verify(ctx context.Context, evidence secret.Text) (p identity.Principal, err error) {
	t, err := parse(evidence.Reveal())
	if err != nil {
		return p, err
	}
	now := v.cfg.Now()
	if err := v.check(t, now); err != nil { // before anybody is asked: most forgeries end here
		return p, err
	}
	d, err := v.cfg.Directory.Device(ctx, t.subject)
	switch {
	case errors.Is(err, ErrUnknown):
		return p, identity.Reject(WhyDevice, "there is no device %s", identity.Quote(t.subject))
	case err != nil:
		return p, fmt.Errorf("look up device %s: %w", identity.Quote(t.subject), err)
	case d.Name != t.subject || d.Thumbprint != t.keyID:
		return p, identity.Reject(WhyKey, "the key is not that of device %s", identity.Quote(t.subject))
	case !now.Before(d.Until):
		return p, identity.Reject(WhyDevice, "the term of device %s ended at %s", identity.Quote(t.subject), utc(d.Until))
	}
	if err := t.signedBy(d.Key); err != nil {
		return p, err
	}
	return identity.Principal{
		Issuer: v.cfg.Name, IssuerURL: v.url, Subject: d.Name, Claims: d.claims(),
		TokenID: t.id, IssuedAt: t.issued, ExpiresAt: t.expires,
	}, nil
}

// claims are what policies may ask of a device.
func (d Device) claims() map[string]any {
	labels := make([]any, 0, len(d.Labels))
	for _, name := range slices.Sorted(maps.Keys(d.Labels)) {
		labels = append(labels, name+"="+d.Labels[name])
	}
	return map[string]any{"name": d.Name, "thumbprint": d.Thumbprint, "labels": labels, "enrolled_at": d.EnrolledAt.Unix()}
}
