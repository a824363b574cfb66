// Package device is what a device that was enrolled at a Daypass server keeps, and how it says who it is.
//
// It owns two files: the key (key.go), which is made on the device and never leaves it, and the [State], which says
// where and as whom the device was enrolled. [Source] signs evidence with the key, fresh each time. The package promises
// that it uses no key that others can read, and that it never writes over one.
//
// It imports client, dpop, api, secret and the standard library, and reads no clock.
package device

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/secret"
)

// State says where and as whom a device was enrolled. It holds no secret.
type State struct {
	Server    string   `json:"server"`            // the URL that it was enrolled at
	CAFile    string   `json:"ca_file,omitempty"` // certificates to trust for it, instead of the system's
	Issuer    string   `json:"issuer"`
	IssuerURL string   `json:"issuer_url"`
	Name      string   `json:"name"`
	Audience  string   `json:"audience"` // whom its evidence is for
	Key       string   `json:"key"`      // the file with its key
	RenewedAt api.Time `json:"renewed_at"`
	Until     api.Time `json:"until"`
}

// maxState bounds a state file, in bytes.
const maxState = 16 << 10

// Read reads a state file, and refuses one that others can write: it says whom to show evidence to.
func Read(path string) (s State, err error) {
	text, err := readOwn(path, 0o022, maxState)
	if err != nil {
		return s, fmt.Errorf("read the state of the device: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read the state of the device: %s is no state file", path)
	}
	if s.Server == "" || s.IssuerURL == "" || s.Name == "" || s.Audience == "" || s.Key == "" {
		return s, fmt.Errorf("read the state of the device: %s is not whole", path)
	}
	return s, nil
}

// Write replaces a state file whole.
func (s State) Write(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the state of the device: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".daypass-device-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write the state of the device: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the state of the device: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

// Take notes what the server says of the device, at a time.
func (s *State) Take(d api.Device, now time.Time) {
	s.Issuer, s.IssuerURL, s.Name, s.Audience = d.Issuer, d.IssuerURL, d.Name, d.Audience
	s.RenewedAt, s.Until = api.At(now), d.Until
}

// RenewAt is when to renew the term: at two thirds of it.
func (s State) RenewAt() time.Time {
	return s.RenewedAt.Add(s.Until.Sub(s.RenewedAt.Time) / 3 * 2)
}

// Life is how long evidence is good.
const Life = 2 * time.Minute

// Source signs evidence of a device with its key: a token of the form of RFC 7523. All fields are required.
type Source struct {
	State State
	Key   *ecdsa.PrivateKey
	Now   func() time.Time
}

var _ client.TokenSource = Source{}

// Token returns evidence that is good for [Life].
func (s Source) Token(context.Context) (secret.Text, error) {
	prover, err := dpop.NewProverOf(s.Key)
	if err != nil {
		return secret.Text{}, err
	}
	now := s.Now()
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": prover.Thumbprint(), "typ": "JWT"})
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign evidence: %w", err)
	}
	payload, err := json.Marshal(map[string]any{
		"iss": s.State.IssuerURL, "sub": s.State.Name, "aud": s.State.Audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(Life).Unix(),
	})
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign evidence: %w", err)
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	r, t, err := ecdsa.Sign(rand.Reader, s.Key, digest[:])
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign evidence: %w", err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), t.FillBytes(make([]byte, 32))...) // RFC 7518 §3.4
	return secret.New(input + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// The time between two tries to renew a term.
const retry, retryMost = time.Minute, time.Hour

// Keep renews the term of a device whenever it is time to, until the context ends, and keeps the state file up to date.
// It tells what it did and what went wrong; a term that is not renewed is tried again while it lasts.
func Keep(ctx context.Context, c *client.Client, path string, now func() time.Time, tell func(string)) {
	for wait := time.Duration(0); ; {
		state, err := Read(path)
		if err != nil {
			tell(err.Error())
			return
		}
		next := max(state.RenewAt().Sub(now()), wait)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := Renew(ctx, c, path, now); err != nil {
			wait = min(max(2*wait, retry), retryMost)
			if ctx.Err() == nil {
				tell(fmt.Sprintf("%v; it counts until %s and is tried again", err, state.Until))
			}
			continue
		}
		wait = retry // whatever the server says a term is
		tell("the term of device " + cmp.Or(state.Name, path) + " was renewed")
	}
}

// Renew renews the term of a device, and keeps what the server says in its state file.
func Renew(ctx context.Context, c *client.Client, path string, now func() time.Time) error {
	state, err := Read(path)
	if err != nil {
		return err
	}
	key, err := ReadKey(state.Key)
	if err != nil {
		return err
	}
	d, err := c.RenewDevice(ctx, state.Issuer, state.Name, key, nil)
	if err != nil {
		return err
	}
	state.Take(d, now())
	return state.Write(path)
}

// ChangeKey gives the device another key, proved together with the one that it has, in a file of its own. Where the
// answer is lost, the next renewal with either key tells which one the device has.
func ChangeKey(ctx context.Context, c *client.Client, path, file string, now func() time.Time) error {
	state, err := Read(path)
	if err != nil {
		return err
	}
	key, err := ReadKey(state.Key)
	if err != nil {
		return err
	}
	next, _, err := Key(file)
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return fmt.Errorf("name the next key: %w", err)
	}
	d, err := c.RenewDevice(ctx, state.Issuer, state.Name, key, next)
	if err != nil {
		// Had the server taken the next key before, and its answer was lost, then that one renews by itself.
		taken, again := c.RenewDevice(ctx, state.Issuer, state.Name, next, nil)
		if again != nil {
			return err
		}
		d = taken
	}
	state.Take(d, now())
	state.Key = file
	return state.Write(path)
}
