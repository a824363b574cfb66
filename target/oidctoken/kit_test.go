package oidctoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/oidctoken"
	"github.com/daypass/daypass/target/targettest"
)

// desk is a target, its issuer, a clock, and a service that trusts the issuer.
type desk struct {
	t      testing.TB
	issuer *issuer.Issuer
	target *oidctoken.Target

	mu     sync.Mutex // guards what follows
	now    time.Time
	leases map[string]time.Time // until when the newest token of a lease lives, as the store of a broker remembers
}

const (
	issuerURL = issuertest.URL
	service   = "sts.example.com"
)

func newDesk(t testing.TB) *desk { return openDesk(t, issuertest.NewKeys(t)) }

func openDesk(t testing.TB, keys *issuertest.Keys) *desk {
	t.Helper()
	d := &desk{t: t, now: time.Now(), leases: map[string]time.Time{}}
	d.issuer = keys.Open(issuer.Config{Algorithm: issuer.ES256, Now: d.clock})
	var err error
	d.target, err = oidctoken.New(oidctoken.Config{Instance: "abc234", Issuer: issuerURL, Sign: d.sign, Until: d.until, Now: d.clock})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *desk) sign(ctx context.Context, o oidctoken.Order) (secret.Text, error) {
	d.mu.Lock()
	d.leases[strings.TrimPrefix(o.ID, "dp_abc234_")] = d.now.Add(o.TTL)
	d.mu.Unlock()
	return d.issuer.Sign(ctx, issuer.Token{ID: o.ID, Algorithm: issuer.Algorithm(o.Algorithm), Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL, Claims: o.Claims})
}

func (d *desk) until(_ context.Context, lease string) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leases[lease], nil
}

// accept is the service: it takes tokens of the issuer for an audience, and returns what they say.
func (d *desk) accept(c target.Credential, audience string) (map[string]any, error) {
	return issuertest.Verify(d.t.Context(), d.issuer, c.Secrets["token"].Reveal(), audience, d.clock(), jose.RS256, jose.ES256)
}

// grant makes a token for a holder of a role.
func (d *desk) grant(rights string, holder target.Holder) (target.Credential, error) {
	return d.target.Grant(d.t.Context(), target.Grant{
		Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(rights), TTL: time.Hour, Holder: holder,
	})
}

// subject is the subject of a token that the service accepted.
func (d *desk) subject(rights string, holder target.Holder) string {
	d.t.Helper()
	credential, err := d.grant(rights, holder)
	if err != nil {
		d.t.Fatalf("grant: %v", err)
	}
	claims, err := d.accept(credential, service)
	if err != nil {
		d.t.Fatalf("the service: %v", err)
	}
	if claims["sub"] != credential.Attributes["subject"] {
		d.t.Errorf("the token is for %v, the credential says %v", claims["sub"], credential.Attributes["subject"])
	}
	return claims["sub"].(string)
}

// refusal is the text that a holder is told who gets no token.
func (d *desk) refusal(rights string, holder target.Holder) string {
	d.t.Helper()
	_, err := d.grant(rights, holder)
	refusal, ok := errors.AsType[*target.RefusalError](err)
	if !ok || !errors.Is(err, target.ErrNotDone) {
		d.t.Fatalf("got %v, want a refusal", err)
	}
	return refusal.Text
}

func rights(t testing.TB, subject string) string {
	t.Helper()
	text, err := json.Marshal(oidctoken.Rights{Audience: service, Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func holder(claims map[string]any) target.Holder {
	return target.Holder{Issuer: "github", IssuerURL: "https://token.actions.githubusercontent.com", Subject: "repo:acme/orders:ref:refs/heads/main", Claims: claims, Run: "17/2"}
}
