package targettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// ErrLost is the error of a [Memory] whose answer was lost: the outcome is unknown to the caller.
var ErrLost = fmt.Errorf("the answer was lost: %w", target.ErrUnreachable)

// ErrDown is the error of a [Memory] that is down. It wraps [target.ErrNotDone] and [target.ErrUnreachable].
var ErrDown = fmt.Errorf("the target is down: %w: %w", target.ErrUnreachable, target.ErrNotDone)

// Step is a moment in an operation of [Memory] where a [Hook] runs.
type Step string

// The steps.
const (
	BeforeGrant  Step = "before grant"
	AfterGrant   Step = "after grant" // the credential exists, the answer is not given
	BeforeRevoke Step = "before revoke"
	AfterRevoke  Step = "after revoke"
	BeforeRenew  Step = "before renew"
	AfterRenew   Step = "after renew"
)

// Hook runs at each step of each operation, outside of all locks, and may block. Its error becomes the answer:
// before a step nothing has happened (the error should say so by wrapping [target.ErrNotDone] unless the test
// wants the caller in the dark); after a step it has.
type Hook func(ctx context.Context, step Step, lease string) error

// Memory is a target in memory: the one fake, held to the suite like the others. Several brokers may share one
// [System]; each opens a Memory of its own. The zero value is not usable: see [NewMemory].
type Memory struct {
	system *System

	mu   sync.Mutex // guards what follows
	hook Hook
	down bool
	lose bool
	held chan struct{} // requests wait for it to close; nil: the road is free
	road sync.WaitGroup
}

// System is what a [Memory] makes credentials in. Its methods are the view of the real thing: they never fail.
type System struct {
	mu      sync.Mutex // guards what follows
	now     func() time.Time
	ahead   time.Duration
	logins  map[string]*login
	buried  map[string]bool // revoked leases: refused for ever
	mark    target.Mark
	granted int
}

// login is one credential.
type login struct {
	password string
	until    time.Time
	role     string
	read     bool
}

// NewSystem makes an empty system on the clock now.
func NewSystem(now func() time.Time) *System {
	return &System{now: now, logins: map[string]*login{}, buried: map[string]bool{}}
}

// NewMemory opens a target in system, over a road of its own.
func NewMemory(system *System) *Memory { return &Memory{system: system} }

var (
	_ target.Target   = (*Memory)(nil)
	_ target.Lister   = (*Memory)(nil)
	_ target.Renewer  = (*Memory)(nil)
	_ target.Narrower = (*Memory)(nil)
	_ target.Marker   = (*Memory)(nil)
	_ target.Checker  = (*Memory)(nil)
	_ target.Clock    = (*Memory)(nil)
	_ target.Cleaner  = (*Memory)(nil)
)

// memoryRights is what a role may say of a Memory.
type memoryRights struct {
	Read *bool `json:"read"`
}

// MemoryRights are rights that a [Memory] accepts.
func MemoryRights() json.RawMessage { return json.RawMessage(`{"read":true}`) }

// LessMemoryRights are rights that a [Memory] accepts and that [System.Try] cannot use.
func LessMemoryRights() json.RawMessage { return json.RawMessage(`{"read":false}`) }

// readMemoryRights reports whether rights let a login read.
func readMemoryRights(text json.RawMessage) (read bool, err error) {
	var rights memoryRights
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&rights); err != nil || rights.Read == nil {
		return false, fmt.Errorf("rights are not those of a memory target: %w", target.ErrNotDone)
	}
	return *rights.Read, nil
}

// SetHook installs hook, or removes it when it is nil.
func (m *Memory) SetHook(hook Hook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// SetDown makes every operation fail with [ErrDown] until it is undone.
func (m *Memory) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// LoseAnswers makes every operation happen and then answer [ErrLost] until it is undone.
func (m *Memory) LoseAnswers(lose bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose = lose
}

// Hold keeps requests on the road: callers give up with their context, and what they asked for happens at
// [Memory.Heal]. This is the late grant.
func (m *Memory) Hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		m.held = make(chan struct{})
	}
}

// Heal undoes Hold, LoseAnswers and SetDown, and returns when all that was held has happened.
func (m *Memory) Heal() {
	m.mu.Lock()
	if m.held != nil {
		close(m.held)
	}
	m.held, m.lose, m.down = nil, false, false
	m.mu.Unlock()
	m.road.Wait()
}

// over takes a request over the road: do happens at the system, once, whether or not the caller still waits.
func (m *Memory) over(ctx context.Context, before, after Step, lease string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w: %w", before, lease, target.ErrNotDone, err)
	}
	m.mu.Lock()
	down, held, hook := m.down, m.held, m.hook
	if held != nil && !down {
		m.road.Add(1)
	}
	m.mu.Unlock()
	if down {
		return fmt.Errorf("%s %s: %w", before, lease, ErrDown)
	}
	if hook != nil {
		if err := hook(ctx, before, lease); err != nil {
			if held != nil {
				m.road.Done()
			}
			return err
		}
	}
	if held != nil {
		return m.late(ctx, held, lease, do)
	}
	if err := do(); err != nil {
		return err
	}
	if hook != nil {
		if err := hook(ctx, after, lease); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lose {
		return fmt.Errorf("%s %s: %w", after, lease, ErrLost)
	}
	return nil
}

// late does what was asked when the road is free again, and answers those who still wait.
func (m *Memory) late(ctx context.Context, held <-chan struct{}, lease string, do func() error) error {
	answer := make(chan error, 1)
	go func() {
		defer m.road.Done()
		<-held
		answer <- do()
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("lease %s: %w: %w", lease, ErrLost, ctx.Err())
	}
}

// Grant makes a login named dp_memory_<lease>.
func (m *Memory) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	if err := target.CheckLease(g.Lease); err != nil {
		return target.Credential{}, err
	}
	read, err := readMemoryRights(g.Rights)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %s: %w", g.Lease, err)
	}
	password := secret.Random()
	err = m.over(ctx, BeforeGrant, AfterGrant, g.Lease, func() error { return m.system.grant(g, password.Reveal(), read) })
	if err != nil {
		return target.Credential{}, err
	}
	return target.Credential{
		Type:       "memory",
		Attributes: map[string]any{"username": "dp_memory_" + g.Lease},
		Secrets:    map[string]secret.Text{"password": password},
		Revocation: target.Instant,
	}, nil
}

// Revoke ends the login of lease for good.
func (m *Memory) Revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	return m.over(ctx, BeforeRevoke, AfterRevoke, lease, func() error { m.system.Bury(lease); return nil })
}

// Renew moves the expiry of a login that lives.
func (m *Memory) Renew(ctx context.Context, lease string, ttl time.Duration) error {
	return m.over(ctx, BeforeRenew, AfterRenew, lease, func() error { return m.system.renew(lease, ttl) })
}

// Narrow takes the right to read from the logins of roles that have lost it.
func (m *Memory) Narrow(ctx context.Context, roles map[string]json.RawMessage) error {
	if err := m.reach(ctx); err != nil {
		return err
	}
	for name, rights := range roles {
		read, err := readMemoryRights(rights)
		if err != nil {
			return fmt.Errorf("narrow role %q: %w", name, err)
		}
		m.system.narrow(name, read)
	}
	return nil
}

// Leases lists the logins.
func (m *Memory) Leases(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := m.reach(ctx); err != nil {
			yield("", err)
			return
		}
		for _, lease := range m.system.Leases() {
			if !yield(lease, nil) {
				return
			}
		}
	}
}

// reach fails when the target cannot be reached at all.
func (m *Memory) reach(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down || m.held != nil {
		return ErrDown
	}
	return ctx.Err()
}

// Mark keeps what the system last saw.
func (m *Memory) Mark(ctx context.Context, mark target.Mark) (target.Mark, error) {
	if err := m.reach(ctx); err != nil {
		return target.Mark{}, err
	}
	s := m.system
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.mark
	other := seen != (target.Mark{}) && (seen.Instance != mark.Instance || seen.Target != mark.Target)
	if !other && !seen.After(mark) {
		s.mark = mark
	}
	return seen, nil
}

// Now tells the time of the system.
func (m *Memory) Now(ctx context.Context) (time.Time, error) {
	if err := m.reach(ctx); err != nil {
		return time.Time{}, err
	}
	m.system.mu.Lock()
	defer m.system.mu.Unlock()
	return m.system.clock(), nil
}

// Check finds nothing.
func (m *Memory) Check(ctx context.Context) ([]target.Finding, error) { return nil, m.reach(ctx) }

// Clean finds nothing: a login of a system owns nothing.
func (m *Memory) Clean(ctx context.Context) (target.Residue, error) {
	return target.Residue{}, m.reach(ctx)
}

func (s *System) clock() time.Time { return s.now().Add(s.ahead).UTC() }

func (s *System) grant(g target.Grant, password string, read bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buried[g.Lease] {
		return fmt.Errorf("grant lease %s: it was revoked: %w", g.Lease, target.ErrNotDone)
	}
	s.logins[g.Lease] = &login{password: password, until: s.clock().Add(g.TTL), role: g.Role, read: read}
	s.granted++
	return nil
}

func (s *System) renew(lease string, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.logins[lease]
	if held == nil {
		return fmt.Errorf("renew lease %s: it is not there: %w", lease, target.ErrNotDone)
	}
	held.until = s.clock().Add(ttl)
	return nil
}

func (s *System) narrow(role string, read bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range s.logins {
		held.read = held.read && (read || held.role != role)
	}
}

// Bury ends a lease and refuses it for ever.
func (s *System) Bury(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, lease)
	s.buried[lease] = true
}

// Drop ends a lease as an administrator's hand would: a later grant would succeed.
func (s *System) Drop(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logins, lease)
}

// Plant makes a login behind the broker's back: a stray.
func (s *System) Plant(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buried, lease)
	s.logins[lease] = &login{password: secret.Random().Reveal(), until: s.clock().Add(time.Hour), read: true}
}

// Leases lists the leases with a login, expired or not, in order.
func (s *System) Leases() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.logins))
}

// Granted counts the grants that happened, whatever became of them.
func (s *System) Granted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.granted
}

// Alive reports whether the login of lease works now.
func (s *System) Alive(lease string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.logins[lease]
	return held != nil && s.clock().Before(held.until)
}

// Forward moves the clock of the system on.
func (s *System) Forward(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

// Try logs in with a credential and reads.
func (s *System) Try(credential target.Credential) error {
	name, _ := credential.Attributes["username"].(string)
	lease := strings.TrimPrefix(name, "dp_memory_")
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.logins[lease]
	if held == nil || held.password != credential.Secrets["password"].Reveal() || !s.clock().Before(held.until) {
		return errors.New("login refused")
	}
	if !held.read {
		return errors.New("read refused")
	}
	return nil
}
