package oidc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

func TestEveryAlgorithmVerifiesAndFitsItsKeyAlone(t *testing.T) {
	all := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	for _, algorithm := range all {
		w := newWorld(t, algorithm)
		if _, err := w.verify(w.github()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		key := w.issuer.Key()
		for _, other := range all {
			if other == algorithm {
				continue
			}
			header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, other, key.ID)
			payload, _ := json.Marshal(w.issuer.GitHub(testissuer.Run{Audience: audience}))
			_, err := w.verify(secret.New(key.Sign([]byte(header), payload)))
			why(t, err, oidc.WhyAlgorithm)
		}
	}
}

// why fails unless err is a rejection of that kind.
func why(t *testing.T, err error, want oidc.Why) {
	t.Helper()
	rejection, ok := errors.AsType[*oidc.Rejection](err)
	if !ok || rejection.Why != want || !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v; want a rejection for %s", err, want)
	}
}

func TestTheIssuersListsNarrowWhatIsAccepted(t *testing.T) {
	w := newWorld(t, "RS256", func(c *oidc.Config) { c.Algorithms, c.Types = []string{"ES256"}, []string{"at+jwt"} })
	_, err := w.verify(w.github())
	why(t, err, oidc.WhyAlgorithm)
	w = newWorld(t, "RS256", func(c *oidc.Config) { c.Types = []string{"at+jwt"} })
	_, err = w.verify(w.github())
	why(t, err, oidc.WhyType)
	key := w.issuer.Key()
	payload, _ := json.Marshal(w.issuer.GitHub(testissuer.Run{Audience: audience}))
	for header, good := range map[string]bool{
		`{"alg":"RS256","kid":"` + key.ID + `","typ":"at+jwt"}`:             true,
		`{"alg":"RS256","kid":"` + key.ID + `","typ":"application/AT+JWT"}`: true,
		`{"alg":"RS256","kid":"` + key.ID + `"}`:                            false,
	} {
		if _, err := w.verify(secret.New(key.Sign([]byte(header), payload))); (err == nil) != good {
			t.Errorf("%s: got %v", header, err)
		}
	}
	if w.issuer.Fetches().Other != 0 {
		t.Error("something else was fetched")
	}
}

func TestRejectionsSayWhy(t *testing.T) {
	w := newWorld(t, "ES256")
	now := w.Now().Unix()
	for _, c := range []struct {
		claims map[string]any
		want   oidc.Why
	}{
		{map[string]any{"iss": "https://other.example"}, oidc.WhyIssuer},
		{map[string]any{"aud": "https://other.example"}, oidc.WhyAudience},
		{map[string]any{"sub": "a\x00b"}, oidc.WhySubject},
		{map[string]any{"exp": now - 100, "iat": now - 200}, oidc.WhyExpired},
		{map[string]any{"nbf": now + 100}, oidc.WhyEarly},
		{map[string]any{"iat": now + 100}, oidc.WhyEarly},
		{map[string]any{"iat": now - 3*3600}, oidc.WhyAge},
		{map[string]any{"exp": now + 86400*2}, oidc.WhyAge},
		{map[string]any{"cnf": map[string]any{}}, oidc.WhyType},
		{map[string]any{"exp": nil}, oidc.WhyMalformed},
	} {
		claims := w.issuer.GitHub(testissuer.Run{Audience: audience})
		for name, value := range c.claims {
			claims[name] = value
		}
		_, err := w.verify(secret.New(w.issuer.Token(without(claims))))
		why(t, err, c.want)
	}
}

// without makes a nil claim a missing one, which Token would fill in.
func without(claims map[string]any) map[string]any {
	for name, value := range claims {
		if value == nil {
			claims[name] = "missing"
		}
	}
	return claims
}

func TestGitHubsClaimsReachThePrincipal(t *testing.T) {
	w := newWorld(t, "RS256")
	p, err := w.verify(secret.New(w.issuer.Token(w.issuer.GitHub(testissuer.Run{Audience: audience, Environment: "production"}))))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "github:repo:acme/orders:environment:production" {
		t.Errorf("got %s", p.Name())
	}
	for _, name := range strings.Fields("repository repository_id repository_owner repository_owner_id ref ref_type sha workflow workflow_ref job_workflow_ref run_id run_number run_attempt actor actor_id environment event_name runner_environment jti") {
		if text, ok := p.Claims[name].(string); !ok || text == "" {
			t.Errorf("claim %s is %v", name, p.Claims[name])
		}
	}
}

func TestAPrivateAuthorityIsTrustedAlone(t *testing.T) {
	c := identitytest.NewClock()
	issuer := startIssuer(t, testissuer.Options{Now: c.Now, Algorithm: "ES256", TLS: true})
	other := startIssuer(t, testissuer.Options{Now: c.Now, Algorithm: "ES256", TLS: true})
	token := secret.New(issuer.Token(map[string]any{"sub": "s", "aud": audience}))
	for name, ca := range map[string][]byte{"its own": issuer.CA(), "another": other.CA(), "the system's": nil} {
		v, err := oidc.New(oidc.Config{Name: "private", URL: issuer.URL(), Audience: audience, CA: ca, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(context.Background(), token)
		if (err == nil) != (name == "its own") || errors.Is(err, identity.ErrRejected) {
			t.Errorf("authority is %s: got %v", name, err)
		}
	}
}

func TestConfigurationsThatCannotBeSafeAreRefused(t *testing.T) {
	good := oidc.Config{Name: "github", URL: "https://issuer.example", Audience: audience, Now: identitytest.NewClock().Now}
	if _, err := oidc.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*oidc.Config){
		"no name":                      func(c *oidc.Config) { c.Name = "" },
		"a colon in the name":          func(c *oidc.Config) { c.Name = "a:b" },
		"no URL":                       func(c *oidc.Config) { c.URL = "" },
		"http to another machine":      func(c *oidc.Config) { c.URL = "http://issuer.example" },
		"http to what looks like ours": func(c *oidc.Config) { c.URL = "http://localhost.example" },
		"a user in the URL":            func(c *oidc.Config) { c.URL = "https://u:p@issuer.example" },
		"a query":                      func(c *oidc.Config) { c.URL = "https://issuer.example?x=1" },
		"an empty query":               func(c *oidc.Config) { c.URL = "https://issuer.example?" },
		"a fragment":                   func(c *oidc.Config) { c.URL = "https://issuer.example#" },
		"a file":                       func(c *oidc.Config) { c.URL = "file:///etc/passwd" },
		"no audience":                  func(c *oidc.Config) { c.Audience = "" },
		"no clock":                     func(c *oidc.Config) { c.Now = nil },
		"algorithm none":               func(c *oidc.Config) { c.Algorithms = []string{"none"} },
		"an HMAC":                      func(c *oidc.Config) { c.Algorithms = []string{"RS256", "HS256"} },
		"too much leeway":              func(c *oidc.Config) { c.Leeway = time.Hour },
		"a negative age":               func(c *oidc.Config) { c.MaxAge = -1 },
		"a floor above the age":        func(c *oidc.Config) { c.Floor = time.Hour },
		"authorities that are none":    func(c *oidc.Config) { c.CA = []byte("x") },
		"no authorities at all":        func(c *oidc.Config) { c.CA = []byte{} },
		"a client and authorities":     func(c *oidc.Config) { c.Client, c.CA = http.DefaultClient, []byte("x") },
	} {
		config := good
		change(&config)
		if _, err := oidc.New(config); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestNoPieceOfATokenReachesErrorsOrLogs(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, "ES256", func(c *oidc.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	token := w.github().Reveal()
	part := strings.Split(token, ".")
	text := ""
	for _, bad := range []string{token + "x", part[0] + "." + part[1] + ".AAAA", part[1] + "." + part[0] + "." + part[2], part[2]} {
		_, err := w.verify(secret.New(bad))
		text += fmt.Sprintf("%v %+v %#v", err, err, err)
	}
	w.issuer.SetFaults(testissuer.Faults{Down: true})
	w.Advance(time.Hour)
	if _, err := w.verify(secret.New(token)); err == nil {
		t.Error("an expired token is accepted")
	}
	for _, segment := range part {
		if strings.Contains(text+log.String(), segment) {
			t.Errorf("a segment is shown: %s %s", text, log.String())
		}
	}
	if !strings.Contains(log.String(), "issuer=github") {
		t.Errorf("nothing is logged about the issuer: %s", log.String())
	}
}
