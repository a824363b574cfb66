package postgres

import "github.com/daypass/daypass/secret"

// Verifier makes a verifier as grants do, for tests that do by hand what grants do.
func Verifier(rounds int) (string, error) { return verifier(secret.Random(), rounds) }

// SaltedVerifier is the verifier of a password under a salt.
func SaltedVerifier(password string, salt []byte, rounds int) (string, error) {
	return saltedVerifier(secret.New(password), salt, rounds)
}

// Shards is the number of creators on PostgreSQL 16 and later.
const Shards = shards
