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

// password is a password of ours with what the server keeps of it.
type password struct {
	text     secret.Text
	verifier string
}

// passwords are made ahead of need, by callers that wait for the server anyway: stretching one takes most of a
// millisecond. Each is given out once. They open nothing until a login is made with them.
type passwords chan password

// sparePasswords is how many are kept: as many as ask at once on a busy day.
const sparePasswords = 32

// next returns a password that was never used.
func (p passwords) next(rounds int) (password, error) {
	if rounds == defaultRounds {
		select {
		case spare := <-p:
			return spare, nil
		default:
		}
	}
	return newPassword(rounds)
}

// refill makes a password for the next caller, where one of many rounds was taken.
func (p passwords) refill(rounds int) {
	if rounds != defaultRounds || len(p) == cap(p) {
		return
	}
	spare, err := newPassword(rounds)
	if err != nil {
		return // whoever needs one is told
	}
	select {
	case p <- spare:
	default:
	}
}

func newPassword(rounds int) (password, error) {
	text := secret.Random()
	kept, err := verifier(text, rounds)
	return password{text, kept}, err
}

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
