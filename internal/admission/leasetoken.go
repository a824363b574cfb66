package admission

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// tokenPrefix begins every lease token, so that one is easy to recognise when it leaks.
const tokenPrefix = "dpl_"

// IsLeaseToken reports whether a token says that it is that of a lease.
func IsLeaseToken(token secret.Text) bool { return strings.HasPrefix(token.Reveal(), tokenPrefix) }

// NewToken makes the token of a lease: the prefix, the lease's ID, by which it is found, and 256 random bits.
func NewToken(id lease.ID) secret.Text {
	return secret.New(tokenPrefix + string(id) + "_" + secret.Random().Reveal())
}

// HashToken is what the store keeps of the token of a lease.
func HashToken(token secret.Text) []byte { return Hash(token.Reveal()) }

// LeaseOfToken returns the lease whose token was shown.
func (g *Guard) LeaseOfToken(ctx context.Context, token secret.Text) (l store.Lease, err error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(token.Reveal(), tokenPrefix), "_")
	id, err := lease.ParseID(name)
	if err == nil {
		err = g.store.View(ctx, func(tx *store.Tx) (err error) {
			l, err = tx.Lease(id)
			return err
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return store.Lease{}, err
		}
	}
	if err != nil || subtle.ConstantTimeCompare(l.TokenHash, HashToken(token)) != 1 {
		g.reject("lease-token")
		return store.Lease{}, fault.New(fault.Unauthenticated, "read a lease token", "the lease token is not known here")
	}
	return l, nil
}

// Hash is SHA-256 over parts, each with its length before it, so that no two lists of parts look alike.
func Hash(parts ...string) []byte {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	return h.Sum(nil)
}
