package targettest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
)

func expires(t *testing.T, s *suite) {
	lease := Lease()
	order := s.order(lease)
	order.TTL = 6 * time.Second // long enough to be tried on a slow machine
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
	both.Go(func() { _ = renewer.Renew(s.ctx, lease, time.Hour) }) // it may come too late
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

func narrows(t *testing.T, s *suite) {
	as := func(role string) target.Credential {
		order := s.order(Lease())
		order.Role = role
		credential, err := s.Target.Grant(s.ctx, order)
		if err != nil {
			t.Fatalf("grant: %v", err)
		}
		return credential
	}
	tell := func(roles map[string]json.RawMessage) {
		t.Helper()
		if err := s.Target.(target.Narrower).Narrow(s.ctx, roles); err != nil {
			t.Errorf("narrow: %v", err)
		}
	}
	live, other := as("changing"), as("other")
	tell(map[string]json.RawMessage{"changing": s.Rights})
	tell(nil) // a role that has gone
	s.works(t, live)
	for range 2 {
		tell(map[string]json.RawMessage{"changing": s.Less, "other": s.Rights})
		s.refused(t, live)
		s.works(t, other)
	}
	tell(map[string]json.RawMessage{"changing": s.Rights})
	s.refused(t, live)
	s.works(t, as("changing"))
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
	for _, err := range s.Target.(target.Lister).Leases(s.ctx) {
		if err != nil {
			t.Errorf("leases: %v", err)
		}
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
	restored.Boot = base.Boot // a restored store begins to count its boots again where the backup was made
	see("a later epoch", restored, later)
	see("back", later, restored)
	see("again in the later epoch", restored, restored)
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
