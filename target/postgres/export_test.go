package postgres

import (
	"context"

	"github.com/daypass/daypass/secret"
)

// Verifier makes a verifier as grants do, for tests that do by hand what grants do.
func Verifier(rounds int) (string, error) { return verifier(secret.Random(), rounds) }

// SaltedVerifier is the verifier of a password under a salt.
func SaltedVerifier(password string, salt []byte, rounds int) (string, error) {
	return saltedVerifier(secret.New(password), salt, rounds)
}

// Shards is the number of creators on PostgreSQL 16 and later.
const Shards = shards

// SessionSettings reads settings of a connection of p.
func SessionSettings(ctx context.Context, p *Postgres, names ...string) (values []string, err error) {
	err = p.control(ctx, func(ctx context.Context, c *conn) error {
		return c.QueryRow(ctx, "select array(select current_setting(n) from unnest($1::text[]) with ordinality u(n, i) order by i)", names).Scan(&values)
	})
	return values, err
}

// Passwords takes 2n passwords from a stock that n were made ahead for, with what the server would keep of them.
func Passwords(n int) (texts []secret.Text, verifiers []string, err error) {
	stock := make(passwords, n)
	for range n + 1 { // one more than there is room for
		stock.refill(defaultRounds)
	}
	for range 2 * n {
		one, err := stock.next(defaultRounds)
		if err != nil {
			return nil, nil, err
		}
		texts, verifiers = append(texts, one.text), append(verifiers, one.verifier)
	}
	return texts, verifiers, nil
}
