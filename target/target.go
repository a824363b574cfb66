// Package target says what Daypass asks of a system where it makes credentials.
//
// A target keeps two promises, and [targettest] holds every implementation to them:
//
//   - [Target.Grant] makes one credential for one lease, under a name that is a function of the instance and the
//     lease ID alone, so that a lost answer loses nothing: the name can be computed again.
//   - [Target.Revoke] returns nil only when no credential of the lease works, its sessions are closed, and no
//     earlier Grant that is still on its way can bring it to life again.
//
// Everything else is optional and is found by type assertion: [Lister], [Renewer], [Narrower], [Marker],
// [Expirer], [Checker], [Clock], [Cleaner].
//
// [targettest]: https://pkg.go.dev/github.com/daypass/daypass/target/targettest
package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/daypass/daypass/secret"
)

// ErrNotDone marks an error that is certain to have had no effect: nothing was made, nothing was changed. Any
// other error means that the outcome is unknown, which is the safe reading and therefore the default.
var ErrNotDone = errors.New("nothing was done")

// NotDone marks an error as one that changed nothing, with [ErrNotDone]. No error stays none.
func NotDone(err error) error {
	if err == nil || errors.Is(err, ErrNotDone) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrNotDone)
}

// RefusalError is the answer of Grant about a holder whom the role cannot serve, such as one without a claim that the
// credential must say. Nothing was done. The holder is told the text: it quotes nothing.
type RefusalError struct{ Text string }

func (e *RefusalError) Error() string { return e.Text }

// Is reports that nothing was done.
func (e *RefusalError) Is(err error) bool { return err == ErrNotDone }

// UnexpiredError is the answer of Revoke about a credential that nobody can pull and that has not expired yet. It is no
// failure: the lease stays revoking, and Revoke is asked again when the time has come.
type UnexpiredError struct {
	Until time.Time // when the credential is dead at the latest
}

func (e *UnexpiredError) Error() string {
	return "the credential cannot be pulled and lives until " + e.Until.UTC().Format(time.RFC3339)
}

// ErrUnreachable marks an error of a target that did not answer at all. Errors of the network and of deadlines are
// recognised without it. Only such errors open a target's circuit breaker: a target that refuses one role is well.
var ErrUnreachable = errors.New("the target cannot be reached")

// Target makes and destroys credentials in one system. Methods may be called concurrently, also for one lease.
type Target interface {
	// Grant makes a credential for g. Called again for the same lease it gives the same credential or one that
	// replaces it. A cancelled context leaves a state that Revoke can end.
	Grant(ctx context.Context, g Grant) (Credential, error)
	// Revoke returns nil only when no credential of the lease works, and none of an earlier, late-arriving
	// Grant ever will. A lease that was never granted is revoked all the same. About a credential of the class
	// [Bounded] it says an [UnexpiredError] until its time is up.
	Revoke(ctx context.Context, lease string) error
}

// Grant is the order for one credential.
type Grant struct {
	Lease  string          // lease ID: 20 characters of lowercase base32
	Role   string          // name of the role; keeps roles with equal rights apart, and is never part of a name at the target
	Rights json.RawMessage // the role's section for this kind of target, as the kind accepted it at load
	TTL    time.Duration   // how long the credential lives at most; the target counts it on its own clock
	Holder Holder          // whom the credential is for
}

// Holder is the principal that a lease is for, as its issuer attested it, for names and tags at a target that tell
// people who is behind a credential. Its text is of strangers' choosing: escape it for where it goes, and let no right
// and no name that Revoke must compute depend on it.
type Holder struct {
	Issuer    string         // name of the issuer in the access configuration
	IssuerURL string         // what the issuer calls itself, which never changes
	Subject   string         // who the issuer says it is
	Claims    map[string]any // the claims that the access configuration declares; read only
	Run       string         // what the workload's platform calls its run; empty where it has none
	Actors    []Actor        // who act for it, the one that does so now first; most often nobody
}

// Actor is one that acts for a holder: RFC 8693 §4.1.
type Actor struct {
	IssuerURL string
	Subject   string // empty where an issuer alone is named
}

// Credential is what opens the target. It is handed out once and never stored.
type Credential struct {
	Type       string                 // the kind of target, such as "postgres"
	Attributes map[string]any         // what is not secret: strings, integers and booleans
	Secrets    map[string]secret.Text // what is
	Revocation Revocation             // how this credential can be ended early
}

// Revocation is how truthfully a credential can be ended before its time.
type Revocation string

// The revocation classes.
const (
	Instant  Revocation = "instant"  // the target confirms its death
	Assisted Revocation = "assisted" // it is ended by a side action, such as a deny on its session
	Bounded  Revocation = "bounded"  // it cannot be pulled and dies at its expiry
)

// Offline is a target that makes credentials by itself, such as tokens that it signs.
type Offline interface {
	// Offline reports that Grant calls nobody and changes nothing anywhere: a credential that it returns, and that is
	// handed to nobody, never was. So it may be made before its lease is on the record, and thrown away.
	Offline() bool
}

// Lister lists the leases that have anything alive at the target now. It feeds reconciliation. Where several targets
// are parts of one system (two databases of one server) it lists the leases of all of them: look a lease up by its ID
// alone before calling it a stray.
type Lister interface {
	Leases(ctx context.Context) iter.Seq2[string, error]
}

// Renewer moves the expiry that the target itself enforces to ttl from now, on the target's clock. It never
// brings an ended credential back.
type Renewer interface {
	Renew(ctx context.Context, lease string, ttl time.Duration) error
}

// Narrower takes from the credentials that live what their roles have lost. It gives them nothing: widening a role is
// for new leases.
type Narrower interface {
	// Narrow is told what roles hold, by name, when that has changed and from time to time. It returns nil only when no
	// credential of these roles can do what its role cannot; what is under way at the target may still end well.
	// Credentials of roles that are not named keep what they have. Grants of older rights that end after it may give
	// them back, so that it is then called again.
	Narrow(ctx context.Context, roles map[string]json.RawMessage) error
}

// Mark is what a target remembers of the installation that uses it. A target whose mark is newer than the store
// tells of a store that was restored or copied.
type Mark struct {
	Instance string // the installation, 6 characters of lowercase base32
	Target   string // random name of this target, made when the store first met it; tells two servers apart
	Boot     int64  // counts the broker's starts
	Epoch    int64  // counts the store's restores
}

// After reports whether m was left by a later broker than n: one of a later epoch, or of a later boot of the same. A
// restore takes the count of boots back and that of epochs on.
func (m Mark) After(n Mark) bool {
	return m.Epoch > n.Epoch || m.Epoch == n.Epoch && m.Boot > n.Boot
}

// Marker keeps a [Mark] at the target.
type Marker interface {
	// Mark returns the mark found at the target, the zero Mark where there is none, and replaces it by m unless
	// the one found is of another target or comes [Mark.After] m.
	Mark(ctx context.Context, m Mark) (seen Mark, err error)
}

// Checker says what the administrator's own credential may do, too little or too much.
type Checker interface {
	Check(ctx context.Context) ([]Finding, error)
}

// Finding is one thing that [Checker] noticed.
type Finding struct {
	Severity Severity `json:"severity"`
	Role     string   `json:"role,omitempty"` // of ours that it is about; empty: the target
	Message  string   `json:"message"`        // what is wrong, naming the thing
	Fix      string   `json:"fix,omitempty"`  // what to type
}

// Severity says how bad a [Finding] is.
type Severity string

// The severities.
const (
	Note    Severity = "note"    // worth knowing
	Warning Severity = "warning" // more than needed, or a promise weakened
	Problem Severity = "problem" // something will not work
)

// Clock reads the target's own clock, which decides whether a jump of ours was real.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// Cleaner clears what dead leases left behind, such as tables they owned. It is apart from revocation: what is
// left can wait, and can never keep a lease from being revoked.
type Cleaner interface {
	// Clean makes one pass and returns what remains.
	Clean(ctx context.Context) (Residue, error)
}

// Residue counts what dead leases have left at a target.
type Residue struct {
	Leases  int `json:"leases"`  // dead leases whose remains could not be cleared yet
	Objects int `json:"objects"` // objects that they still own
}
