package lease_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass/daypass/internal/lease"
)

func TestNextAllowsExactlyTheLife(t *testing.T) {
	allowed := map[lease.State]map[lease.Event]lease.State{
		lease.Pending:  {lease.Granted: lease.Active, lease.Ended: lease.Revoking},
		lease.Active:   {lease.Ended: lease.Revoking},
		lease.Revoking: {lease.Proved: lease.Revoked},
	}
	for _, state := range lease.States() {
		for _, event := range lease.Events() {
			want, ok := allowed[state][event]
			got, err := lease.Next(state, event)
			switch {
			case ok && (err != nil || got != want):
				t.Errorf("%s + %s: got %s, %v; want %s", state, event, got, err, want)
			case !ok && err == nil:
				t.Errorf("%s + %s: got %s; want it refused", state, event, got)
			case !ok && got != state:
				t.Errorf("%s + %s: a refused event moved the lease to %s", state, event, got)
			}
			if refused, is := errors.AsType[*lease.RefusedError](err); err != nil && (!is || refused.State != state || refused.Event != event) {
				t.Errorf("%s + %s: refused with %v", state, event, err)
			}
		}
	}
}

// THREAT_MODEL promise 5: only proof leaves revoking, and nothing leaves revoked.
func TestOnlyProofLeavesRevoking(t *testing.T) {
	for _, event := range lease.Events() {
		if _, err := lease.Next(lease.Revoking, event); (err == nil) != (event == lease.Proved) {
			t.Errorf("revoking + %s: %v", event, err)
		}
		if _, err := lease.Next(lease.Revoked, event); err == nil {
			t.Errorf("revoked + %s is allowed", event)
		}
	}
}

// world is a target and a broker that can lose answers and crash. It keeps the house rules: pending is recorded
// before a grant starts, and revoked only after the target confirmed. A tombstone refuses grants that come late.
type world struct {
	state     lease.State
	alive     bool // a credential works at the target
	inFlight  bool // a grant was sent and has not landed
	tombstone bool // the target refuses grants of this lease from now on
}

func (w *world) move(t *rapid.T, e lease.Event) {
	next, err := lease.Next(w.state, e)
	if err != nil {
		return
	}
	w.state = next
	w.check(t)
}

func (w *world) check(t *rapid.T) {
	if w.state == lease.Revoked && w.alive {
		t.Fatal("the lease is revoked and its credential lives")
	}
	if w.alive && !w.state.MayLive() {
		t.Fatalf("a credential lives in state %s", w.state)
	}
}

func (w *world) land() {
	if w.inFlight && !w.tombstone {
		w.alive = true
	}
	w.inFlight = false
}

func (w *world) revokeAtTarget() {
	w.alive = false
	w.tombstone = true
}

func TestNoScheduleOfCrashesAndLostAnswersLeavesALiveCredential(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{state: lease.Pending}
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"send the grant": func(*rapid.T) {
				if w.state == lease.Pending {
					w.inFlight = true
				}
			},
			"the grant lands and is confirmed": func(t *rapid.T) {
				if w.inFlight {
					w.land()
					if w.alive {
						w.move(t, lease.Granted)
					}
				}
			},
			"the grant lands and its answer is lost": func(*rapid.T) { w.land() },
			"crash: the next start ends what is pending": func(t *rapid.T) {
				if w.state == lease.Pending {
					w.move(t, lease.Ended)
				}
			},
			"end": func(t *rapid.T) { w.move(t, lease.Ended) },
			"revoke, confirmed": func(t *rapid.T) {
				if w.state == lease.Revoking {
					w.revokeAtTarget()
					w.move(t, lease.Proved)
				}
			},
			"revoke, answer lost": func(*rapid.T) {
				if w.state == lease.Revoking {
					w.revokeAtTarget()
				}
			},
		})
		// Faults stop: the clock ends the lease, the revoker proves its death.
		w.land()
		w.move(t, lease.Ended)
		w.revokeAtTarget()
		w.move(t, lease.Proved)
		if w.state != lease.Revoked || w.alive {
			t.Fatalf("after the faults stopped: state %s, alive %v", w.state, w.alive)
		}
	})
}

func FuzzNext(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, events []byte) {
		state := lease.Pending
		for _, b := range events {
			all := lease.Events()
			next, err := lease.Next(state, all[int(b)%len(all)])
			if err == nil && slices.Index(lease.States(), next) <= slices.Index(lease.States(), state) {
				t.Fatalf("a lease went back from %s to %s", state, next)
			}
			state = next
		}
	})
}

func TestIDs(t *testing.T) {
	made := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a, b, later := lease.NewID(made.Unix()), lease.NewID(made.Add(999*time.Millisecond).Unix()), lease.NewID(made.Add(time.Second).Unix())
	if a == b {
		t.Error("two IDs are equal")
	}
	if a[:6] != b[:6] || a[:6] == later[:6] {
		t.Errorf("%s and %s, of one second, and %s, of the next: the first six characters should tell the second", a, b, later)
	}
	if parsed, err := lease.ParseID(string(a)); err != nil || parsed != a {
		t.Errorf("ParseID(%q): %v, %v", a, parsed, err)
	}
	for _, bad := range []string{"", "abc", "ABCDEFGHIJKLMNOPQRST", "aaaaaaaaaaaaaaaaaaa1", "aaaaaaaaaaaaaaaaaaa'", "aaaaaaaaaaaaaaaaaaaaa"} {
		if _, err := lease.ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) is accepted", bad)
		}
	}
}
