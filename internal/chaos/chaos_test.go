package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
)

const (
	replicas = 3
	callers  = 32
	short    = 45 * time.Second // how long accidents happen unless CHAOS_TIME says
	longer   = 2 * time.Minute  // from then on accidents that take their time happen too
)

// THREAT_MODEL promises 1 and 4: with several servers too, each credential alive at a target is covered by a lease, and
// everything is on one record.
func TestSeveralReplicasStayOneThroughAccidents(t *testing.T) {
	during, seed := settings(t)
	t.Logf("CHAOS_TIME=%v CHAOS_SEED=%d", during, seed)
	w := newWorld(t, seed)
	working, stop := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for i := range callers {
		c, err := newCaller(w, i, seed)
		must(t, err)
		crowd.Go(func() { c.run(working) })
	}
	striking, calm := context.WithTimeout(t.Context(), during)
	defer calm()
	w.accidents(striking, seed, during >= longer)
	w.heal()
	stop()
	crowd.Wait()
	w.audit()
	w.tell()
}

// settings reads CHAOS_TIME and CHAOS_SEED.
func settings(t *testing.T) (during time.Duration, seed uint64) {
	t.Helper()
	during, seed = short, rand.Uint64N(1_000_000)
	var err error
	if text := os.Getenv("CHAOS_TIME"); text != "" {
		during, err = time.ParseDuration(text)
		must(t, err)
	}
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		must(t, err)
	}
	return during, seed
}

// world is a fleet with roads that can be bad, and what happened to it.
type world struct {
	t          *testing.T
	fleet      *rig.Fleet
	targetRoad *testbed.Proxy
	storeRoads [][]*testbed.Proxy // by replica
	key        string             // of the ledger, when it was opened
	records    records

	striking sync.WaitGroup

	mu                      sync.Mutex // guards what follows
	serversBusy, targetBusy bool
	struck                  map[string]int
	diary                   []string
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, struck: map[string]int{}, storeRoads: make([][]*testbed.Proxy, replicas)}
	w.records.leases, w.records.problems = map[string]*record{}, map[string]int{}
	var err error
	w.fleet, err = rig.StartFleet(t.Context(), rig.FleetOptions{
		Replicas: replicas,
		Options: rig.Options{
			Version: []int{15, 18}[seed%2],
			Race:    os.Getenv("CHAOS_RACE") != "",
			Road: func(upstream string) int {
				w.targetRoad = testbed.StartProxy(t, upstream)
				return w.targetRoad.Port()
			},
		},
		StoreRoad: func(replica int, upstream string) int {
			road := testbed.StartProxy(t, upstream)
			w.storeRoads[replica] = append(w.storeRoads[replica], road)
			return road.Port()
		},
	})
	must(t, err)
	t.Cleanup(func() {
		w.keepLogs()
		if err := w.fleet.Close(); err != nil {
			t.Error(err)
		}
	})
	status, err := w.fleet.Replicas[0].Admin.Status(t.Context())
	must(t, err)
	w.key = status.Ledger.Key
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pause lets time pass for real: nothing tells when an accident comes.
func (w *world) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// heal waits until everything works again. The accidents have undone themselves.
func (w *world) heal() {
	w.t.Helper()
	for _, r := range w.fleet.Replicas {
		r.Thaw() // one that was killed while it was stopped, say
	}
	begun := time.Now()
	must(w.t, w.fleet.Ready(w.t.Context()))
	w.t.Logf("all replicas were ready %v after the last accident", time.Since(begun).Round(time.Millisecond))
}

// failed counts a request that came to nothing. Only the audit judges.
func (w *world) failed(what string, err error) bool {
	if err == nil {
		return false
	}
	code := "lost"
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		code = problem.Code
	}
	w.records.change(func() { w.records.problems[what+": "+code]++ })
	return true
}

// ending notes that somebody is about to ask for a lease's end.
func (w *world) ending(l *record) {
	w.records.change(func() {
		if l.ended.IsZero() {
			l.ended = time.Now()
		}
	})
}

// tell prints what happened.
func (w *world) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := []string{"accidents:"}
	for _, name := range sorted(w.struck) {
		lines = append(lines, fmt.Sprintf("%6d %s", w.struck[name], name))
	}
	lines = append(lines, "requests that came to nothing:")
	for _, name := range sorted(w.records.problems) {
		lines = append(lines, fmt.Sprintf("%6d %s", w.records.problems[name], name))
	}
	for _, r := range w.fleet.Replicas {
		lines = append(lines, fmt.Sprintf("%6d times %s ended by itself", r.EndedAlone(), r.Name))
	}
	w.t.Log(strings.Join(lines, "\n"))
}

// keepLogs leaves the replicas' logs where CHAOS_LOGS says, and shows their ends after a failure.
func (w *world) keepLogs() {
	for _, r := range w.fleet.Replicas {
		if dir := os.Getenv("CHAOS_LOGS"); dir != "" {
			must(w.t, os.MkdirAll(dir, 0o700))
			must(w.t, os.WriteFile(dir+"/"+r.Name+".log", []byte(r.Log()), 0o600))
		} else if w.t.Failed() {
			w.t.Logf("%s:\n%s", r.Name, r.Tail())
		}
	}
	if w.t.Failed() {
		w.t.Log("what happened:\n" + strings.Join(w.diary, "\n"))
	}
}

func sorted(m map[string]int) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
