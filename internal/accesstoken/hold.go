package accesstoken

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/secret"
)

// The schemes of the Authorization header.
const (
	SchemeBearer = "Bearer"
	SchemeDPoP   = dpop.Scheme
)

// The codes of refusals.
const (
	InvalidToken = "invalid_token"      // RFC 6750 §3.1
	InvalidProof = "invalid_dpop_proof" // RFC 9449 §5
	UseNonce     = "use_dpop_nonce"     // RFC 9449 §8
)

// Refusal says that a token, or the possession of its key, is not accepted. Text is for the caller: it names the
// rule, and nothing of what was sent.
type Refusal struct {
	Code string
	Text string
	Err  error // the cause, for the log; may be nil
}

// Error tells the text, and the cause.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Text
	}
	return r.Text + ": " + r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Showing is how a caller shows that it holds a key.
type Showing struct {
	Scheme string // of the Authorization header that a token came in; empty where it came elsewhere
	Proof  string // the DPoP header; empty where there is none
	Method string
	URL    string              // our own URL and the path: never what the Host header says
	Chain  []*x509.Certificate // of the TLS client, leaf first; the handshake has proved the leaf's key
}

// Possession is a key that a caller holds.
type Possession struct {
	Binding
	Proof dpop.Proof // good once; the zero value where a certificate proves it
}

// Possess returns the key that a caller shows to hold: that of a proof, else that of its certificate, else none. It
// remembers nothing: anybody can prove keys of their own, and would fill the memory that holders of tokens need.
func (t *Tokens) Possess(s Showing, token secret.Text) (Possession, error) {
	if s.Proof == "" {
		if len(s.Chain) == 0 {
			return Possession{}, nil
		}
		return Possession{Binding: Binding{Certificate: thumbprint(s.Chain[0])}}, nil
	}
	proof, err := t.cfg.Proofs.Verify(s.Proof, dpop.Request{Method: s.Method, URL: s.URL, Token: token.Reveal()})
	switch {
	case errors.Is(err, dpop.ErrNonce):
		return Possession{}, &Refusal{UseNonce, "the proof needs the nonce of the DPoP-Nonce header (RFC 9449 §8)", err}
	case err != nil:
		return Possession{}, &Refusal{InvalidProof, "the DPoP proof is not accepted (RFC 9449 §4.3)", err}
	}
	return Possession{Binding{Key: proof.Thumbprint}, proof}, nil
}

// ErrReplayed is the refusal of a proof that was used before.
func ErrReplayed() error {
	return &Refusal{InvalidProof, "the DPoP proof was used before (RFC 9449 §11.1)", nil}
}

// Hold checks that who shows a token holds its key, and remembers the proof. Without that the token is worth nothing.
func (t *Tokens) Hold(token Token, text secret.Text, s Showing) (Possession, error) {
	if s.Scheme != "" && s.Scheme != token.Binding.TokenType() {
		return Possession{}, &Refusal{InvalidToken, "the access token is bound to a key and does not go with this scheme (RFC 9449 §7.1)", nil}
	}
	if token.Binding.Certificate != "" {
		if len(s.Chain) == 0 || thumbprint(s.Chain[0]) != token.Binding.Certificate {
			return Possession{}, &Refusal{InvalidToken, "the access token is bound to another client certificate (RFC 8705 §3)", nil}
		}
		return Possession{Binding: token.Binding}, nil
	}
	if s.Proof == "" {
		return Possession{}, &Refusal{InvalidProof, "the access token is bound to a key: send a DPoP proof (RFC 9449 §7.1)", nil}
	}
	if s.Scheme == "" {
		text = secret.Text{} // at the token endpoint proofs carry no hash of a token
	}
	shown, err := t.Possess(s, text)
	if err != nil {
		return Possession{}, err
	}
	if shown.Key != token.Binding.Key {
		return Possession{}, &Refusal{InvalidProof, "the proof is of another key than the access token is bound to (RFC 9449 §7.1)", nil}
	}
	owner := token.Principal.IssuerURL + " " + token.Principal.Subject // a URL has no space
	if !t.memory.First(owner, shown.Proof.Thumbprint+" "+shown.Proof.ID, shown.Proof.Until) {
		return Possession{}, ErrReplayed()
	}
	return shown, nil
}

// Nonce is for the next proof (RFC 9449 §8), and empty where proofs need none.
func (t *Tokens) Nonce() string {
	if !t.cfg.Nonces {
		return ""
	}
	return t.cfg.Proofs.Nonce()
}

// thumbprint is `x5t#S256` of a certificate: RFC 8705 §3.1.
func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// claim reads what a part of a token says that nobody has verified. What cannot be read says nothing.
func claim(part string, into any) {
	if text, err := base64.RawURLEncoding.DecodeString(part); err == nil {
		_ = json.Unmarshal(text, into)
	}
}
