package identitytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/daypass/daypass/secret"
)

func testGood(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	t.Run("a good token gives its principal", func(t *testing.T) {
		now := f.Now().Unix()
		p := f.accept(t, f.token(nil, map[string]any{"iat": now, "exp": now + 300}))
		if p.Issuer != f.Name || p.IssuerURL != f.URL || p.Subject != f.subject() || p.TokenID != "id-1" {
			t.Errorf("got %+v", p)
		}
		if p.IssuedAt.Unix() != now || p.ExpiresAt.Unix() != now+300 {
			t.Errorf("got issued %v, expires %v", p.IssuedAt, p.ExpiresAt)
		}
	})
	t.Run("claims keep their types", func(t *testing.T) {
		need(t, !f.OwnClaims, "have claims of a token's own")
		payload := strings.TrimSuffix(string(encode(f.claims())), "}") +
			`,"n":7,"max":9223372036854775807,"over":9223372036854775808,"f":1.5,"e":1e3,"b":true,"z":null,"l":["a",2],"o":{"k":{}},"u":"\u00e9\ud83d\ude00"}`
		p := f.accept(t, f.raw(encode(f.header()), []byte(payload)))
		for name, want := range map[string]any{
			"n": int64(7), "max": int64(9223372036854775807), "over": json.Number("9223372036854775808"), "f": json.Number("1.5"),
			"e": json.Number("1e3"), "b": true, "z": nil, "l": []any{"a", int64(2)}, "o": map[string]any{"k": map[string]any{}}, "u": "é😀",
		} {
			if got, ok := p.Claims[name]; !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("claim %s is %T %v, want %T %v", name, got, got, want, want)
			}
		}
	})
	for name, claims := range map[string]map[string]any{
		"one audience in a list is good":          {"aud": []any{f.Audience}},
		"nbf may be missing":                      {"nbf": absent},
		"times may have fractions":                {"iat": float64(f.Now().Unix()) - 0.5, "exp": float64(f.Now().Unix()) + 60.25},
		"a subject of 255 bytes is good":          {"sub": f.subjectOf(255)},
		"a claim may hold what no subject may":    {"note": "a\u202eb\nc"},
		"claims that differ by case are distinct": {"SUB": "other", "Iss": "https://other.example", "AUD": "other"},
	} {
		t.Run(name, func(t *testing.T) { f.accept(t, f.token(nil, claims)) })
	}
	t.Run("jti may be missing", func(t *testing.T) {
		need(t, !f.TokenIDs, "do without token IDs")
		f.accept(t, f.token(nil, map[string]any{"jti": absent}))
	})
	t.Run("a subject in another script is good", func(t *testing.T) {
		need(t, !f.ASCII, "have subjects in other scripts")
		f.accept(t, f.token(nil, map[string]any{"sub": "équipe:データ:ציוות"}))
	})
	t.Run("callers at the same time do not disturb each other", func(t *testing.T) {
		var all sync.WaitGroup
		for n := range 16 {
			all.Go(func() {
				want := fmt.Sprintf("%s-caller-%d", f.subject(), n)
				token := f.token(nil, map[string]any{"sub": want})
				p, err := f.Verifier.Verify(context.Background(), secret.New(token))
				if err != nil || p.Subject != want {
					t.Errorf("got %q, %v; want %q", p.Subject, err, want)
				}
			})
		}
		all.Wait()
	})
}

func testForms(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	good := f.token(nil, nil)
	part := strings.Split(good, ".")
	f.accept(t, good)
	flat := encode(map[string]any{"protected": part[0], "payload": part[1], "signature": part[2]})
	for name, token := range map[string]string{
		"nothing":                                  "",
		"dots":                                     "..",
		"one segment":                              part[0],
		"two segments":                             part[0] + "." + part[1],
		"four segments":                            good + "." + part[2],
		"five segments, as if encrypted":           good + "." + part[2] + "." + part[2],
		"no signature":                             part[0] + "." + part[1] + ".",
		"no payload":                               part[0] + ".." + part[2],
		"no header":                                "." + part[1] + "." + part[2],
		"the JSON form of a JWS":                   string(flat),
		"the general JSON form":                    fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, part[1], part[0], part[2]),
		"a space in front":                         " " + good,
		"a line break behind":                      good + "\n",
		"a line break inside":                      part[0] + "." + part[1][:8] + "\n" + part[1][8:] + "." + part[2],
		"a line break in the signature":            part[0] + "." + part[1] + "." + part[2][:8] + "\r\n" + part[2][8:],
		"padding":                                  good + "=",
		"unused bits that are set":                 setUnusedBits(f),
		"unused bits that are set at the end":      good[:len(good)-1] + next(good[len(good)-1]),
		"bytes that are no base64url":              part[0] + "." + part[1] + "." + "+/" + part[2][2:],
		"the scheme of the header":                 "Bearer " + good,
		"more bytes than a token may have":         f.token(nil, map[string]any{"big": strings.Repeat("x", 17<<10)}),
		"a million dots":                           strings.Repeat(".", 1_000_000),
		"a megabyte":                               strings.Repeat("A", 1<<20) + "." + part[1] + "." + part[2],
		"a NUL":                                    good + "\x00",
		"a header that is an array":                f.raw([]byte(`[]`), encode(f.claims())),
		"a header with something behind it":        f.raw([]byte(string(encode(f.header()))+"{}"), encode(f.claims())),
		"a header that names its algorithm twice":  f.raw([]byte(strings.Replace(string(encode(f.header())), "{", `{"alg":"none",`, 1)), encode(f.claims())),
		"a header that names its key twice":        f.raw([]byte(strings.Replace(string(encode(f.header())), "{", `{"\u006bid":"x",`, 1)), encode(f.claims())),
		"a payload that is an array":               f.raw(encode(f.header()), []byte(`[1]`)),
		"a payload that is a text":                 f.raw(encode(f.header()), []byte(`"x"`)),
		"a payload that is null":                   f.raw(encode(f.header()), []byte(`null`)),
		"a payload that is no JSON":                f.raw(encode(f.header()), []byte(`{"sub":}`)),
		"a payload with something behind it":       f.raw(encode(f.header()), append(encode(f.claims()), `{"sub":"x"}`...)),
		"a payload that names its subject twice":   f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "{", `{"sub":"admin",`, 1))),
		"a payload that hides its second subject":  f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "{", `{"s\u0075b":"admin",`, 1))),
		"a payload with a name twice, deep inside": f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "{", `{"a":[{"b":1,"b":2}],`, 1))),
		"a payload that is not UTF-8":              f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "acme", "ac\xffme", 1))),
		"a payload with half a surrogate pair":     f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "acme", `ac\ud800me`, 1))),
		"a payload with a byte order mark":         f.raw(encode(f.header()), append([]byte("\xef\xbb\xbf"), encode(f.claims())...)),
		"a payload that is nested too deep":        f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "{", `{"a":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+`,`, 1))),
		"a payload with a number out of range":     f.raw(encode(f.header()), []byte(strings.Replace(string(encode(f.claims())), "{", `{"a":1e999999999,`, 1))),
		"a payload with a comment":                 f.raw(encode(f.header()), append([]byte("/* */"), encode(f.claims())...)),
	} {
		t.Run(name+" is rejected", func(t *testing.T) { f.reject(t, token) })
	}
}

// setUnusedBits changes the last character of a payload whose base64url has bits to spare, so that the text
// differs and the bytes do not, and signs the text.
func setUnusedBits(f *Fixture) string {
	payload := encode(f.claims())
	for len(payload)%3 != 1 {
		payload = append(payload, ' ')
	}
	text := b64(payload)
	input := b64(encode(f.header())) + "." + text[:len(text)-1] + next(text[len(text)-1])
	return input + "." + b64(f.Key().Sign([]byte(input)))
}

// next returns the character of base64url whose value has the lowest bit set too. No bytes end in that bit unless
// their number is a multiple of three, which that of common signatures is not.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}

func testHeaders(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	f.accept(t, f.token(nil, nil))
	before := f.Fetches()
	for name, header := range map[string]map[string]any{
		"no algorithm":                    {"alg": absent},
		"an algorithm that is a number":   {"alg": 256},
		"an algorithm in another case":    {"alg": strings.ToLower(f.Key().Algorithm)},
		"no key":                          {"kid": absent},
		"an empty key ID":                 {"kid": ""},
		"a key ID that is a list":         {"kid": []any{f.Key().ID}},
		"a key ID of 10,000 bytes":        {"kid": strings.Repeat("k", 10_000)},
		"a type that is a number":         {"typ": 1},
		"an empty type":                   {"typ": ""},
		"an access token":                 {"typ": "at+jwt"},
		"a logout token":                  {"typ": "logout+jwt"},
		"a proof of possession":           {"typ": "dpop+jwt"},
		"a workload identity token":       {"typ": "wit+jwt"},
		"a security event":                {"typ": "application/secevent+jwt"},
		"an embedded key":                 {"jwk": map[string]any{"kty": "oct", "k": "AAAA"}},
		"a link to keys":                  {"jku": f.URL + "/keys"},
		"a link to certificates":          {"x5u": f.URL + "/certificates"},
		"a certificate":                   {"x5c": []any{"AAAA"}},
		"a critical extension":            {"crit": []any{"exp"}, "exp": 1},
		"an empty list of critical ones":  {"crit": []any{}},
		"an unencoded payload":            {"b64": false, "crit": []any{"b64"}},
		"an unencoded payload in passing": {"b64": false},
		"a compressed payload":            {"zip": "DEF"},
		"encryption":                      {"enc": "A256GCM"},
		"another token inside":            {"cty": "JWT"},
	} {
		t.Run(name+" is rejected", func(t *testing.T) { f.reject(t, f.token(header, nil)) })
	}
	if got := f.Fetches(); got != before {
		t.Errorf("bad headers made %d fetches", got-before)
	}
	t.Run("a type in another case is the same type", func(t *testing.T) { f.accept(t, f.token(map[string]any{"typ": "jwt"}, nil)) })
}

func testForgeries(t *testing.T, start func(*testing.T) *Fixture) {
	f := start(t)
	good := f.token(nil, nil)
	f.accept(t, good)
	before := f.Fetches()
	part := strings.Split(good, ".")
	admin := b64(encode(f.claims(map[string]any{"sub": "admin"})))
	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		head := b64(encode(f.header(map[string]any{"alg": none})))
		t.Run(fmt.Sprintf("algorithm %q is rejected", none), func(t *testing.T) {
			f.reject(t, head+"."+admin+".")
			f.reject(t, head+"."+admin+"."+part[2])
		})
	}
	for name, key := range publicForms(t, f.Key()) {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			t.Run("an HMAC with the public key as "+name+" is rejected, "+alg, func(t *testing.T) {
				input := b64(encode(f.header(map[string]any{"alg": alg}))) + "." + admin
				mac := hmac.New(sha256.New, key)
				mac.Write([]byte(input))
				f.reject(t, input+"."+b64(mac.Sum(nil)))
			})
		}
	}
	for alg, sign := range strangers(t) {
		t.Run("a stranger's key under a known key ID is rejected, "+alg, func(t *testing.T) {
			input := b64(encode(f.header(map[string]any{"alg": alg}))) + "." + admin
			f.reject(t, input+"."+b64(sign([]byte(input))))
		})
	}
	size := len(f.Key().Sign([]byte("x")))
	for name, signature := range map[string][]byte{
		"zeros": make([]byte, size), "ones": bytesOf(0xff, size), "one byte": {1}, "too long": make([]byte, size+1), "huge": make([]byte, 8<<10),
		"one and one": append(append(make([]byte, size/2-1), 1), append(make([]byte, size-size/2-1), 1)...),
	} {
		t.Run("a signature of "+name+" is rejected", func(t *testing.T) { f.reject(t, part[0]+"."+admin+"."+b64(signature)) })
	}
	t.Run("a good signature over another payload is rejected", func(t *testing.T) { f.reject(t, part[0]+"."+admin+"."+part[2]) })
	t.Run("a good signature over another header is rejected", func(t *testing.T) {
		f.reject(t, b64(encode(f.header(map[string]any{"x": 1})))+"."+part[1]+"."+part[2])
	})
	t.Run("a changed bit anywhere is rejected", func(t *testing.T) {
		raw, _ := base64.RawURLEncoding.DecodeString(part[2])
		for n := range raw {
			changed := append([]byte{}, raw...)
			changed[n] ^= 1
			f.reject(t, part[0]+"."+part[1]+"."+b64(changed))
		}
	})
	if got := f.Fetches(); got != before {
		t.Errorf("forgeries under a known key ID made %d fetches", got-before)
	}
}

func bytesOf(b byte, n int) []byte { return []byte(strings.Repeat(string([]byte{b}), n)) }

// publicForms returns what careless verifiers take for an HMAC key.
func publicForms(t *testing.T, key Key) map[string][]byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	forms := map[string][]byte{"DER": der, "PEM": text, "PEM without its last line break": text[:len(text)-1], "nothing": {}, "its ID": []byte(key.ID)}
	if public, ok := key.Public.(*rsa.PublicKey); ok {
		forms["modulus"] = public.N.Bytes()
		forms["PKCS 1"] = x509.MarshalPKCS1PublicKey(public)
	}
	return forms
}

// strangers returns signers with keys of their own.
func strangers(t *testing.T) map[string]func([]byte) []byte {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func([]byte) []byte{
		"RS256": func(input []byte) []byte {
			digest := sha256.Sum256(input)
			signature, _ := rsa.SignPKCS1v15(nil, rsaKey, 5, digest[:]) // 5 is SHA-256
			return signature
		},
		"ES256": func(input []byte) []byte {
			digest := sha256.Sum256(input)
			r, s, _ := ecdsa.Sign(rand.Reader, ecKey, digest[:])
			return append(fixed(r), fixed(s)...)
		},
		"EdDSA": func(input []byte) []byte { return ed25519.Sign(edKey, input) },
	}
}

func fixed(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
