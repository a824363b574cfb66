package targettest

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
)

// suite is a fixture and the context of one case.
type suite struct {
	Fixture
	ctx context.Context
}

// Lease returns a fresh lease ID in the form that Daypass gives them.
func Lease() string {
	bits := make([]byte, 13)
	rand.Read(bits)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(bits))[:20]
}

func (s *suite) order(lease string) target.Grant {
	return target.Grant{Lease: lease, Role: "conformance", Rights: s.Rights, TTL: s.ttl()}
}

func (s *suite) ttl() time.Duration {
	if s.TTL != 0 {
		return s.TTL
	}
	return time.Hour
}

// granted makes a credential for lease or ends the test.
func (s *suite) granted(t *testing.T, lease string) target.Credential {
	t.Helper()
	credential, err := s.Target.Grant(s.ctx, s.order(lease))
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	return credential
}

func (s *suite) revoked(t *testing.T, lease string) {
	t.Helper()
	if err := s.revoke(lease); err != nil {
		t.Fatalf("revoke: %v", err)
	}
}

// revoke ends a lease, and waits for the end where the target cannot bring it about.
func (s *suite) revoke(lease string) error {
	const steps = 30
	for range 3 * steps { // verifiers may be patient with what has expired
		err := s.Target.Revoke(s.ctx, lease)
		if _, lives := errors.AsType[*target.UnexpiredError](err); !lives {
			return err
		}
		s.forward(s.ttl() / steps)
	}
	return errors.New("it outlived three times its time")
}

func (s *suite) works(t *testing.T, credential target.Credential) {
	t.Helper()
	if err := s.Try(s.ctx, credential); err != nil {
		t.Errorf("the credential does not work: %v", err)
	}
}

func (s *suite) refused(t *testing.T, credential target.Credential) {
	t.Helper()
	if err := s.Try(s.ctx, credential); err == nil {
		t.Error("the credential works")
	}
}

func (s *suite) dead(t *testing.T, lease string) {
	t.Helper()
	alive, err := s.Alive(s.ctx, lease)
	if err != nil {
		t.Fatalf("look for lease %s: %v", lease, err)
	}
	if alive {
		t.Errorf("lease %s is alive at the target", lease)
	}
}

func (s *suite) alive(t *testing.T, lease string) {
	t.Helper()
	if alive, err := s.Alive(s.ctx, lease); err != nil || !alive {
		t.Errorf("lease %s is not alive at the target (%v)", lease, err)
	}
}

// forward lets d pass on the target's clock.
func (s *suite) forward(d time.Duration) {
	if s.Forward != nil {
		s.Forward(d)
		return
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.ctx.Done():
	}
}

func grantWorks(t *testing.T, s *suite) {
	lease := Lease()
	credential := s.granted(t, lease)
	s.works(t, credential)
	s.alive(t, lease)
	if credential.Type == "" || len(credential.Secrets) == 0 || credential.Revocation == "" {
		t.Errorf("the credential lacks its type, its secrets or its revocation class: %+v", credential)
	}
	for name, value := range credential.Attributes {
		switch value.(type) {
		case string, int, int64, bool:
		default:
			t.Errorf("attribute %s is a %T: only strings, integers and booleans travel", name, value)
		}
		if !credential.Secrets[name].IsZero() {
			t.Errorf("%s is both an attribute and a secret", name)
		}
	}
}

func grantTwice(t *testing.T, s *suite) {
	lease := Lease()
	first := s.granted(t, lease)
	second := s.granted(t, lease)
	s.works(t, second)
	s.revoked(t, lease)
	s.refused(t, first)
	s.refused(t, second)
	s.dead(t, lease)
}

func carriesNoMore(t *testing.T, s *suite) {
	credential := s.granted(t, Lease())
	if err := s.Exceed(s.ctx, credential); err == nil {
		t.Error("the credential could do more than its role")
	}
}

func namesFollowLease(t *testing.T, s *suite) {
	lease := Lease()
	first := s.Name(s.granted(t, lease))
	s.revoked(t, lease)
	other := Lease()
	if name := s.Name(s.granted(t, other)); name == first || !strings.Contains(name, other) {
		t.Errorf("lease %s is called %q", other, name)
	}
	if !strings.Contains(first, lease) {
		t.Errorf("lease %s is called %q", lease, first)
	}
}

func revokeUnknown(t *testing.T, s *suite) {
	lease := Lease()
	s.revoked(t, lease)
	s.dead(t, lease)
}

func revokeTwice(t *testing.T, s *suite) {
	lease := Lease()
	s.granted(t, lease)
	s.revoked(t, lease)
	s.revoked(t, lease)
	s.dead(t, lease)
}

func revokeEnds(t *testing.T, s *suite) {
	lease := Lease()
	credential := s.granted(t, lease)
	s.works(t, credential)
	s.revoked(t, lease)
	s.refused(t, credential)
	s.dead(t, lease)
}

func revokeAlone(t *testing.T, s *suite) {
	lease, neighbour := Lease(), Lease()
	s.granted(t, lease)
	order := s.order(neighbour)
	order.TTL *= 4 // it must outlive a lease that only its time ends
	if _, theirs := s.Skips[Expiry]; theirs && s.Forward != nil {
		s.Forward(s.ttl() * 4 / 3) // how long it lives is not asked for, so it comes later
	}
	credential, err := s.Target.Grant(s.ctx, order)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	s.revoked(t, lease)
	s.works(t, credential)
	s.alive(t, neighbour)
}

func sessionsDie(t *testing.T, s *suite) {
	lease := Lease()
	session, err := s.Session(s.ctx, s.granted(t, lease))
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	defer session.Close()
	if err := session.Use(s.ctx); err != nil {
		t.Fatalf("use the session: %v", err)
	}
	s.revoked(t, lease)
	if err := session.Use(s.ctx); err == nil {
		t.Error("the session outlived its lease")
	}
}

// soon is how long a broker waits for an answer that never comes.
const soon = 500 * time.Millisecond

func lostAnswer(t *testing.T, s *suite) {
	road := s.Faulty()
	lease := Lease()
	if _, err := road.Target.Grant(s.ctx, s.order(Lease())); err != nil {
		t.Fatalf("grant over the good road: %v", err)
	}
	road.LoseAnswers()
	ctx, cancel := context.WithTimeout(s.ctx, soon)
	defer cancel()
	_, err := road.Target.Grant(ctx, s.order(lease))
	if err == nil {
		t.Fatal("grant gave an answer that was lost")
	}
	if errors.Is(err, target.ErrNotDone) {
		s.dead(t, lease)
	}
	s.endedBySuccessor(t, road, lease)
}

func lateGrant(t *testing.T, s *suite) {
	road := s.Faulty()
	lease := Lease()
	if _, err := road.Target.Grant(s.ctx, s.order(Lease())); err != nil {
		t.Fatalf("grant over the good road: %v", err)
	}
	road.Hold()
	ctx, cancel := context.WithTimeout(s.ctx, soon)
	defer cancel()
	if _, err := road.Target.Grant(ctx, s.order(lease)); err == nil {
		t.Fatal("grant gave an answer that was held")
	}
	s.endedBySuccessor(t, road, lease)
}

// endedBySuccessor revokes lease through the next broker, lets what was held arrive, and looks again.
func (s *suite) endedBySuccessor(t *testing.T, road Faulty, lease string) {
	t.Helper()
	successor := road.Successor()
	if err := successor.Revoke(s.ctx, lease); err != nil {
		t.Fatalf("revoke by the successor: %v", err)
	}
	s.dead(t, lease)
	road.Heal()
	s.dead(t, lease)
	fresh := Lease()
	credential, err := successor.Grant(s.ctx, s.order(fresh))
	if err != nil {
		t.Fatalf("grant by the successor: %v", err)
	}
	s.works(t, credential)
	s.dead(t, lease)
}

func grantAgainstRevoke(t *testing.T, s *suite) {
	for range 10 {
		lease := Lease()
		var both sync.WaitGroup
		var credential target.Credential
		var granted error
		both.Go(func() { credential, granted = s.Target.Grant(s.ctx, s.order(lease)) })
		both.Go(func() {
			// It may come before the grant or after it; either way the last word is the revocation below.
			if err := s.Target.Revoke(s.ctx, lease); err != nil && s.ctx.Err() != nil {
				t.Errorf("revoke beside a grant: %v", err)
			}
		})
		both.Wait()
		s.revoked(t, lease)
		s.dead(t, lease)
		if granted == nil {
			s.refused(t, credential)
		}
	}
}

func manyAtOnce(t *testing.T, s *suite) {
	const many = 24
	leases, credentials := make([]string, many), make([]target.Credential, many)
	var all sync.WaitGroup
	for i := range many {
		leases[i] = Lease()
		all.Go(func() {
			credential, err := s.Target.Grant(s.ctx, s.order(leases[i]))
			if err != nil {
				t.Errorf("grant %d: %v", i, err)
			}
			credentials[i] = credential
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for _, credential := range credentials {
		s.works(t, credential)
	}
	for i := range many {
		all.Go(func() {
			if err := s.revoke(leases[i]); err != nil {
				t.Errorf("revoke %d: %v", i, err)
			}
		})
	}
	all.Wait()
	for i, credential := range credentials {
		s.refused(t, credential)
		s.dead(t, leases[i])
	}
}

func cancelledGrant(t *testing.T, s *suite) {
	for _, after := range []time.Duration{0, 100 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond} {
		lease := Lease()
		ctx, cancel := context.WithTimeout(s.ctx, after)
		_, err := s.Target.Grant(ctx, s.order(lease))
		cancel()
		if err == nil {
			s.alive(t, lease)
		}
		s.revoked(t, lease)
		s.dead(t, lease)
	}
}

func deadContext(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	lease := Lease()
	if _, err := s.Target.Grant(ctx, s.order(lease)); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("grant under a dead context: got %v, want ErrNotDone", err)
	}
	s.dead(t, lease)
}

func nonsenseRights(t *testing.T, s *suite) {
	for _, rights := range []string{"", "null", `"`, `[1]`, `{"no_such_right": true}`} {
		lease := Lease()
		order := target.Grant{Lease: lease, Rights: json.RawMessage(rights), TTL: time.Hour}
		if _, err := s.Target.Grant(s.ctx, order); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("rights %q: got %v, want ErrNotDone", rights, err)
		}
		s.dead(t, lease)
	}
	for _, lease := range []string{"", "short", `x"; drop table t; --xxx`, strings.Repeat("a", 200), "AAAAAAAAAAAAAAAAAAAA"} {
		if _, err := s.Target.Grant(s.ctx, s.order(lease)); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("lease %q: got %v, want ErrNotDone", lease, err)
		}
		if err := s.Target.Revoke(s.ctx, lease); err == nil {
			t.Errorf("revoke of lease %q was called done", lease)
		}
	}
}
