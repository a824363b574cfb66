package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/ledger"
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
	h := &holders{live: map[string]held{}}
	begun := time.Now()
	for round := range n {
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
		audit(w, h, round)
		if w.t.Failed() {
			return
		}
	}
	w.t.Logf("%d rounds in %v: %d leases handed out, %d requests failed by the accidents", n, time.Since(begun).Round(time.Second), h.acquired, h.failed)
	if h.acquired < n*callers/4 {
		w.t.Errorf("only %d leases were handed out in %d rounds: the loop shows little", h.acquired, n)
	}
}

// held is a lease that a caller was given.
type held struct {
	lease  *client.Lease
	ending bool // its release was asked for; the answer may have been lost
}

// holders are the callers, and what they were given.
type holders struct {
	mu               sync.Mutex
	live             map[string]held
	receipts         []string
	acquired, failed int
}

// work acquires and releases until ctx ends. Errors are what accidents make; only the audit judges.
func (h *holders) work(ctx context.Context, w *world, n int) {
	c, err := w.Workload(strconv.Itoa(n))
	if err != nil {
		w.t.Error(err)
		return
	}
	for ctx.Err() == nil {
		l, err := c.Acquire(ctx, api.AcquireRequest{Role: "grants-fast"})
		if err != nil {
			h.note(func() { h.failed++ })
			continue
		}
		h.note(func() {
			h.acquired++
			h.live[l.ID()] = held{lease: l}
			h.receipts = append(h.receipts, l.Receipt)
		})
		if rand.IntN(4) == 0 {
			continue // kept
		}
		h.note(func() { h.live[l.ID()] = held{lease: l, ending: true} })
		_, _ = l.Release(ctx, 0) // may be lost: then the lease lives until it expires
	}
}

func (h *holders) note(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// audit waits until the broker has settled and compares the world with the record.
func audit(w *world, h *holders, round int) {
	w.t.Helper()
	var leases, logins []string
	must(w.t, w.Await(w.t.Context(), fmt.Sprintf("round %d to settle: logins = live leases", round), func(context.Context) bool {
		var settled bool
		leases, settled = liveLeases(w)
		logins = liveLogins(w)
		return settled && slices.Equal(leases, logins)
	}))
	for id, l := range h.live {
		switch alive := slices.Contains(leases, id); {
		case !alive && !l.ending:
			w.t.Errorf("round %d: lease %s was handed out, nobody ended it, and it is gone", round, id)
		case !alive:
			delete(h.live, id)
		case !l.ending && rand.IntN(10) == 0:
			tryLogin(w, l.lease)
		}
	}
	verifyLedger(w, h, round)
}

// liveLeases lists the leases that are not revoked, and reports whether all of them are active.
func liveLeases(w *world) (ids []string, settled bool) {
	status, err := w.Admin.Status(w.t.Context())
	if err != nil || status.Leases.Pending+status.Leases.Revoking > 0 {
		return nil, false
	}
	for l, err := range w.Admin.Leases(w.t.Context(), client.Filter{State: "active"}) {
		if err != nil {
			return nil, false
		}
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	return ids, true
}

// liveLogins asks PostgreSQL itself, as its superuser: every role of ours that can log in.
func liveLogins(w *world) (ids []string) {
	w.t.Helper()
	db, err := pgx.Connect(w.t.Context(), w.Postgres.Superuser(rig.Database))
	must(w.t, err)
	defer db.Close(context.WithoutCancel(w.t.Context()))
	rows, err := db.Query(w.t.Context(), `select split_part(rolname, '_', 3) from pg_roles where rolname ~ '^dp_' and rolcanlogin order by 1`)
	must(w.t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(w.t, err)
	slices.Sort(ids)
	return ids
}

// tryLogin holds that a lease that was handed out still opens the database.
func tryLogin(w *world, l *client.Lease) {
	w.t.Helper()
	db, err := pgx.Connect(w.t.Context(), l.Credential.Secret("url").Reveal())
	if err != nil {
		w.t.Errorf("the credential of live lease %s does not work: %v", l.ID(), err)
		return
	}
	_ = db.Close(w.t.Context())
}

// verifyLedger verifies an export as an auditor would, against every receipt that the callers hold.
func verifyLedger(w *world, h *holders, round int) {
	w.t.Helper()
	status, err := w.Admin.Status(w.t.Context())
	must(w.t, err)
	var export bytes.Buffer
	must(w.t, w.Admin.ExportLedger(w.t.Context(), &export))
	if strays := bytes.Count(export.Bytes(), []byte("target.stray")); strays > 0 {
		w.t.Errorf("round %d: %d strays", round, strays)
	}
	against := slices.Clone(h.receipts)
	if _, err := ledger.VerifyExport(bufio.NewReader(&export), []string{status.Ledger.Key}, against, time.Now()); err != nil {
		w.t.Errorf("round %d: the ledger does not verify: %v", round, err)
	}
}
