package dpop_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/dpop"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// forge makes a proof out of a header's text, signed as said; nil: with bytes that sign nothing.
func forge(t *testing.T, header string, sign func(digest []byte, signed string) []byte) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"jti": "0123456789", "htm": "POST", "htu": where, "iat": now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed := b64([]byte(header)) + "." + b64(payload)
	signature := []byte(strings.Repeat("s", 64))
	if sign != nil {
		digest := sha256.Sum256([]byte(signed))
		signature = sign(digest[:], signed)
	}
	return signed + "." + b64(signature)
}

// rsaHeader names a key that needs not be one.
func rsaHeader(n *big.Int, e int64, more string) string {
	return fmt.Sprintf(`{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","n":%q,"e":%q%s}}`, b64(n.Bytes()), b64(big.NewInt(e).Bytes()), more)
}

// Keys that anybody could sign with, that cost long to verify, or that show what should not leave their holder.
func TestOddKeysAreRefusedQuickly(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	ecHeader := func(alg, crv string, x, y []byte, more string) string {
		return fmt.Sprintf(`{"typ":"dpop+jwt","alg":%q,"jwk":{"kty":"EC","crv":%q,"x":%q,"y":%q%s}}`, alg, crv, b64(x), b64(y), more)
	}
	withEC := func(digest []byte, _ string) []byte {
		r, s, err := ecdsa.Sign(rand.Reader, ec, digest)
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	// With the exponent 1 a signature is the padded hash itself: whoever knows the public key can make one.
	withOne := func(digest []byte, _ string) []byte {
		prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
		tail := append(append([]byte{0}, prefix...), digest...)
		padded := append([]byte{0, 1}, []byte(strings.Repeat("\xff", 256-2-len(tail)))...)
		return append(padded, tail...)
	}
	if _, err := verifier(false, now()).Verify(forge(t, ecHeader("ES256", "P-256", x, y, ""), withEC), dpop.Request{Method: "POST", URL: where}); err != nil {
		t.Fatalf("the one that the others are made from: %v", err)
	}
	longer := append([]byte{0}, x...)
	off := append([]byte{}, y...)
	off[31] ^= 1
	even := new(big.Int).Lsh(new(big.Int).Rsh(strong.N, 1), 1)
	forged := map[string]string{
		"RSA of 16,384 bits":             forge(t, rsaHeader(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 16384), big.NewInt(1)), 65537, ""), nil),
		"RSA with the exponent 1":        forge(t, rsaHeader(strong.N, 1, ""), withOne),
		"RSA with the exponent 3":        forge(t, rsaHeader(strong.N, 3, ""), nil),
		"RSA with an even exponent":      forge(t, rsaHeader(strong.N, 65538, ""), nil),
		"RSA with a huge exponent":       forge(t, rsaHeader(strong.N, 1<<40+1, ""), nil),
		"RSA with an even modulus":       forge(t, rsaHeader(even, 65537, ""), nil),
		"RSA with the modulus 0":         forge(t, rsaHeader(new(big.Int), 65537, ""), nil),
		"a point that is on no curve":    forge(t, ecHeader("ES256", "P-256", x, off, ""), withEC),
		"the point at infinity":          forge(t, ecHeader("ES256", "P-256", make([]byte, 32), make([]byte, 32), ""), withEC),
		"a coordinate that is too long":  forge(t, ecHeader("ES256", "P-256", longer, y, ""), withEC),
		"a coordinate that is too short": forge(t, ecHeader("ES256", "P-256", x[1:], y, ""), withEC),
		"a curve that is none":           forge(t, ecHeader("ES256", "P-257", x, y, ""), withEC),
		"another curve":                  forge(t, ecHeader("ES256", "secp256k1", x, y, ""), withEC),
		"an algorithm of another key":    forge(t, ecHeader("RS256", "P-256", x, y, ""), withEC),
		"a key for agreement":            forge(t, fmt.Sprintf(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"X25519","x":%q}}`, b64(edwards)), nil),
		"a short key of Edwards":         forge(t, fmt.Sprintf(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":%q}}`, b64(edwards[:31])), nil),
		"a key of a kind of its own":     forge(t, `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"ec","crv":"P-256"}}`, withEC),
		"a key that is a text":           forge(t, `{"typ":"dpop+jwt","alg":"ES256","jwk":"P-256"}`, withEC),
		"two keys":                       forge(t, strings.Replace(ecHeader("ES256", "P-256", x, y, ""), `"alg"`, `"jwk":{"kty":"oct","k":"AA"},"alg"`, 1), withEC),
		"a key with two values":          forge(t, ecHeader("ES256", "P-256", x, y, fmt.Sprintf(`,"x":%q`, b64(y))), withEC),
		"a critical parameter":           forge(t, strings.Replace(ecHeader("ES256", "P-256", x, y, ""), `"alg"`, `"crit":["exp"],"alg"`, 1), withEC),
		"two proofs in one":              forge(t, ecHeader("ES256", "P-256", x, y, ""), withEC) + ", " + forge(t, ecHeader("ES256", "P-256", x, y, ""), withEC),
		"a proof in JSON":                `{"protected":"e30","payload":"e30","signature":""}`,
	}
	for _, part := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
		forged["a private part "+part] = forge(t, ecHeader("ES256", "P-256", x, y, fmt.Sprintf(`,%q:"AQ"`, part)), withEC)
		forged["an empty private part "+part] = forge(t, ecHeader("ES256", "P-256", x, y, fmt.Sprintf(`,%q:null`, part)), withEC)
	}
	for name, proof := range forged {
		begun := time.Now()
		if _, err := verifier(false, now()).Verify(proof, dpop.Request{Method: "POST", URL: where}); !errors.Is(err, dpop.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// A proof is for one URL. Two spellings are one only where every reader goes to the same place by them: a proxy on the
// way, which takes two paths for one, moves no proof from the one to the other.
func TestAProofIsForOneURLHoweverItIsWritten(t *testing.T) {
	p := prover(t)
	const ours = "https://daypass.example/desk/oauth/token"
	for made, good := range map[string]bool{
		ours: true,
		"HTTPS://DayPass.EXAMPLE/desk/oauth/token":       true,
		"https://daypass.example:443/desk/oauth/token":   true,
		"https://daypass.example/desk/oauth/token?a=b#c": true,
		"https://daypass.example:8443/desk/oauth/token":  false,
		"https://daypass.example:80/desk/oauth/token":    false,
		"http://daypass.example/desk/oauth/token":        false,
		"http://daypass.example:443/desk/oauth/token":    false,
		"https://daypass.example./desk/oauth/token":      false,
		"https://daypass.example.evil/desk/oauth/token":  false,
		"https://daypass.example@evil/desk/oauth/token":  false,
		"https://evil/daypass.example/desk/oauth/token":  false,
		"https://daypass.example/oauth/token":            false,
		"https://daypass.example/desk/desk/oauth/token":  false,
		"https://daypass.example/desk/oauth/token/":      false,
		"https://daypass.example/desk//oauth/token":      false,
		"https://daypass.example/desk/./oauth/token":     false,
		"https://daypass.example/x/../desk/oauth/token":  false,
		"https://daypass.example/desk/oauth/%74oken":     false,
		"https://daypass.example/desk%2Foauth/token":     false,
		"https://daypass.example/Desk/oauth/token":       false,
		"https://daypass.example/desk/oauth/token;a":     false,
		"https://daypass.example/desk/oauth/token%3Fa":   false,
		"https://d\u0430ypass.example/desk/oauth/token":  false, // a letter of another script
		"https://daypass\u3002example/desk/oauth/token":  false, // a dot of another script
	} {
		proof, err := p.Prove(dpop.Request{Method: "POST", URL: made}, "", now())
		if err != nil {
			t.Fatal(err)
		}
		_, err = verifier(false, now()).Verify(proof, dpop.Request{Method: "POST", URL: ours})
		if good && err != nil || !good && !errors.Is(err, dpop.ErrRejected) {
			t.Errorf("%s: %v", made, err)
		}
	}
	for _, method := range []string{"post", "POST ", "", "PUT", "GET"} {
		proof, err := p.Prove(dpop.Request{Method: method, URL: ours}, "", now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier(false, now()).Verify(proof, dpop.Request{Method: "POST", URL: ours}); !errors.Is(err, dpop.ErrRejected) {
			t.Errorf("method %q: %v", method, err)
		}
	}
}
