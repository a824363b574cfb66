package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/daypass/daypass/internal/rig"
)

// hand is the floor: the SQL that makes a login, by hand, as the broker's own administrator.
type hand struct {
	pool     *pgxpool.Pool
	verifier string
	made     atomic.Int64
}

// newHand connects so many callers. The verifier is ready: a broker that is measured computes one each time.
func newHand(ctx context.Context, r *rig.Rig, callers, rounds int) (*hand, error) {
	config, err := pgxpool.ParseConfig(r.Postgres.URL("daypass", "change-me", rig.Database))
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(callers)
	config.MinConns = config.MaxConns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	verifier, err := scramVerifier(rounds)
	return &hand{pool: pool, verifier: verifier}, err
}

// scramVerifier is what PostgreSQL keeps of a password (RFC 5803 in its own spelling).
func scramVerifier(rounds int) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, rand.Text(), salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}

// create makes one login with membership in a group.
func (h *hand) create(ctx context.Context, _ int) error {
	_, err := h.pool.Exec(ctx, fmt.Sprintf("create role hand_%d login password '%s' valid until 'infinity' in role orders_readers", h.made.Add(1), h.verifier))
	return err
}

// createGranted makes one login with rights of its own, as people write it by hand.
func (h *hand) createGranted(ctx context.Context, _ int) error {
	n := h.made.Add(1)
	_, err := h.pool.Exec(ctx, fmt.Sprintf("create role hand_%[1]d login password '%[2]s'; grant select on all tables in schema public to hand_%[1]d", n, h.verifier))
	return err
}

// drop removes everything that was made, in groups of a hundred, and closes the connections.
func (h *hand) drop(ctx context.Context) error {
	defer h.pool.Close()
	rows, err := h.pool.Query(ctx, "select rolname from pg_roles where rolname like 'hand\\_%'")
	if err != nil {
		return err
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for len(names) > 0 {
		group := names[:min(100, len(names))]
		names = names[len(group):]
		list := strings.Join(group, ", ")
		if _, err := h.pool.Exec(ctx, "drop owned by "+list+"; drop role "+list); err != nil {
			if _, err := h.pool.Exec(ctx, "drop role "+list); err != nil {
				return err
			}
		}
	}
	return nil
}
