package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/daypass/daypass/secret"
)

// defaultRounds is the least that RFC 7677 asks for, and what PostgreSQL and every driver use.
const defaultRounds = 4096

// verifier computes what the server keeps of a password (RFC 5802 and 7677, in PostgreSQL's notation), so that
// the password itself never reaches the server, its logs or its statistics. Passwords of ours are plain ASCII, so
// that SASLprep leaves them as they are.
func verifier(password secret.Text, rounds int) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	return saltedVerifier(password, salt, rounds)
}

func saltedVerifier(password secret.Text, salt []byte, rounds int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive a scram verifier: %w", err)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	base64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, base64(salt), base64(stored[:]), base64(sign(salted, "Server Key"))), nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
