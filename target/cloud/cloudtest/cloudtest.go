// Package cloudtest holds what tests of the targets gcp and azure share: an issuer that is Daypass's own, what a broker's
// store remembers of leases, faults for the stand-ins of both clouds, and a suite that crosses every request of a grant and
// of a revocation with every fault.
//
// It is for tests. It imports no kind of target.
package cloudtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Instance is the installation of tests.
const Instance = "abc234"

// IssuerURL is the URL of the issuer of tests.
const IssuerURL = issuertest.URL

// Clock is a time that tests move. Its methods may be called concurrently.
type Clock struct {
	mu  sync.Mutex // guards what follows
	now time.Time
}

// NewClock returns a clock that begins at a time.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now is its time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass moves it on.
func (c *Clock) Pass(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// Keys makes an issuer's keys once, for all the worlds of a test.
func Keys(t testing.TB) func(*Clock) *issuer.Issuer {
	t.Helper()
	keys := issuertest.NewKeys(t)
	return func(c *Clock) *issuer.Issuer { return keys.Open(issuer.Config{Now: c.Now}) }
}

// Verifier verifies tokens of ours as a stranger does: by the published keys.
type Verifier struct {
	Issuer *issuer.Issuer
	Now    func() time.Time
}

// Verify returns the subject and the ID of a token for an audience.
func (v Verifier) Verify(text, audience string) (subject, id string, err error) {
	claims, err := issuertest.Verify(context.Background(), v.Issuer, text, audience, v.Now(), jose.RS256) // Entra takes no other
	subject, _ = claims["sub"].(string)
	id, _ = claims["jti"].(string)
	return subject, id, err
}

// Book is what the store of a broker knows of leases. Its methods may be called concurrently.
type Book struct {
	mu     sync.Mutex // guards what follows
	leases map[string]cloud.Held
}

// NewBook returns one that knows nothing.
func NewBook() *Book { return &Book{leases: map[string]cloud.Held{}} }

// Held tells of a lease.
func (b *Book) Held(_ context.Context, lease string) (cloud.Held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leases[lease], nil
}

// Until tells until when the credential of a lease lives; the zero time where none was handed out.
func (b *Book) Until(_ context.Context, lease string) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.leases[lease]; h.HandedOut {
		return h.Until, nil
	}
	return time.Time{}, nil
}

// Forget is what a store does that was restored from before a lease.
func (b *Book) Forget(lease string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.leases, lease)
}

// Put writes what is known of a lease.
func (b *Book) Put(lease string, h cloud.Held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leases[lease] = h
}

// record writes that a lease was asked for or, with handedOut, that its credential is in somebody's hands.
func (b *Book) record(g target.Grant, handedOut bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.leases[g.Lease]
	if h.Rights == nil || handedOut && !h.HandedOut {
		h.Rights, h.Until = g.Rights, now.Add(g.TTL)
	}
	h.HandedOut = h.HandedOut || handedOut
	b.leases[g.Lease] = h
}

// Config is what targets need in tests.
func Config(ours *issuer.Issuer, book *Book, clock *Clock) cloud.Config {
	return cloud.Config{
		Instance: Instance, Name: "acme", Issuer: IssuerURL, Now: clock.Now, Until: book.Until, Lease: book.Held,
		Sign: func(ctx context.Context, o cloud.Order) (secret.Text, error) {
			return ours.Sign(ctx, issuer.Token{ID: o.ID, Algorithm: issuer.RS256, Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL})
		},
	}
}

// Tokens and Principals are targets whose grants are in a book before and after, as a broker's are in its store.
type (
	// Tokens is a [cloud.Tokens] beside a book.
	Tokens struct {
		*cloud.Tokens
		Book  *Book
		Clock *Clock
	}
	// Principals is a [cloud.Principals] beside a book.
	Principals struct {
		*cloud.Principals
		Book  *Book
		Clock *Clock
	}
)

// Grant grants, and keeps the book.
func (t Tokens) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	return t.Book.around(ctx, g, t.Clock, t.Tokens.Grant)
}

// Grant grants, and keeps the book.
func (p Principals) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	return p.Book.around(ctx, g, p.Clock, p.Principals.Grant)
}

func (b *Book) around(ctx context.Context, g target.Grant, clock *Clock, grant func(context.Context, target.Grant) (target.Credential, error)) (target.Credential, error) {
	if target.CheckLease(g.Lease) == nil && len(g.Rights) > 20 {
		b.record(g, false, clock.Now())
	}
	c, err := grant(ctx, g)
	if err == nil {
		b.record(g, true, clock.Now())
	}
	return c, err
}
