package targettest

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	return target.Grant{Lease: lease, Rights: s.Rights, TTL: time.Hour}
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
	if err := s.Target.Revoke(s.ctx, lease); err != nil {
		t.Fatalf("revoke: %v", err)
	}
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
	credential := s.granted(t, neighbour)
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
			if err := s.Target.Revoke(s.ctx, leases[i]); err != nil {
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

func expires(t *testing.T, s *suite) {
	lease := Lease()
	order := s.order(lease)
	order.TTL = 2 * time.Second
	credential, err := s.Target.Grant(s.ctx, order)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	s.works(t, credential)
	s.eventuallyRefused(t, credential)
}

// eventuallyRefused waits for an expiry of a few seconds, and the grace that a target may add.
func (s *suite) eventuallyRefused(t *testing.T, credential target.Credential) {
	t.Helper()
	for range 60 {
		s.forward(500 * time.Millisecond)
		if s.Try(s.ctx, credential) != nil {
			return
		}
	}
	t.Error("the credential outlived its expiry")
}

func renewMoves(t *testing.T, s *suite) {
	lease := Lease()
	order := s.order(lease)
	order.TTL = 2 * time.Second
	credential, err := s.Target.Grant(s.ctx, order)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	renewer := s.Target.(target.Renewer)
	if err := renewer.Renew(s.ctx, lease, time.Hour); err != nil {
		t.Fatalf("renew: %v", err)
	}
	s.forward(4 * time.Second)
	s.works(t, credential)
	if err := renewer.Renew(s.ctx, lease, time.Second); err != nil {
		t.Fatalf("renew to less: %v", err)
	}
	s.eventuallyRefused(t, credential)
}

func renewNeverRevives(t *testing.T, s *suite) {
	renewer := s.Target.(target.Renewer)
	lease := Lease()
	credential := s.granted(t, lease)
	var both sync.WaitGroup
	both.Go(func() { renewer.Renew(s.ctx, lease, time.Hour) })
	both.Go(func() {
		if err := s.Target.Revoke(s.ctx, lease); err != nil {
			t.Errorf("revoke beside a renewal: %v", err)
		}
	})
	both.Wait()
	s.refused(t, credential)
	s.dead(t, lease)
	if err := renewer.Renew(s.ctx, lease, time.Hour); err == nil {
		t.Error("a revoked lease was renewed")
	}
	if err := renewer.Renew(s.ctx, Lease(), time.Hour); err == nil {
		t.Error("a lease that never was, was renewed")
	}
	s.refused(t, credential)
	s.dead(t, lease)
}

func listsLive(t *testing.T, s *suite) {
	want := []string{Lease(), Lease(), Lease()}
	gone := Lease()
	for _, lease := range append(want, gone) {
		s.granted(t, lease)
	}
	s.revoked(t, gone)
	s.revoked(t, Lease())
	var got []string
	for lease, err := range s.Target.(target.Lister).Leases(s.ctx) {
		if err != nil {
			t.Fatalf("leases: %v", err)
		}
		got = append(got, lease)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("leases: got %v, want %v", got, want)
	}
	for range s.Target.(target.Lister).Leases(s.ctx) {
		break // a caller may stop early
	}
	s.works(t, s.granted(t, Lease()))
}

func marks(t *testing.T, s *suite) {
	marker := s.Target.(target.Marker)
	base := s.Fixture.Mark
	see := func(name string, m, want target.Mark) {
		t.Helper()
		if seen, err := marker.Mark(s.ctx, m); err != nil || seen != want {
			t.Errorf("%s: saw %+v (%v), want %+v", name, seen, err, want)
		}
	}
	if _, err := marker.Mark(s.ctx, base); err != nil {
		t.Fatalf("mark: %v", err)
	}
	see("again", base, base)
	later := base
	later.Boot++
	see("a later boot", later, base)
	see("an older boot", base, later)
	stranger := later
	stranger.Target = "stranger"
	stranger.Boot++
	see("another target", stranger, later)
	restored := later
	restored.Epoch++
	see("a later epoch", restored, later)
	see("back", base, restored)
}

func clockRuns(t *testing.T, s *suite) {
	clock := s.Target.(target.Clock)
	first, err := clock.Now(s.ctx)
	if err != nil {
		t.Fatalf("now: %v", err)
	}
	s.forward(10 * time.Millisecond)
	second, err := clock.Now(s.ctx)
	if err != nil || !second.After(first) {
		t.Errorf("the clock stands: %v, then %v (%v)", first, second, err)
	}
	if first.Location() != time.UTC {
		t.Errorf("the clock tells the time in %v", first.Location())
	}
}

func checks(t *testing.T, s *suite) {
	findings, err := s.Target.(target.Checker).Check(s.ctx)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	for _, finding := range findings {
		if finding.Severity == target.Problem {
			t.Errorf("problem: %s (fix: %s)", finding.Message, finding.Fix)
		}
	}
}

func cleans(t *testing.T, s *suite) {
	lease := Lease()
	s.granted(t, lease)
	s.revoked(t, lease)
	left, err := s.Target.(target.Cleaner).Clean(s.ctx)
	if err != nil || left != (target.Residue{}) {
		t.Errorf("clean: %+v, %v", left, err)
	}
}

// canary drives the target through everything that tends to print, and looks for secrets in what it said.
func canary(t *testing.T, s *suite) {
	var said strings.Builder
	var secrets []string
	hear := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(&said, "%s: %v %+v %#v\n", what, err, err, err)
		}
	}
	keep := func(credential target.Credential) {
		fmt.Fprintf(&said, "%v %+v %#v\n", credential, credential, credential)
		for _, secret := range credential.Secrets {
			secrets = append(secrets, secret.Reveal())
		}
	}
	lease := Lease()
	keep(s.granted(t, lease))
	keep(s.granted(t, lease))
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(s.ctx, after)
		credential, err := s.Target.Grant(ctx, s.order(Lease()))
		keep(credential)
		hear("cancelled", err)
		hear("cancelled revoke", s.Target.Revoke(ctx, lease))
		cancel()
	}
	_, err := s.Target.Grant(s.ctx, target.Grant{Lease: Lease(), Rights: json.RawMessage(`{"no_such_right":1}`)})
	hear("nonsense", err)
	hear("revoke", s.Target.Revoke(s.ctx, lease))
	hear("revoke again", s.Target.Revoke(s.ctx, lease))
	if s.Logs != nil {
		said.WriteString(s.Logs())
	}
	for _, secret := range secrets {
		for form, bytes := range map[string]string{
			"plain": secret, "hex": hex.EncodeToString([]byte(secret)), "base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(said.String(), bytes) {
				t.Errorf("a secret was printed (%s)", form)
			}
		}
	}
}
