package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
)

// Exit codes of a run whose command did not start, as shells and env(1) use them.
const (
	ExitOwn       = 125 // our own failure
	ExitNotRun    = 126 // the command was found and cannot be run
	ExitNotFound  = 127 // the command was not found
	exitSignalled = 128 // plus the signal's number
)

// OnLoss says what becomes of the command when a lease ends under it.
type OnLoss string

// What becomes of the command.
const (
	Kill OnLoss = "kill" // SIGTERM, and SIGKILL after the grace time
	Warn OnLoss = "warn" // it is only told on standard error
)

// Timing of a run.
const (
	// DefaultGrace is the time from SIGTERM to SIGKILL.
	DefaultGrace    = 10 * time.Second
	releaseTimeout  = 10 * time.Second
	proofWait       = 5 * time.Second // for the target to confirm the end; it usually takes milliseconds
	doubleInterrupt = time.Second     // between two interrupts that mean it
)

// Run is one command with leases around it.
type Run struct {
	Client   *client.Client
	Roles    []RoleRef
	TTL      *api.Duration // of each lease; nil: the role's default
	Reason   string        // recorded with each decision
	Command  []string      // the program and its arguments
	Env      []string      // of the command, before the credentials
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	OnLoss   OnLoss                    // empty: [Kill]
	Grace    time.Duration             // 0: [DefaultGrace]
	Dir      string                    // parent of the private directory; empty: that for temporary files
	Acquired func(*client.Lease) error // keeps the receipt of each lease; an error ends the run before it begins; nil: nobody wants receipts
	Keep     func(context.Context)     // runs beside the command, for what the evidence hangs on; nil: there is nothing to keep
	Tell     func(string)              // told what happens to the leases, a line at a time; may be called concurrently
}

// Do acquires the leases, runs the command, and releases the leases when it ends. It returns the command's exit
// code, 128 plus the number of the signal that killed it, or one of the codes above with an error when it did not
// start.
//
// The command stays in our process group, so that an interrupt typed at the terminal reaches it directly; other
// signals are passed on. Two interrupts within a second kill it.
func (r Run) Do(ctx context.Context) (int, error) {
	program, err := exec.LookPath(r.Command[0])
	if err != nil {
		return startCode(err), fmt.Errorf("command %q: %w", r.Command[0], plain(err))
	}
	signals := listen()
	defer signals.stop()
	defer r.keep(ctx)()
	files := &runtimeDir{parent: r.Dir}
	defer func() { _ = files.remove() }() // what is left is private, and opens nothing once its lease has ended

	outside := r.outside()
	passes, signalled, err := r.acquire(ctx, signals, outside)
	leases := ownLeases(passes)
	defer r.release(leases)
	if signalled != nil {
		return exitSignalled + int(number(signalled)), fmt.Errorf("%v before the command started", signalled)
	}
	if err != nil {
		return ExitOwn, err
	}
	environment, err := r.environment(passes, outside, files)
	if err != nil {
		return ExitOwn, err
	}
	command := exec.Command(program, r.Command[1:]...)
	command.Args[0] = r.Command[0]
	command.Env = environment
	command.Stdin, command.Stdout, command.Stderr = r.Stdin, r.Stdout, r.Stderr
	command.WaitDelay = time.Second // pipes that a grandchild keeps open do not keep the leases alive
	if err := command.Start(); err != nil {
		return startCode(err), fmt.Errorf("command %q: %w", r.Command[0], plain(err))
	}
	return r.attend(ctx, command, leases, signals), nil
}

// pass is what a run has for one role: a lease of its own, or the use of one that a run outside holds.
type pass struct {
	role      RoleRef
	lease     *client.Lease // nil: the run outside renews and releases it
	variables []Variable    // of the credential
}

// ownLeases returns the leases that are ours to renew and release.
func ownLeases(passes []pass) (leases []*client.Lease) {
	for _, p := range passes {
		if p.lease != nil {
			leases = append(leases, p.lease)
		}
	}
	return leases
}

// acquire gets a pass for each role, one after the other. Those it got are returned with an error too.
func (r Run) acquire(ctx context.Context, signals *signals, outside []offer) (passes []pass, signalled os.Signal, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, role := range r.Roles {
			if variables, ok := r.borrow(ctx, role, outside); ok {
				passes = append(passes, pass{role: role, variables: variables})
				continue
			}
			var lease *client.Lease
			if lease, err = r.Client.Acquire(ctx, api.AcquireRequest{Role: role.Role, TTL: r.TTL, Reason: r.Reason}); err != nil {
				return
			}
			passes = append(passes, pass{role: role, lease: lease})
			r.tellAcquired(lease)
			if r.Acquired == nil {
				continue
			}
			if err = r.Acquired(lease); err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-done:
			return passes, signalled, err
		case signal := <-signals.in:
			if !isEnding(signal) {
				continue
			}
			signalled = signal
			cancel()
		}
	}
}

// keep begins to keep what the evidence hangs on, and returns what ends that.
func (r Run) keep(ctx context.Context) (end func()) {
	if r.Keep == nil {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { r.Keep(ctx) })
	return func() {
		stop()
		kept.Wait()
	}
}

// tellAcquired tells what was acquired.
func (r Run) tellAcquired(lease *client.Lease) {
	info := lease.Info()
	text := fmt.Sprintf("lease %s of role %q until %s", info.ID, info.Role, moment(info.ExpiresAt))
	if lease.Clamped {
		text += " (the role allows no longer ttl)"
	}
	r.Tell(text)
}

// moment is a time for people.
func moment(t api.Time) string { return t.UTC().Format(time.RFC3339) }

// environment returns what the command gets, and refuses two credentials for one name.
func (r Run) environment(passes []pass, outside []offer, files *runtimeDir) ([]string, error) {
	var all []Variable
	var offers []offer
	owner := map[string]RoleRef{}
	for _, p := range passes {
		if p.lease != nil {
			var err error
			if p.variables, err = handOver(p.role, p.lease, files); err != nil {
				return nil, err
			}
			if info := p.lease.Info(); info.Share == api.ShareRun {
				offers = append(offers, newOffer(r.server(), p.role, info.ID, p.variables))
			}
		}
		for _, v := range p.variables {
			if other, taken := owner[v.Name]; taken {
				return nil, &ClashError{Variable: v.Name, First: other, Second: p.role}
			}
			owner[v.Name] = p.role
		}
		all = append(all, p.variables...)
	}
	return withOffers(merge(r.Env, all), offers, outside)
}

// handOver returns the variables for a lease's credential, with what must be a file in one.
func handOver(role RoleRef, lease *client.Lease, files *runtimeDir) ([]Variable, error) {
	file := ""
	if ending, text := NeedsFile(lease.Credential); !text.IsZero() {
		var err error
		if file, err = files.write(lease.ID()+ending, text.Reveal()); err != nil {
			return nil, err
		}
	}
	variables, err := Variables(role.Prefix, lease.Credential, file)
	if err != nil {
		return nil, fmt.Errorf("role %q: %w", role.Role, err)
	}
	return variables, nil
}

// ClashError says that two roles would set the same variable.
type ClashError struct {
	Variable      string
	First, Second RoleRef
}

// Error names both roles.
func (e *ClashError) Error() string {
	return fmt.Sprintf("roles %q and %q both set %s", e.First, e.Second, e.Variable)
}

// loss is a lease that ended under the command.
type loss struct{ err error }

// attend stays with the running command until it ends, and returns its exit code.
func (r Run) attend(ctx context.Context, command *exec.Cmd, leases []*client.Lease, signals *signals) int {
	holding, letGo := context.WithCancel(context.WithoutCancel(ctx))
	var holders sync.WaitGroup
	defer holders.Wait()
	defer letGo()
	lost := make(chan loss, len(leases))
	for _, lease := range leases {
		holders.Go(func() {
			if err := lease.Hold(holding, client.OnNotice(r.tellNotice)); err != nil {
				lost <- loss{err}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		command.Wait() // what matters is in ProcessState
		close(ended)
	}()
	w := &watch{run: r, command: command, cancelled: ctx.Done()}
	for {
		select {
		case <-ended:
			return exitCode(command.ProcessState)
		case signal := <-signals.in:
			w.onSignal(signal)
		case <-w.calm:
			w.interrupted, w.calm = false, nil
		case l := <-lost:
			w.onLoss(l)
		case <-w.cancelled:
			w.cancelled = nil
			w.terminate()
		case <-w.overdue:
			w.overdue = nil
			r.Tell("the command did not end in time and is killed")
			command.Process.Kill()
		}
	}
}

// tellNotice tells of renewals that failed; those that go well are nobody's business.
func (r Run) tellNotice(n client.Notice) {
	switch {
	case n.Err != nil && n.Final:
		r.Tell(fmt.Sprintf("lease %s will not be renewed and ends at %s: %v", n.Lease.ID, moment(n.Lease.ExpiresAt), n.Err))
	case n.Err != nil:
		r.Tell(fmt.Sprintf("renewal goes on being tried until %s: %v", moment(n.Lease.ExpiresAt), n.Err))
	case n.Final:
		r.Tell(fmt.Sprintf("lease %s has its role's longest life and ends at %s", n.Lease.ID, moment(n.Lease.ExpiresAt)))
	}
}

// watch is what attend knows about a running command. One goroutine owns it.
type watch struct {
	run         Run
	command     *exec.Cmd
	cancelled   <-chan struct{}  // nil once seen
	interrupted bool             // an interrupt came less than doubleInterrupt ago
	calm        <-chan time.Time // when that ends
	overdue     <-chan time.Time // when the command should have ended; nil: no hurry
}

// onSignal passes a signal on.
func (w *watch) onSignal(signal os.Signal) {
	if signal == os.Interrupt {
		if w.interrupted {
			w.run.Tell("interrupted twice: the command is killed")
			w.command.Process.Kill()
			return
		}
		w.interrupted, w.calm = true, time.After(doubleInterrupt)
	}
	if isTyped(signal) || !isForwarded(signal) {
		return // the terminal gave it to the command as well
	}
	w.command.Process.Signal(signal) // fails when the command is gone already, which is news that comes anyway
}

// onLoss tells of a lost lease and, unless the user wants otherwise, ends the command: what it does without its
// credential is errors at best.
func (w *watch) onLoss(l loss) {
	if w.run.OnLoss == Warn {
		w.run.Tell(l.err.Error())
		return
	}
	w.run.Tell(l.err.Error() + "; the command is told to end")
	w.terminate()
}

// terminate sends SIGTERM now and has SIGKILL follow.
func (w *watch) terminate() {
	if w.overdue != nil {
		return
	}
	grace := w.run.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	w.overdue = time.After(grace)
	w.command.Process.Signal(syscall.SIGTERM)
}

// release ends all leases side by side. It has its own deadline: nothing that ended the command may keep it from
// this.
func (r Run) release(leases []*client.Lease) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, lease := range leases {
		all.Go(func() {
			wait, bounded := proofWait, lease.Info().Revocation == "bounded"
			if bounded {
				wait = 0 // there is no proof before its time is up
			}
			if lease.Credential.Type == "kubernetes" {
				wait = 0 // API servers take seconds to forget a token, and the server waits for the proof by itself
			}
			info, err := lease.Release(ctx, wait)
			switch {
			case err == nil && bounded:
				r.Tell(fmt.Sprintf("lease %s released; nobody can pull its credential, which lives until %s", info.ID, moment(info.ExpiresAt)))
			case err != nil:
				r.Tell(fmt.Sprintf("%v; it ends by itself at %s", err, moment(info.ExpiresAt)))
			case info.State != "revoked":
				r.Tell(fmt.Sprintf("lease %s released; its target has not confirmed the end yet, and is asked until it does", info.ID))
			default:
				r.Tell(fmt.Sprintf("lease %s released", info.ID))
			}
		})
	}
	all.Wait()
}

// exitCode is the code of a command that ended.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignalled + int(status.Signal())
	}
	return state.ExitCode()
}

// startCode is the code of a command that did not start.
func startCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return ExitNotFound
	}
	return ExitNotRun
}

// plain takes the path off an error of package exec or os: our own message has it.
func plain(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("not found")
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		return e.Err
	}
	return err
}
