package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/target"
)

// Accounts is one cloud's side of [Principals]: what a lease has of its own there, under a name that is a function of the
// instance and the lease. Every method may be called again after any outcome.
type Accounts interface {
	// Kind is what access files call the cloud.
	Kind() string
	// Valid refuses what the cloud cannot be asked for. It asks nobody.
	Valid(g target.Grant) error
	// Look finds the principal of a lease.
	Look(ctx context.Context, lease string) (Shell, error)
	// Make makes the principal of a lease, which may do nothing, with a note on it. Where there is one, also one that has
	// ended, it leaves that as it is. It returns what is there then.
	Make(ctx context.Context, lease, note string) (Shell, error)
	// Endow lets the principal do what the role says, until a time at most where the cloud keeps such times.
	Endow(ctx context.Context, g target.Grant, until time.Time) error
	// Enter gives a token of the principal.
	Enter(ctx context.Context, g target.Grant) (Token, error)
	// Strip takes away for good what the principal may do, and what gives tokens of it. Afterwards it is [Ended], or will
	// be when it is noted. Rights are those that it was made with, nil where nobody knows.
	Strip(ctx context.Context, lease string, rights json.RawMessage) error
	// Note puts a note of its end on a principal, which is [Ended] from then on.
	Note(ctx context.Context, lease, note string) error
	// Destroy takes the principal away, and whatever the cloud keeps of it that can be taken away.
	Destroy(ctx context.Context, lease string) error
	// List lists principals, and leases whose principal is gone while something of it is left, which are [Live].
	List(ctx context.Context, do func(lease string, s Shell) error) error
	// Sweep takes away what is left of principals that are gone.
	Sweep(ctx context.Context) error
	// Mark reads the text that [Accounts.SetMark] keeps, empty where there is none.
	Mark(ctx context.Context) (string, error)
	// SetMark keeps a text. With fresh it returns false where another was there first.
	SetMark(ctx context.Context, text string, fresh bool) (bool, error)
	// Inspect says whether the cloud takes the manager's token, and what the manager may do, too little or too much. The role is
	// one of the target's, for what is to be typed.
	Inspect(ctx context.Context, role string) ([]target.Finding, error)
}

// Shell is a principal as the cloud shows it.
type Shell struct {
	State State
	Note  string
}

// State is what a principal is.
type State int

// The states of a principal.
const (
	None  State = iota // there is none of that name
	Live               // it may be entered, or something of it is left
	Ended              // it was stripped for good, and no grant that finds it hands anything out
)

// Terms are a cloud's times.
type Terms struct {
	Longest time.Duration // of a lease
	Room    time.Duration // how long after the end of its lease a token may live, if nobody ends it
	Settle  time.Duration // how long after its end a principal may still be let in somewhere
	Keep    time.Duration // how long a request of ours may come late: then a tomb has done its work
	Class   target.Revocation
}

// Principals makes a principal per lease at one cloud. Its methods may be called concurrently.
//
// What makes late requests harmless: a principal is made first, under the name of its lease, and the later steps need it. A
// lease of which no credential was handed out leaves a tomb when it is revoked: a principal of that name which has ended.
// Nothing can be made in its place, and nothing brings it back. It goes when whatever was under way is too old for the cloud
// to take. Where the credential was handed out the grant has ended, and the name is left free; if somebody else deletes the
// principal of such a lease, a tomb says since when that was seen.
type Principals struct {
	cfg      Config
	accounts Accounts
	terms    Terms
	met      atomic.Bool // our mark was seen
}

var (
	_ target.Target  = (*Principals)(nil)
	_ target.Lister  = (*Principals)(nil)
	_ target.Marker  = (*Principals)(nil)
	_ target.Expirer = (*Principals)(nil)
	_ target.Cleaner = (*Principals)(nil)
	_ target.Checker = (*Principals)(nil)
)

// NewPrincipals makes a target of one cloud. It connects to nothing.
func NewPrincipals(cfg Config, accounts Accounts, terms Terms) (*Principals, error) {
	if len(cfg.Instance) < 4 || len(cfg.Instance) > 6 || strings.Trim(cfg.Instance, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return nil, fmt.Errorf("instance %q: want 4 to 6 characters of lowercase base32", cfg.Instance)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Principals{cfg: cfg, accounts: accounts, terms: terms}, nil
}

// Grant makes a principal, gives it what the role says, and a token last.
func (p *Principals) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	c, err := p.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %.40q on %s: %w", g.Lease, p.accounts.Kind(), err)
	}
	return c, nil
}

func (p *Principals) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	if err := p.begin(ctx, g); err != nil {
		return c, target.NotDone(err)
	}
	until := p.cfg.Now().Add(g.TTL).UTC().Truncate(time.Second)
	shell, err := p.accounts.Make(ctx, g.Lease, note{until: until.Add(p.terms.Room), holder: g.Holder.Text(maxHolder)}.String())
	if err == nil && shell.State == Ended {
		err = target.NotDone(errEnded)
	}
	if err != nil {
		return c, fmt.Errorf("make its principal: %w", err)
	}
	err = p.known(ctx, g.Lease, func(ctx context.Context) error { return p.accounts.Endow(ctx, g, until) })
	if err != nil {
		return c, maybeDone("give its principal what the role says", err)
	}
	var given Token
	err = p.known(ctx, g.Lease, func(ctx context.Context) (err error) {
		given, err = p.accounts.Enter(ctx, g)
		return err
	})
	if err != nil {
		return c, maybeDone("get a token of its principal", err)
	}
	// A revocation may have come between: its tomb was passed, and what came after it is taken away by the next one.
	if shell, err := p.accounts.Look(ctx, g.Lease); err == nil && shell.State == Ended {
		return c, errEnded
	}
	return handOver(p.cfg, p.accounts.Kind(), given, g.TTL+p.terms.Room, p.terms.Class)
}

// settling is how long a new principal is given to be known, of the 30 seconds that a grant has.
const settling = 20 * time.Second

// known does something again for as long as the cloud says that it does not know the principal, and the lease lives.
func (p *Principals) known(ctx context.Context, lease string, do func(context.Context) error) error {
	settled, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	var refusal error
	err := Eventually(settled, func() (bool, error) {
		refusal = do(settled)
		if _, early := errors.AsType[*earlyError](refusal); !early {
			return true, nil
		}
		if shell, err := p.accounts.Look(settled, lease); err == nil && shell.State == Ended {
			return false, errEnded
		}
		return false, nil
	})
	return errors.Join(err, refusal)
}

// earlyError is what a cloud answers that does not know yet what was made a moment ago.
type earlyError struct{ error }

func (e *earlyError) Unwrap() error { return e.error }

// Early marks an answer of these statuses as one that may change when the cloud knows what was made a moment ago. Endow and
// Enter of [Accounts] are then called again.
func Early(err error, statuses ...int) error {
	if IsStatus(err, statuses...) {
		return &earlyError{err}
	}
	return err
}

// errEnded is what a grant says that finds the tomb of its lease.
var errEnded = errors.New("the lease has ended")

// maybeDone hides that the last request of several changed nothing: the ones before it did.
func maybeDone(what string, err error) error {
	if errors.Is(err, target.ErrNotDone) {
		return fmt.Errorf("%s: %s", what, err.Error())
	}
	return fmt.Errorf("%s: %w", what, err)
}

// begin is what Grant looks at before it does anything.
func (p *Principals) begin(ctx context.Context, g target.Grant) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := target.CheckLease(g.Lease); err != nil {
		return err
	}
	if g.TTL > p.terms.Longest {
		return &target.RefusalError{Text: fmt.Sprintf("the cloud gives tokens for %s at most: ask for less, or lower ttl.max of the role", p.terms.Longest)}
	}
	return p.accounts.Valid(g)
}

// Revoke takes away what a lease has, and waits, where somebody may have its token, until the cloud lets nobody in with it.
func (p *Principals) Revoke(ctx context.Context, lease string) error {
	err := p.revoke(ctx, lease)
	if _, waits := errors.AsType[*target.UnexpiredError](err); err == nil || waits {
		return err
	}
	return fmt.Errorf("revoke lease %.40q on %s: %w", lease, p.accounts.Kind(), err)
}

func (p *Principals) revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	held, err := p.cfg.Lease(ctx, lease)
	if err != nil {
		return fmt.Errorf("what was granted: %w", err)
	}
	shell, err := p.accounts.Look(ctx, lease)
	if err != nil {
		return fmt.Errorf("look for its principal: %w", err)
	}
	if shell.State == None {
		if err := p.meet(ctx); err != nil {
			return err
		}
		return p.missing(ctx, lease, held)
	}
	end, err := p.end(ctx, lease, shell, held)
	if err != nil {
		return err
	}
	if until := p.letIn(end, held); p.cfg.Now().Before(until) {
		return &target.UnexpiredError{Until: until}
	}
	if held.HandedOut {
		return p.destroy(ctx, lease)
	}
	return nil // it stays as a tomb
}

// end strips a principal and sees to it that a note says since when.
func (p *Principals) end(ctx context.Context, lease string, shell Shell, held Held) (note, error) {
	if err := p.accounts.Strip(ctx, lease, held.Rights); err != nil {
		return note{}, fmt.Errorf("take its rights away: %w", err)
	}
	if n := readNote(shell.Note); shell.State == Ended && !n.ended.IsZero() {
		return n, nil
	}
	// A lease that the store does not know may have been handed out before the store was restored.
	if held.Rights == nil {
		p.cfg.Log.WarnContext(ctx, "the principal of a lease that the store does not know is ended", "lease", lease)
	}
	n := note{ended: p.stamp(), unused: !held.HandedOut && held.Rights != nil}
	if err := p.accounts.Note(ctx, lease, n.String()); err != nil {
		return n, fmt.Errorf("note its end: %w", err)
	}
	return n, nil
}

// letIn is until when the cloud may let in who has the token of a principal that has ended.
func (p *Principals) letIn(end note, held Held) time.Time {
	if end.unused {
		return time.Time{}
	}
	until := end.ended.Add(p.terms.Settle)
	if !held.Until.IsZero() {
		if dead := held.Until.Add(p.terms.Room); dead.Before(until) {
			return dead
		}
	}
	return until
}

// missing ends a lease that has no principal. Where its credential was handed out there was one, and nothing says since when
// it is gone: its tomb says that it ended now, so that it is waited for like any other.
func (p *Principals) missing(ctx context.Context, lease string, held Held) error {
	n := note{ended: p.stamp(), unused: !held.HandedOut}
	if n.unused {
		return p.bury(ctx, lease, n, nil)
	}
	if until := p.letIn(n, held); p.cfg.Now().Before(until) {
		if err := p.bury(ctx, lease, n, held.Rights); err != nil {
			return err
		}
		return &target.UnexpiredError{Until: until}
	}
	// The cloud may not show yet what it has, or somebody else deleted the principal alone.
	if err := p.accounts.Strip(ctx, lease, held.Rights); err != nil {
		return fmt.Errorf("take its rights away: %w", err)
	}
	return p.destroy(ctx, lease)
}

// stamp is the time of an end, as notes say it.
func (p *Principals) stamp() time.Time { return p.cfg.Now().UTC().Truncate(time.Second) }

// bury makes the tomb of a lease that has no principal.
func (p *Principals) bury(ctx context.Context, lease string, n note, rights json.RawMessage) error {
	if _, err := p.accounts.Make(ctx, lease, n.String()); err != nil {
		return fmt.Errorf("make its tomb: %w", err)
	}
	if err := p.accounts.Strip(ctx, lease, rights); err != nil {
		return fmt.Errorf("shut its tomb: %w", err)
	}
	if err := p.accounts.Note(ctx, lease, n.String()); err != nil {
		return fmt.Errorf("mark its tomb: %w", err)
	}
	return nil
}

// destroy takes a principal away, and looks until it is gone.
func (p *Principals) destroy(ctx context.Context, lease string) error {
	if err := p.accounts.Destroy(ctx, lease); err != nil {
		return fmt.Errorf("delete its principal: %w", err)
	}
	err := Eventually(ctx, func() (bool, error) {
		shell, err := p.accounts.Look(ctx, lease)
		return shell.State == None, err
	})
	if err != nil {
		return fmt.Errorf("see its principal gone: %w", err)
	}
	return nil
}
