package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/internal/trust"
	"github.com/daypass/daypass/target"
)

func jwks(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWhatOutsidersReadIsComparedWithWhatTheServerPublishes(t *testing.T) {
	generate := func(bits int) *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private := generate(2048)
	a := jose.JSONWebKey{KeyID: "a", Algorithm: "RS256", Use: "sig", Key: private.Public()}
	b := jose.JSONWebKey{KeyID: "b", Algorithm: "ES256", Use: "sig", Key: curve.Public()}
	weak := jose.JSONWebKey{KeyID: "w", Algorithm: "RS256", Use: "sig", Key: generate(1024).Public()}
	other := a
	other.Key = generate(2048).Public()
	secret := a
	secret.Key = private
	for name, c := range map[string]struct {
		outside, server []byte
		change          func(*trust.Federation)
		want            string
	}{
		"the same":                       {jwks(t, a, b), jwks(t, b, a), nil, ""},
		"a key that outsiders lack":      {jwks(t, a), jwks(t, a, b), nil, `do not find key "b"`},
		"a key that is nobody's":         {jwks(t, a, b), jwks(t, a), nil, `find key "b", which the server does not publish`},
		"another key under the same ID":  {jwks(t, other), jwks(t, a), nil, "another key under the ID"},
		"a short key":                    {jwks(t, weak), jwks(t, weak), nil, "1024 bits"},
		"a private key":                  {jwks(t, secret), jwks(t, a), nil, "not public"},
		"no keys":                        {[]byte(`{"keys":[]}`), jwks(t, a), nil, "no key"},
		"no JSON":                        {[]byte(`<html>`), jwks(t, a), nil, "no key set"},
		"an algorithm that nobody signs": {jwks(t, b), jwks(t, b), nil, "no published key is for RS256"},
		"ES256 for Entra":                {jwks(t, b), jwks(t, b), func(f *trust.Federation) { f.Algorithm, f.Audience = "ES256", "api://AzureADTokenExchange" }, "Entra takes RS256"},
	} {
		f := deploy()
		if c.change != nil {
			c.change(&f)
		}
		found := f.Compare(trust.Published{Keys: c.outside}, trust.Published{Keys: c.server})
		text := ""
		for _, finding := range found {
			if finding.Severity != target.Problem || finding.Fix == "" {
				t.Errorf("%s: %+v", name, finding)
			}
			text += finding.Message + "\n"
		}
		if c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: found %q, want %q", name, text, c.want)
		}
	}
}

func TestAClockThatIsWrongIsToldBeforeACloudRefusesWhatItSigns(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]string{
		0: "", 30 * time.Second: "", -30 * time.Second: "",
		31 * time.Second:  "warning: the clock of the server that signs is 31s ahead of the cloud's",
		-2 * time.Minute:  "warning: the clock of the server that signs is 2m0s behind the cloud's",
		10 * time.Minute:  "problem: the clock of the server that signs is 10m0s ahead of the cloud's",
		-10 * time.Minute: "problem: the clock of the server that signs is 10m0s behind the cloud's",
	} {
		got := ""
		for _, f := range trust.Clocks(now.Add(ahead), now, "the cloud's") {
			got += string(f.Severity) + ": " + f.Message
		}
		if !strings.HasPrefix(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", ahead, got, want)
		}
	}
}
