package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/secret"
)

// ErrRejected marks a token that is none of ours, or no longer good. Any other error means that we could not tell.
var ErrRejected = errors.New("the token is not a good one of ours")

// Verify returns the claims of a token that we signed with a typ, while it is good. Whom it is for is the caller's to
// check: `aud` is among the claims. Numbers are json.Number.
func (i *Issuer) Verify(ctx context.Context, token secret.Text, typ string) (map[string]any, error) {
	signed, err := jose.ParseSignedCompact(token.Reveal(), []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("verify a token: %w: it is no signed token", ErrRejected)
	}
	header := signed.Signatures[0].Protected
	if said, _ := header.ExtraHeaders[jose.HeaderType].(string); said != typ {
		return nil, fmt.Errorf("verify a token: %w: it is not of type %s", ErrRejected, typ)
	}
	key, err := i.lookup(ctx, header.KeyID)
	if err != nil {
		return nil, fmt.Errorf("verify a token: %w", err)
	}
	if header.Algorithm != string(key.algorithm) {
		return nil, fmt.Errorf("verify a token: %w: its key is not for its algorithm", ErrRejected)
	}
	payload, err := signed.Verify(key.public)
	if err != nil {
		return nil, fmt.Errorf("verify a token: %w: the signature is wrong", ErrRejected)
	}
	return i.read(payload)
}

// read returns the claims of a payload that we signed, while it is good.
func (i *Issuer) read(payload []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil {
		return nil, fmt.Errorf("verify a token: %w: its payload holds no claims", ErrRejected)
	}
	seconds := func(name string) int64 {
		number, _ := claims[name].(json.Number)
		n, _ := number.Int64() // 0 for what is none: long ago
		return n
	}
	now := i.cfg.Now().Unix()
	switch {
	case claims["iss"] != i.cfg.URL:
		return nil, fmt.Errorf("verify a token: %w: it says another issuer", ErrRejected)
	case now >= seconds("exp"):
		return nil, fmt.Errorf("verify a token: %w: it has expired", ErrRejected)
	case now < seconds("nbf"):
		return nil, fmt.Errorf("verify a token: %w: it is not good yet", ErrRejected)
	}
	return claims, nil
}

// lookup returns the key of an ID. One that we do not know may be another server's newest: we look at the shelf, but
// not at the pace of whoever sends us such IDs.
func (i *Issuer) lookup(ctx context.Context, id string) (key, error) {
	k, err := i.current(ctx)
	if err != nil {
		return key{}, err
	}
	if known, ok := k.find(id); ok {
		return known, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := i.cfg.Now(); now.Sub(i.sought) >= minLook {
		i.sought = now
		if k, err = i.load(ctx); err != nil {
			return key{}, err
		}
	} else {
		k = i.held.Load()
	}
	if known, ok := k.find(id); ok {
		return known, nil
	}
	return key{}, fmt.Errorf("%w: its key is none of ours", ErrRejected)
}
