// Package accesstoken makes and reads our own access tokens (RFC 9068): what a workload gets for its evidence once,
// and shows instead of it from then on.
//
// Each is bound to a key, by its `cnf` (RFC 7800): a key that signs proofs (RFC 9449), or that of a TLS client
// certificate (RFC 8705). The package promises that no unbound token is made or read, that a token counts only with
// the possession of its key ([Tokens.Hold]), and that it stands for exactly the principal that it was made for.
//
// It remembers proofs in memory ([Memory]). What has to be used up for all servers of a store is the broker's to
// record, as is which principals the active access revision knows. It must not import the store.
package accesstoken

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
)

// Type is the `typ` of access tokens: RFC 9068 §2.1. Nothing else that our issuer signs has it.
const Type = "at+jwt"

// own is the claim that holds the principal.
const own = "daypass"

// Config is what Tokens are made from.
type Config struct {
	Issuer   *issuer.Issuer
	Audience string        // our own URL
	TTL      time.Duration // of a token
	Proofs   *dpop.Verifier
	Nonces   bool // proofs need one
	Now      func() time.Time
}

// Tokens makes and reads access tokens. Its methods may be called concurrently.
type Tokens struct {
	cfg    Config
	memory *Memory
}

// New returns Tokens.
func New(cfg Config) *Tokens { return &Tokens{cfg, NewMemory(cfg.Now)} }

// Token is what an access token says.
type Token struct {
	ID        string
	Principal identity.Principal // as it was when the token was made; TokenID is empty: it is no evidence of its issuer
	Binding   Binding
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Binding is the key that a token is bound to, as in `cnf`. One of the two is set.
type Binding struct {
	Key         string `json:"jkt,omitempty"`      // RFC 9449 §6.1: the thumbprint of a key that signs proofs
	Certificate string `json:"x5t#S256,omitempty"` // RFC 8705 §3.1: the thumbprint of a client certificate
}

// TokenType is the `token_type` of tokens with this binding.
func (b Binding) TokenType() string {
	if b.Key != "" {
		return SchemeDPoP
	}
	return SchemeBearer
}

// said is the principal as the token carries it.
type said struct {
	Issuer    string          `json:"issuer"`
	IssuerURL string          `json:"issuer_url"`
	Subject   string          `json:"subject"`
	Claims    json.RawMessage `json:"claims"`
}

// Mint makes a token that stands for a principal, for who holds a key. Until bounds its life where it is made for another
// access token and not for evidence, which nobody may renew for ever by exchanging them; zero is no bound.
func (t *Tokens) Mint(ctx context.Context, p identity.Principal, to Binding, until time.Time) (secret.Text, Token, error) {
	op := "make an access token for " + p.Name()
	if (to.Key == "") == (to.Certificate == "") {
		return secret.Text{}, Token{}, errors.New(op + ": it has to be bound to one key")
	}
	claims, err := identity.EncodeClaims(p.Claims)
	if err != nil {
		return secret.Text{}, Token{}, fmt.Errorf("%s: %w", op, err)
	}
	now := t.cfg.Now().Truncate(time.Second)
	ttl := t.cfg.TTL
	if !until.IsZero() {
		ttl = min(ttl, until.Sub(now)-time.Second) // a second, since the issuer looks at the clock after us
	}
	if ttl < time.Second {
		return secret.Text{}, Token{}, &Refusal{InvalidToken, "the access token is about to expire: come with evidence", nil}
	}
	made := Token{ID: rand.Text(), Principal: p, Binding: to, IssuedAt: now, ExpiresAt: now.Add(ttl)}
	more := map[string]any{"client_id": p.Name(), "cnf": to, own: said{p.Issuer, p.IssuerURL, p.Subject, claims}}
	if !p.IssuedAt.IsZero() {
		more["auth_time"] = p.IssuedAt.Unix() // RFC 9068 §2.2.1: when the workload last proved who it is
	}
	if act, ok := p.Claims["act"]; ok {
		more["act"] = act // RFC 8693 §4.1
	}
	text, err := t.cfg.Issuer.Sign(ctx, issuer.Token{
		Type: Type, Algorithm: issuer.ES256, ID: made.ID, Subject: p.Name(), Audience: []string{t.cfg.Audience}, TTL: ttl, Claims: more,
	})
	if err == nil && len(text.Reveal()) > api.MaxToken {
		err = fmt.Errorf("it would have more than %d bytes: the evidence has too many claims", api.MaxToken)
	}
	if err != nil {
		return secret.Text{}, Token{}, fmt.Errorf("%s: %w", op, err)
	}
	return text, made, nil
}

// Ours reports whether a token says that it is one of ours. Nothing vouches for it.
func (t *Tokens) Ours(token secret.Text) bool {
	parts := strings.SplitN(token.Reveal(), ".", 3)
	if len(parts) != 3 {
		return false
	}
	var header struct {
		Type string `json:"typ"`
	}
	var payload struct {
		Issuer string `json:"iss"`
	}
	claim(parts[0], &header)
	if !strings.EqualFold(strings.TrimPrefix(header.Type, "application/"), Type) {
		return false // most are the evidence of others, whose payload is somebody else's to read
	}
	claim(parts[1], &payload)
	return payload.Issuer == t.cfg.Issuer.URL()
}

// Read returns what a token says that we made and that is good. Nobody has shown its key yet: see [Tokens.Hold].
func (t *Tokens) Read(ctx context.Context, token secret.Text) (Token, error) {
	claims, err := t.cfg.Issuer.Verify(ctx, token, Type)
	if errors.Is(err, issuer.ErrRejected) {
		return Token{}, &Refusal{InvalidToken, "the access token is not one of ours, or is no longer good (RFC 9068 §4)", err}
	}
	if err != nil {
		return Token{}, err
	}
	if claims["aud"] != t.cfg.Audience {
		return Token{}, &Refusal{InvalidToken, "the access token is for another audience (RFC 9068 §4)", nil}
	}
	return read(claims)
}

// read takes a token's claims apart. They are ours: what is missing is a mistake of ours, and refused.
func read(claims map[string]any) (Token, error) {
	wrong := &Refusal{InvalidToken, "the access token lacks what ours have", nil}
	text, err := json.Marshal(claims)
	if err != nil {
		return Token{}, wrong
	}
	var all struct {
		ID       string  `json:"jti"`
		IssuedAt int64   `json:"iat"`
		Expires  int64   `json:"exp"`
		AuthTime int64   `json:"auth_time"`
		Binding  Binding `json:"cnf"`
		Said     said    `json:"daypass"`
	}
	if json.Unmarshal(text, &all) != nil || all.ID == "" || (all.Binding.Key == "") == (all.Binding.Certificate == "") ||
		all.Said.IssuerURL == "" || all.Said.Subject == "" {
		return Token{}, wrong
	}
	p := identity.Principal{Issuer: all.Said.Issuer, IssuerURL: all.Said.IssuerURL, Subject: all.Said.Subject, ExpiresAt: time.Unix(all.Expires, 0)}
	if all.AuthTime != 0 {
		p.IssuedAt = time.Unix(all.AuthTime, 0)
	}
	if p.Claims, err = identity.ParseClaims(all.Said.Claims); err != nil {
		return Token{}, wrong
	}
	return Token{ID: all.ID, Principal: p, Binding: all.Binding, IssuedAt: time.Unix(all.IssuedAt, 0), ExpiresAt: time.Unix(all.Expires, 0)}, nil
}
