package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/dpop"
)

const where = "https://daypass.example/oauth/token"

func now() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }

func verifier(nonce bool, at time.Time) *dpop.Verifier {
	return dpop.NewVerifier(dpop.Config{Key: []byte(strings.Repeat("k", 32)), Nonce: nonce, Now: func() time.Time { return at }})
}

func prover(t testing.TB) *dpop.Prover {
	p, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAProofIsForOneRequestAndNoOther(t *testing.T) {
	v, p := verifier(true, now()), prover(t)
	request := dpop.Request{Method: "POST", URL: where, Token: "at"}
	proof, err := p.Prove(request, v.Nonce(), now())
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(proof, request)
	if err != nil || got.Thumbprint != p.Thumbprint() || len(got.ID) < 26 || !got.Until.After(now()) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, other := range map[string]dpop.Request{
		"another method": {Method: "GET", URL: where, Token: "at"},
		"another path":   {Method: "POST", URL: "https://daypass.example/oauth/revoke", Token: "at"},
		"another host":   {Method: "POST", URL: "https://evil.example/oauth/token", Token: "at"},
		"another scheme": {Method: "POST", URL: "http://daypass.example/oauth/token", Token: "at"},
		"another token":  {Method: "POST", URL: where, Token: "au"},
		"no token":       {Method: "POST", URL: where},
	} {
		if _, err := v.Verify(proof, other); !errors.Is(err, dpop.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Verify(proof, dpop.Request{Method: "POST", URL: where + "?a=b#c", Token: "at"}); err != nil {
		t.Errorf("query and fragment do not count: %v", err)
	}
}

func TestANonceIsOursAndYoung(t *testing.T) {
	v, p := verifier(true, now()), prover(t)
	r := dpop.Request{Method: "POST", URL: where}
	stranger := dpop.NewVerifier(dpop.Config{Key: []byte(strings.Repeat("x", 32)), Now: now})
	for name, nonce := range map[string]string{
		"none":              "",
		"of somebody else":  stranger.Nonce(),
		"too old":           verifier(true, now().Add(-5*time.Minute-time.Second)).Nonce(),
		"of the future":     verifier(true, now().Add(time.Minute)).Nonce(),
		"cut":               v.Nonce()[:20],
		"with another time": "AAAAAGk" + v.Nonce()[7:],
	} {
		proof, err := p.Prove(r, nonce, now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(proof, r); !errors.Is(err, dpop.ErrNonce) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProofIsYoungByItsOwnWord(t *testing.T) {
	p := prover(t)
	r := dpop.Request{Method: "POST", URL: where}
	for _, c := range []struct {
		age  time.Duration
		good bool
	}{{0, true}, {80 * time.Second, true}, {-80 * time.Second, true}, {100 * time.Second, false}, {-100 * time.Second, false}, {24 * time.Hour, false}} {
		proof, err := p.Prove(r, "", now().Add(-c.age))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier(false, now()).Verify(proof, r); (err == nil) != c.good {
			t.Errorf("age %v: %v", c.age, err)
		}
	}
}

// sign makes a proof by hand.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, payload any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestForgedProofsAreRejected(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]any{"jti": "0123456789", "htm": "POST", "htu": where, "iat": now().Unix()}
	with := func(name string, value any) map[string]any {
		out := map[string]any{}
		for k, v := range good {
			out[k] = v
		}
		out[name] = value
		return out
	}
	public := jose.JSONWebKey{Key: &key.PublicKey}
	head := map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": public}
	r := dpop.Request{Method: "POST", URL: where}
	if _, err := verifier(false, now()).Verify(sign(t, jose.ES256, key, head, good), r); err != nil {
		t.Fatalf("the one that the others are made from: %v", err)
	}
	for name, proof := range map[string]string{
		"another type":         sign(t, jose.ES256, key, map[jose.HeaderKey]any{"typ": "JWT", "jwk": public}, good),
		"no key":               sign(t, jose.ES256, key, map[jose.HeaderKey]any{"typ": "dpop+jwt"}, good),
		"the key of another":   sign(t, jose.ES256, key, map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: &other.PublicKey}}, good),
		"a private key":        sign(t, jose.ES256, key, map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: key}}, good),
		"a symmetric key":      sign(t, jose.HS256, []byte(strings.Repeat("s", 32)), map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: []byte(strings.Repeat("s", 32))}}, good),
		"a key to be fetched":  sign(t, jose.ES256, key, map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": public, "jku": "https://evil.example"}, good),
		"a short key":          sign(t, jose.RS256, short, map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: &short.PublicKey}}, good),
		"no jti":               sign(t, jose.ES256, key, head, with("jti", "")),
		"a long jti":           sign(t, jose.ES256, key, head, with("jti", strings.Repeat("x", 300))),
		"a URL that is none":   sign(t, jose.ES256, key, head, with("htu", "/oauth/token")),
		"a time that is none":  sign(t, jose.ES256, key, head, with("iat", "now")),
		"a time before all":    sign(t, jose.ES256, key, head, with("iat", -1)),
		"an ath without token": sign(t, jose.ES256, key, head, with("ath", "x")),
		"none at all":          ("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6Im5vbmUifQ." + base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + "."),
		"too long":             strings.Repeat("a", 5000),
		"nothing":              "",
	} {
		if _, err := verifier(false, now()).Verify(proof, r); !errors.Is(err, dpop.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The example of RFC 9449 §4.1 (Figure 2).
func TestTheExampleOfTheRFCVerifies(t *testing.T) {
	const example = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	v := verifier(false, time.Unix(1562262616, 0))
	got, err := v.Verify(example, dpop.Request{Method: "POST", URL: "https://server.example.com/token"})
	if err != nil || got.ID != "-BwC3ESc6acc2lTc" || got.Thumbprint != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzAStrangersProofNeverPassesForOurs(f *testing.F) {
	p := prover(f)
	r := dpop.Request{Method: "POST", URL: where}
	proof, err := p.Prove(r, "", now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proof)
	f.Add("..")
	v := verifier(false, now())
	f.Fuzz(func(t *testing.T, text string) {
		got, err := v.Verify(text, r)
		if err == nil && got.Thumbprint == p.Thumbprint() && text != proof {
			// The signature of ECDSA covers header and payload; only its own encoding may differ.
			if text[:strings.LastIndex(text, ".")] != proof[:strings.LastIndex(proof, ".")] {
				t.Errorf("another text passes: %q", text)
			}
		}
	})
}
