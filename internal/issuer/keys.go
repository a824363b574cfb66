package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/keyring"
)

// sealedName is what the keys are sealed as.
const sealedName = "issuer-keys"

// keys are the generations as the shelf has them, oldest first: the last is next, the one before it signs, all others
// are retired. A value does not change.
type keys struct {
	sealed      []byte // as it is on the shelf
	generations []generation
	documents   []Document
	read        time.Time
}

func (k *keys) next() generation    { return k.generations[len(k.generations)-1] }
func (k *keys) signing() generation { return k.generations[len(k.generations)-2] }

// find returns the key of an ID.
func (k *keys) find(id string) (key, bool) {
	for _, g := range k.generations {
		for _, key := range g.keys {
			if key.id == id {
				return key, true
			}
		}
	}
	return key{}, false
}

// generation is one key for each algorithm, which live and retire together.
type generation struct {
	id      string
	made    time.Time // and published
	signs   time.Time // since when it signs; zero before
	retired time.Time // since when it does not; zero before
	keys    []key
}

func (g generation) key(a Algorithm) (key, bool) {
	for _, k := range g.keys {
		if k.algorithm == a {
			return k, true
		}
	}
	return key{}, false
}

// expired reports whether no token of a generation can be good any more.
func (g generation) expired(now time.Time) bool {
	return !g.retired.IsZero() && !now.Before(g.retired.Add(overlap))
}

// key is one key pair. The private half sits behind a function, so that printing shows nothing of it.
type key struct {
	id        string
	algorithm Algorithm
	public    crypto.PublicKey
	private   func() crypto.Signer // nil once retired
}

// newGeneration makes the keys of a generation.
func newGeneration(now time.Time) (generation, error) {
	random := make([]byte, 10)
	rand.Read(random) // never fails: crypto/rand ends the process instead
	g := generation{id: strings.ToLower(base32.StdEncoding.EncodeToString(random)), made: now}
	for _, algorithm := range Algorithms() {
		private, err := newPrivate(algorithm)
		if err != nil {
			return g, fmt.Errorf("make a key for %s: %w", algorithm, err)
		}
		g.keys = append(g.keys, key{
			id:        g.id + "-" + strings.ToLower(string(algorithm)),
			algorithm: algorithm,
			public:    private.Public(),
			private:   func() crypto.Signer { return private },
		})
	}
	return g, nil
}

func newPrivate(a Algorithm) (crypto.Signer, error) {
	if a == RS256 {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// first are the keys of an installation that had none. Nothing can have been published before them.
func first(now time.Time) ([]generation, error) {
	signing, err := newGeneration(now)
	if err != nil {
		return nil, err
	}
	signing.signs = now
	next, err := newGeneration(now)
	return []generation{signing, next}, err
}

// retire ends a generation: nothing will be signed with it, so that its private keys are not kept.
func (g generation) retire(now time.Time) generation {
	g.retired = now
	public := make([]key, 0, len(g.keys))
	for _, k := range g.keys {
		k.private = nil
		public = append(public, k)
	}
	g.keys = public
	return g
}

// storedGeneration and storedKey are what is sealed.
type storedGeneration struct {
	ID      string      `json:"id"`
	Made    time.Time   `json:"made"`
	Signs   time.Time   `json:"signs,omitzero"`
	Retired time.Time   `json:"retired,omitzero"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	ID        string    `json:"id"`
	Algorithm Algorithm `json:"algorithm"`
	Public    []byte    `json:"public"`            // PKIX
	Private   []byte    `json:"private,omitempty"` // PKCS 8
}

// seal returns generations as the shelf keeps them.
func seal(master *keyring.Key, generations []generation) ([]byte, error) {
	var stored []storedGeneration
	for _, g := range generations {
		out := storedGeneration{ID: g.id, Made: g.made, Signs: g.signs, Retired: g.retired}
		for _, k := range g.keys {
			s, err := k.stored()
			if err != nil {
				return nil, err
			}
			out.Keys = append(out.Keys, s)
		}
		stored = append(stored, out)
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return nil, errors.New("encode the issuer's keys: not possible") // the cause may quote them
	}
	defer clear(text)
	return master.Seal(sealedName, "", text)
}

func (k key) stored() (s storedKey, err error) {
	s = storedKey{ID: k.id, Algorithm: k.algorithm}
	if s.Public, err = x509.MarshalPKIXPublicKey(k.public); err == nil && k.private != nil {
		s.Private, err = x509.MarshalPKCS8PrivateKey(k.private())
	}
	if err != nil {
		return storedKey{}, fmt.Errorf("encode the issuer's key %s: not possible", k.id)
	}
	return s, nil
}

// open is the reverse of seal.
func open(master *keyring.Key, sealed []byte) ([]generation, error) {
	text, err := master.Open(sealedName, "", sealed)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	errDamaged := errors.New("read the issuer's keys: they are none") // a cause may quote them
	var stored []storedGeneration
	if json.Unmarshal(text, &stored) != nil || len(stored) < 2 {
		return nil, errDamaged
	}
	var generations []generation
	for _, s := range stored {
		g := generation{id: s.ID, made: s.Made, signs: s.Signs, retired: s.Retired}
		for _, sk := range s.Keys {
			k, err := sk.open()
			if err != nil {
				return nil, errDamaged
			}
			g.keys = append(g.keys, k)
		}
		generations = append(generations, g)
	}
	return generations, nil
}

func (s storedKey) open() (k key, err error) {
	k = key{id: s.ID, algorithm: s.Algorithm}
	if k.public, err = x509.ParsePKIXPublicKey(s.Public); err != nil || s.Private == nil {
		return k, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(s.Private)
	if err != nil {
		return k, err
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return k, errors.New("no private key")
	}
	k.private = func() crypto.Signer { return private }
	return k, nil
}
