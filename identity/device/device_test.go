package device_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/device"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/secret"
)

const audience = "https://daypass.example.com"

// world is one device with a key, which is in the directory under every name: names are chosen by those who enrol it.
type world struct {
	mu     sync.Mutex // guards now and down
	now    time.Time
	down   bool
	signer crypto.Signer
	alg    jose.SignatureAlgorithm
	known  device.Device
	only   string // the one name that there is; empty: every one
}

func newWorld(t testing.TB, alg jose.SignatureAlgorithm) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), alg: alg}
	var err error
	switch alg {
	case jose.ES256:
		w.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, w.signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		w.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.JSONWebKey{Key: w.signer.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	print, err := device.CheckKey(jwk)
	if err != nil {
		t.Fatal(err)
	}
	w.known = device.Device{Thumbprint: print, Key: jwk, Labels: map[string]string{"site": "berlin", "line": "3"}, EnrolledAt: w.now, Until: w.now.Add(30 * 24 * time.Hour)}
	return w
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) Advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Device implements [device.Directory].
func (w *world) Device(_ context.Context, name string) (device.Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return device.Device{}, errors.New("the store is not available")
	}
	if w.only != "" && name != w.only {
		return device.Device{}, device.ErrUnknown
	}
	d := w.known
	d.Name = name
	return d, nil
}

func (w *world) verifier(t testing.TB) *device.Verifier {
	v, err := device.New(device.Config{Name: "edge", Audience: audience, Directory: w, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sign signs as RFC 7518 has it.
func (w *world) sign(input []byte) []byte {
	digest := sha256.Sum256(input)
	switch key := w.signer.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		if err != nil {
			panic(err)
		}
		return signature
	}
	return ed25519.Sign(w.signer.(ed25519.PrivateKey), input)
}

// token is a good one, changed as said; nil takes a claim away.
func (w *world) token(changes map[string]any) string {
	now := w.Now().Unix()
	claims := map[string]any{"iss": device.URL("edge"), "sub": "pump-7", "aud": audience, "iat": now, "exp": now + 60, "jti": "1"}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	header := `{"alg":"` + string(w.alg) + `","kid":"` + w.known.Thumbprint + `","typ":"JWT"}`
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(text)
	return input + "." + base64.RawURLEncoding.EncodeToString(w.sign([]byte(input)))
}

func TestVerifierKeepsTheContractWithEveryKindOfKey(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256} {
		t.Run(string(alg), func(t *testing.T) {
			identitytest.Run(t, func(t *testing.T) *identitytest.Fixture {
				w := newWorld(t, alg)
				return &identitytest.Fixture{
					Verifier: w.verifier(t), Name: "edge", URL: device.URL("edge"), Audience: audience, Subject: "acme-pump-7",
					OwnClaims: true, TokenIDs: true,
					Now: w.Now, Advance: w.Advance, Leeway: device.Leeway, MaxAge: device.MaxLife - time.Second,
					Key: func() identitytest.Key {
						return identitytest.Key{ID: w.known.Thumbprint, Algorithm: string(alg), Public: w.signer.Public(), Sign: w.sign}
					},
					Fetches: func() int { return 0 },
				}
			})
		})
	}
}

func TestAPrincipalIsWhatTheDirectoryHasAndNotWhatTheDeviceSays(t *testing.T) {
	w := newWorld(t, jose.ES256)
	p, err := w.verifier(t).Verify(t.Context(), secret.New(w.token(map[string]any{"labels": []string{"site=paris"}, "name": "root", "admin": true})))
	if err != nil {
		t.Fatal(err)
	}
	labels, _ := p.Claims["labels"].([]any)
	if p.Name() != "edge:pump-7" || p.TokenID != "1" || p.Claims["name"] != "pump-7" || p.Claims["thumbprint"] != w.known.Thumbprint ||
		!slices.Equal(labels, []any{"line=3", "site=berlin"}) || p.Claims["admin"] != nil || p.Claims["enrolled_at"] != w.known.EnrolledAt.Unix() {
		t.Errorf("got %+v", p)
	}
}

func TestADeviceThatDoesNotCountIsRejectedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		why    device.Why
	}{
		"it was removed":        {func(w *world) { w.only = "pump-8" }, device.WhyDevice},
		"its term is over":      {func(w *world) { w.known.Until = w.now }, device.WhyDevice},
		"it has another key":    {func(w *world) { w.known.Thumbprint = "another" }, device.WhyKey},
		"its key is another's":  {func(w *world) { w.known.Key = newWorld(t, jose.ES256).known.Key }, device.WhySignature},
		"its key goes with RSA": {func(w *world) { w.known.Key = newWorld(t, jose.RS256).known.Key }, device.WhyKey},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, jose.ES256)
			v, text := w.verifier(t), secret.New(w.token(nil))
			if _, err := v.Verify(t.Context(), text); err != nil {
				t.Fatal(err)
			}
			c.change(w)
			_, err := v.Verify(t.Context(), text)
			if got, ok := errors.AsType[*device.Rejection](err); !ok || got.Why != c.why || !errors.Is(err, identity.ErrRejected) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWithoutItsDirectoryNobodyCanTell(t *testing.T) {
	w := newWorld(t, jose.ES256)
	w.down = true
	if _, err := w.verifier(t).Verify(t.Context(), secret.New(w.token(nil))); err == nil || errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v", err)
	}
	if _, err := w.verifier(t).Verify(t.Context(), secret.New(w.token(map[string]any{"aud": "https://other.example"}))); !errors.Is(err, identity.ErrRejected) {
		t.Errorf("a token for somebody else: %v", err)
	}
}

func TestATokenThatLivesTooLongOrHasNoIDIsRejected(t *testing.T) {
	w := newWorld(t, jose.ES256)
	for name, changes := range map[string]map[string]any{
		"six minutes": {"exp": w.now.Unix() + 301}, "no ID": {"jti": nil}, "an empty ID": {"jti": ""}, "a long ID": {"jti": strings.Repeat("j", 257)},
	} {
		if _, err := w.verifier(t).Verify(t.Context(), secret.New(w.token(changes))); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysThatNoDeviceMayHaveAreRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"RSA with 1,024 bits": &weak.PublicKey, "P-384": &other.PublicKey, "a private key": private, "a symmetric key": []byte("0123456789012345")} {
		jwk, err := jose.JSONWebKey{Key: key}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := device.CheckKey(jwk); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzNobodySpeaksForADeviceWithoutItsKey(f *testing.F) {
	w := newWorld(f, jose.EdDSA) // of which no signature has a second spelling
	good := w.token(nil)
	v := w.verifier(f)
	f.Add(good)
	f.Add("..")
	f.Add(newWorld(f, jose.EdDSA).token(nil))
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, text string) {
		_, err := v.Verify(t.Context(), secret.New(text))
		if (err == nil) != (text == good) || err != nil && !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
