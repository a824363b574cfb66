package crash_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
)

const callers = 16

// rounds is how often each kind of accident happens: CRASH_ROUNDS, or few enough for every day.
func rounds(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("CRASH_ROUNDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// THREAT_MODEL promise 1: at every moment each credential alive at a target is covered by a lease that will end it.
func TestTheBrokerIsKilled(t *testing.T) {
	w := newWorld(t, 15)
	loop(w, rounds(t, 20), func() {
		w.KillBroker()
		must(t, w.StartBroker())
	})
}

func TestTheDatabaseIsKilled(t *testing.T) {
	w := newWorld(t, 15)
	loop(w, rounds(t, 5), func() {
		must(t, w.Postgres.Kill(t.Context()))
		must(t, w.Postgres.Start(t.Context()))
	})
}

func TestAnswersAreLost(t *testing.T) {
	w := newWorld(t, 15)
	faults := []testbed.Fault{testbed.Cut, testbed.DropAnswers, testbed.BlackHole, testbed.Hold}
	loop(w, rounds(t, 4), func() {
		w.proxy.Set(faults[rand.IntN(len(faults))])
		pause(time.Duration(rand.IntN(1500)) * time.Millisecond)
		w.proxy.Heal()
	})
}

func TestEverythingHappensAtOnceOnPostgres18(t *testing.T) {
	w := newWorld(t, 18)
	loop(w, rounds(t, 5), func() {
		w.proxy.Set(testbed.DropAnswers)
		pause(time.Duration(rand.IntN(300)) * time.Millisecond)
		w.KillBroker()
		must(t, w.Postgres.Kill(t.Context()))
		w.proxy.Heal()
		must(t, w.Postgres.Start(t.Context()))
		must(t, w.StartBroker())
	})
}

// world is a rig with a road to PostgreSQL that can be broken.
type world struct {
	*rig.Rig
	t     *testing.T
	proxy *testbed.Proxy
}

func newWorld(t *testing.T, version int) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	w.Rig, err = rig.Start(t.Context(), rig.Options{Version: version, Road: func(upstream string) int {
		w.proxy = testbed.StartProxy(t, upstream)
		return w.proxy.Port()
	}})
	must(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pause lets time pass for real: it is the point of a crash loop that nothing tells when the accident comes.
func pause(d time.Duration) { <-time.After(d) }

// loop lets callers work, has an accident, and audits, n times.
func loop(w *world, n int, accident func()) {
	h, a := &holders{live: map[string]held{}}, newAuditor(w)
	begun := time.Now()
	for round := range n {
		h.begin(round)
		ctx, stop := context.WithCancel(w.t.Context())
		var working sync.WaitGroup
		for i := range callers {
			working.Go(func() { h.work(ctx, w, i) })
		}
		pause(time.Duration(50+rand.IntN(450)) * time.Millisecond)
		accident()
		stop()
		working.Wait()
		must(w.t, w.Ready(w.t.Context()))
		a.audit(h, round)
		if (round+1)%whole == 0 || round+1 == n {
			a.auditWhole(h, round)
			w.t.Logf("%d rounds in %v: %d leases handed out, %d requests failed by the accidents, %d strays; the longest took %v to settle",
				round+1, time.Since(begun).Round(time.Second), h.acquired, h.failed, a.strays, a.longest.Round(time.Millisecond))
		}
		if w.t.Failed() {
			return
		}
	}
	if h.acquired < n*callers/4 {
		w.t.Errorf("only %d leases were handed out in %d rounds: the loop shows little", h.acquired, n)
	}
}
