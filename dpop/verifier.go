package dpop

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// How far a proof may be from now. The nonce tells its age by our own clock; iat is the caller's.
const (
	nonceLife = 5 * time.Minute
	proofLife = time.Minute
	leeway    = 30 * time.Second
)

// maxID bounds `jti`, in bytes.
const maxID = 256

// Config says what a [Verifier] demands.
type Config struct {
	Key   []byte // of nonces, 32 bytes, the same at all servers of an installation
	Nonce bool   // proofs need one
	Now   func() time.Time
}

// Verifier verifies proofs. It may be used concurrently.
type Verifier struct{ cfg Config }

// NewVerifier returns a verifier.
func NewVerifier(cfg Config) *Verifier { return &Verifier{cfg} }

// Proof is what a verified proof says.
type Proof struct {
	Thumbprint string    // of the key that signed it, as in `cnf.jkt`
	Key        string    // that key, as a JWK
	ID         string    // `jti`: whoever accepts the proof accepts this once
	Until      time.Time // from here on the proof is refused whatever its ID
}

// Verify checks a proof for a request. Errors are [ErrRejected] or [ErrNonce].
func (v *Verifier) Verify(proof string, r Request) (Proof, error) {
	jws, err := parse(proof)
	if err != nil {
		return Proof{}, err
	}
	said, key, err := open(jws)
	if err != nil {
		return Proof{}, err
	}
	if err := said.matches(r); err != nil {
		return Proof{}, err
	}
	now := v.cfg.Now()
	made := time.Unix(said.IssuedAt, 0)
	life := proofLife
	if v.cfg.Nonce {
		if !v.fresh(said.Nonce, now) {
			return Proof{}, ErrNonce
		}
		life = nonceLife // by our clock, so that a caller's slow one does no harm
	}
	if said.IssuedAt < 0 || made.Before(now.Add(-life-leeway)) || made.After(now.Add(life+leeway)) {
		return Proof{}, reject("was made at another time (iat)")
	}
	if said.ID == "" || len(said.ID) > maxID {
		return Proof{}, reject("has no jti, or one of more than %d bytes", maxID)
	}
	return proofOf(key, Proof{ID: said.ID, Until: made.Add(life + leeway)})
}

func reject(format string, args ...any) error {
	return fmt.Errorf("the proof %s: %w", fmt.Sprintf(format, args...), ErrRejected)
}

// algorithms are those that callers may sign with: asymmetric ones (RFC 9449 §4.3 no. 5).
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.RS256, jose.PS256}
}

// Algorithms are those that proofs may be signed with, by their names of RFC 7518.
func Algorithms() []string {
	var names []string
	for _, a := range algorithms() {
		names = append(names, string(a))
	}
	return names
}

// parse reads a proof whose header says what headers of proofs say, and nothing else. Errors leave out the library's
// text, which may quote the proof.
func parse(text string) (*jose.JSONWebSignature, error) {
	if len(text) > maxProof {
		return nil, reject("has more than %d bytes", maxProof)
	}
	segment, _, _ := strings.Cut(text, ".")
	plain, err := base64.RawURLEncoding.DecodeString(segment)
	var header map[string]any
	if err != nil || json.Unmarshal(plain, &header) != nil { // which refuses names that come twice
		return nil, reject("is not a JWT")
	}
	for name := range header {
		if name != "typ" && name != "alg" && name != "jwk" && name != "kid" {
			return nil, reject("has the header parameter %.40q, which is not accepted", name)
		}
	}
	if t, _ := header["typ"].(string); !strings.EqualFold(strings.TrimPrefix(t, "application/"), typ) {
		return nil, reject("is not of type %s", typ)
	}
	jwk, _ := header["jwk"].(map[string]any)
	if jwk == nil {
		return nil, reject("brings no public key")
	}
	for _, name := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} { // RFC 7518 §6.2.2, §6.3.2 and §6.4
		if _, ok := jwk[name]; ok {
			return nil, reject("brings a private key")
		}
	}
	jws, err := jose.ParseSignedCompact(text, algorithms())
	if err != nil || len(jws.Signatures) != 1 {
		return nil, reject("is not a JWT of an accepted algorithm")
	}
	return jws, nil
}

// proofOf names the key of a proof.
func proofOf(key jose.JSONWebKey, p Proof) (Proof, error) {
	// Without what the caller said of its key: the bytes are those of the key alone.
	plain := jose.JSONWebKey{Key: key.Key}
	text, err := plain.MarshalJSON()
	if err == nil {
		p.Thumbprint, err = thumbprintOf(plain)
	}
	if err != nil {
		return Proof{}, reject("brings no key that could be hashed")
	}
	p.Key = string(text)
	return p, nil
}

// open verifies the signature by the key that the proof brings.
func open(jws *jose.JSONWebSignature) (said claims, by jose.JSONWebKey, err error) {
	key := jws.Signatures[0].Protected.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() || !strong(key.Key) {
		return said, by, reject("brings no key that could be accepted")
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return said, by, reject("is not signed by the key that it brings")
	}
	if err := json.Unmarshal(payload, &said); err != nil {
		return said, by, reject("has no claims that can be read")
	}
	return said, *key, nil
}

// strong refuses keys that somebody else could break, or that are made to be slow.
func strong(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 4096 && k.N.Bit(0) == 1 && k.E >= 1<<16+1 && k.E <= 1<<31-1 && k.E&1 == 1
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// matches reports that a proof is for another request.
func (c claims) matches(r Request) error {
	want, err := plainURL(r.URL)
	if err != nil {
		return fmt.Errorf("verify a proof for %q: %w", r.URL, err)
	}
	said, err := plainURL(c.URL)
	if err != nil || said != want {
		return reject("is for another URL (htu)")
	}
	if c.Method != r.Method {
		return reject("is for another method (htm)")
	}
	if subtle.ConstantTimeCompare([]byte(c.Token), []byte(tokenHash(r.Token))) != 1 {
		return reject("is for another access token (ath)")
	}
	return nil
}

// Nonce returns a nonce for the next proof: the time, and a code over it that only the installation can make.
func (v *Verifier) Nonce() string { return v.nonce(v.cfg.Now().Unix()) }

func (v *Verifier) nonce(at int64) string {
	message := binary.BigEndian.AppendUint64(nil, uint64(at))
	code := hmac.New(sha256.New, v.cfg.Key)
	code.Write(message)
	return base64.RawURLEncoding.EncodeToString(append(message, code.Sum(nil)[:16]...))
}

// fresh reports whether a nonce is one of ours and not too old.
func (v *Verifier) fresh(nonce string, now time.Time) bool {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != 24 {
		return false
	}
	at := int64(binary.BigEndian.Uint64(raw))
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(v.nonce(at))) != 1 {
		return false
	}
	made := time.Unix(at, 0)
	return !made.Before(now.Add(-nonceLife)) && !made.After(now.Add(leeway))
}
