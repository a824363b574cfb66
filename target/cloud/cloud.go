// Package cloud holds what the targets gcp and azure share: the requests that they make, a token of ours that a cloud gives
// one of its own for, and the life of a principal that is made for one lease.
//
// It owns two kinds of target, each over one cloud's side of it. [Tokens] hands out a token of a principal that exists:
// nobody can pull it, and a lease is revoked when the last token that could have been given for it has expired.
// [Principals] makes a principal per lease, hands out its token, and takes all of it away again.
//
// It promises that no key of a cloud is held, that names and the subjects of our tokens are functions of the role or the
// lease alone, and that what it says of an end is no more than the cloud's documentation says.
//
// It keeps no state but the token that it manages with, and must not import anything internal. Both clouds' sides were
// written by published wire formats, and are not verified against the real services.
package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
)

// subjectTTL is how long a token of ours lives that a cloud is shown: it is used at once.
const subjectTTL = 5 * time.Minute

// Order is a token that the cloud is to accept.
type Order struct {
	ID       string // jti
	Subject  string
	Audience string
	TTL      time.Duration
}

// Held is what the store knows of a lease.
type Held struct {
	Rights    json.RawMessage // of its role when it was granted; nil for a lease that the store does not know
	HandedOut bool            // somebody may have its credential
	Until     time.Time       // when it ends, as Grant's TTL said
}

// Config is what all kinds need.
type Config struct {
	Instance string // the installation, 4 to 6 characters of lowercase base32: a part of every name
	Name     string // of the target in access files: the subject of our own token says it
	Issuer   string // URL of the issuer that signs
	// Sign signs with RS256, which both clouds take.
	Sign func(context.Context, Order) (secret.Text, error)
	// Until tells until when the lease of a token that was handed out lives; the zero time where none was.
	Until func(ctx context.Context, lease string) (time.Time, error)
	// Lease tells what a lease was granted as.
	Lease func(ctx context.Context, lease string) (Held, error)
	// Roles gives the rights of the roles that the target has now, by name; nil where nobody knows. Only a check asks.
	Roles func(context.Context) (map[string]json.RawMessage, error)
	Now   func() time.Time
	// Known says that a credential which was handed out may live at this target. A place without our mark is then another
	// place, where a principal that is not there proves nothing. Only [Principals] looks.
	Known bool
	// Client speaks to the cloud; one that trusts the system's authorities unless given. Redirects are refused.
	Client *http.Client
	Log    *slog.Logger // nil: nothing is logged
}

// Token is what a cloud gave.
type Token struct {
	Text       secret.Text
	Expires    time.Time // it does not live longer
	Attributes map[string]any
}

// ManagerSubject is the subject of the tokens by which Daypass itself manages a target. No role can have a subject that
// begins so.
func ManagerSubject(targetName string) string { return "daypass:target:" + targetName }

// LeaseSubject is the subject that the principal of one lease trusts, and nobody else.
func LeaseSubject(lease string) string { return "daypass:lease:" + lease }

// sign signs a token of ours for a cloud.
func (c Config) sign(ctx context.Context, name, subject, audience string) (secret.Text, error) {
	return c.Sign(ctx, Order{ID: "dp_" + c.Instance + "_" + name, Subject: subject, Audience: audience, TTL: subjectTTL})
}

// SignFor signs a token of ours that stands for one lease.
func (c Config) SignFor(ctx context.Context, lease, audience string) (secret.Text, error) {
	return c.sign(ctx, lease, LeaseSubject(lease), audience)
}

// SignManager signs a token of ours that stands for Daypass itself.
func (c Config) SignManager(ctx context.Context, audience string) (secret.Text, error) {
	return c.sign(ctx, "manage", ManagerSubject(c.Name), audience)
}

// ReadRights reads a role's section back from the form in which the configuration keeps it, strictly.
func ReadRights[R interface{ Validate() error }](text json.RawMessage) (rights R, err error) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rights); err != nil {
		return rights, errors.New("the rights are not those of such a role")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return rights, errors.New("the rights are not those of such a role: something follows them")
	}
	return rights, rights.Validate()
}

// Pause waits for d, or as long as ctx allows.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Eventually asks until it is so, an error comes, or ctx is over. Both clouds show some of what was changed only after a
// while.
func Eventually(ctx context.Context, so func() (bool, error)) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		if done, err := so(); done || err != nil {
			return err
		}
		if err := Pause(ctx, wait); err != nil {
			return fmt.Errorf("it is not so yet: %w", err)
		}
	}
}
