package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
)

// accident is one kind. What it does to the world it undoes before it returns, however ctx fares.
type accident struct {
	name string
	// servers and target: it stops the servers of the store, or the target, which one accident does at a time.
	servers, target bool
	often           int // how many are in the deck
	strike          func(ctx context.Context, w *world, r *rand.Rand) error
}

// deck is the accidents of a run, dealt in a random order again and again. Those that take longer than a short run has
// are left out of it.
func deck(long bool) (all []accident) {
	kinds := []accident{
		{name: "a replica is killed", often: 3, strike: kill},
		{name: "a replica stops for a moment", often: 2, strike: freeze(time.Second, 6*time.Second)},
		{name: "a replica stops for longer than a claim", often: 1, strike: freeze(18*time.Second, 22*time.Second)},
		{name: "the standby takes over from a killed primary", often: 2, servers: true, strike: failOver},
		{name: "the store is killed and comes back", often: 1, servers: true, strike: crashStore},
		{name: "the standby is away", often: 1, servers: true, strike: loseStandby(time.Second, 5*time.Second)},
		{name: "the target is killed and comes back", often: 2, target: true, strike: crashTarget},
		{name: "the road of a replica to the store is bad", often: 4, strike: badStoreRoad},
		{name: "the road to the target is bad", often: 2, strike: badTargetRoad},
		{name: "answers are slow", often: 1, strike: slowRoads},
		{name: "the ledger's key is rotated at a replica", often: 1, strike: rotate},
		{name: "a revision is activated at a replica", often: 1, strike: activate},
		{name: "a lease is locked at a replica", often: 2, strike: lock},
	}
	if long {
		kinds = append(kinds,
			accident{name: "a replica stops until it is taken for dead", often: 1, strike: freeze(33*time.Second, 40*time.Second)},
			accident{name: "the standby is away for longer than a group may take", often: 1, servers: true, strike: loseStandby(16*time.Second, 20*time.Second)})
	}
	for _, kind := range kinds {
		for range kind.often {
			all = append(all, kind)
		}
	}
	return all
}

// between is a random time.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

func (w *world) someone(r *rand.Rand) (*rig.Replica, int) {
	i := r.IntN(len(w.fleet.Replicas))
	return w.fleet.Replicas[i], i
}

func kill(_ context.Context, w *world, r *rand.Rand) error {
	one, _ := w.someone(r)
	one.Kill(between(r, 0, 4*time.Second))
	return nil
}

func freeze(least, most time.Duration) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, r *rand.Rand) error {
		one, _ := w.someone(r)
		one.Freeze()
		w.pause(ctx, between(r, least, most))
		one.Thaw()
		return nil
	}
}

func failOver(ctx context.Context, w *world, r *rand.Rand) error {
	alone, after := r.IntN(3) == 0, between(r, 0, 3*time.Second)
	clean := context.WithoutCancel(ctx)
	if err := w.fleet.Store.FailOver(clean); err != nil {
		return err
	}
	if alone {
		if err := w.fleet.Store.Leave(clean); err != nil {
			return err
		}
	}
	w.pause(ctx, after)
	return w.fleet.Store.Follow(clean)
}

func crashStore(ctx context.Context, w *world, r *rand.Rand) error {
	primary, clean := w.fleet.Primary(), context.WithoutCancel(ctx)
	if err := primary.Kill(clean); err != nil {
		return err
	}
	w.pause(ctx, between(r, 0, 3*time.Second))
	return primary.Start(clean)
}

func loseStandby(least, most time.Duration) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, r *rand.Rand) error {
		clean := context.WithoutCancel(ctx)
		if err := w.fleet.Store.HaltStandby(clean); err != nil {
			return err
		}
		w.pause(ctx, between(r, least, most))
		return w.fleet.Store.ResumeStandby(clean)
	}
}

func crashTarget(ctx context.Context, w *world, r *rand.Rand) error {
	clean := context.WithoutCancel(ctx)
	if err := w.fleet.Postgres.Kill(clean); err != nil {
		return err
	}
	w.pause(ctx, between(r, 0, 4*time.Second))
	return w.fleet.Postgres.Start(clean)
}

func faults(r *rand.Rand) testbed.Fault {
	return []testbed.Fault{testbed.Cut, testbed.DropAnswers, testbed.Hold, testbed.BlackHole}[r.IntN(4)]
}

func badStoreRoad(ctx context.Context, w *world, r *rand.Rand) error {
	_, i := w.someone(r)
	fault, during := faults(r), between(r, 100*time.Millisecond, 5*time.Second)
	for _, road := range w.storeRoads[i] {
		road.Set(fault)
	}
	w.pause(ctx, during)
	for _, road := range w.storeRoads[i] {
		road.Heal()
	}
	return nil
}

func badTargetRoad(ctx context.Context, w *world, r *rand.Rand) error {
	w.targetRoad.Set(faults(r))
	w.pause(ctx, between(r, 100*time.Millisecond, 4*time.Second))
	w.targetRoad.Heal()
	return nil
}

func slowRoads(ctx context.Context, w *world, r *rand.Rand) error {
	_, i := w.someone(r)
	slow, during := between(r, 20*time.Millisecond, 200*time.Millisecond), between(r, time.Second, 4*time.Second)
	set := func(d time.Duration) {
		for _, road := range w.storeRoads[i] {
			road.Delay(d)
		}
		w.targetRoad.Delay(d)
	}
	set(slow)
	w.pause(ctx, during)
	set(0)
	return nil
}

func rotate(ctx context.Context, w *world, r *rand.Rand) error {
	one, _ := w.someone(r)
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := one.Admin.RotateKey(ctx)
	w.failed("rotate", err)
	return nil
}

// activate gives a replica access files that differ in a comment.
func activate(ctx context.Context, w *world, r *rand.Rand) error {
	one, _ := w.someone(r)
	files := map[string]string{}
	for _, name := range []string{"access.yaml", "orders.cedar"} {
		text, err := os.ReadFile(filepath.Join(w.fleet.Dir, "access", name))
		if err != nil {
			return err
		}
		files[name] = string(text)
	}
	files["access.yaml"] += "# " + strconv.FormatUint(r.Uint64(), 10) + "\n"
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := one.Admin.ApplyAccess(ctx, files, "")
	w.failed("activate", err)
	return nil
}

// lock ends a lease that somebody holds.
func lock(ctx context.Context, w *world, r *rand.Rand) error {
	one, _ := w.someone(r)
	var chosen *record
	w.records.change(func() {
		for _, l := range w.records.leases {
			if l.ended.IsZero() && time.Now().Before(l.until) {
				chosen = l
				break
			}
		}
	})
	if chosen == nil {
		return nil
	}
	w.ending(chosen)
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := one.Admin.Lock(ctx, api.LockRequest{Match: api.Match{Lease: chosen.id}, Reason: "chaos"})
	w.failed("lock", err)
	return nil
}

// accidents strikes until ctx ends, and returns when all that was begun is undone.
func (w *world) accidents(ctx context.Context, seed uint64, long bool) {
	random := rand.New(rand.NewPCG(seed, 0))
	var cards []accident
	for ctx.Err() == nil {
		if len(cards) == 0 {
			cards = deck(long)
			random.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
		}
		card := cards[0]
		cards = cards[1:]
		own := rand.New(rand.NewPCG(random.Uint64(), 0)) // what it draws is the same whether or not it can strike
		pause := between(random, 300*time.Millisecond, 2500*time.Millisecond)
		if !w.begin(card) {
			continue
		}
		w.striking.Go(func() {
			defer w.end(card)
			if err := card.strike(ctx, w, own); err != nil {
				w.t.Errorf("%s: %v", card.name, err)
			}
		})
		w.pause(ctx, pause)
	}
	w.striking.Wait()
}

// begin takes what an accident needs for itself, and counts it.
func (w *world) begin(a accident) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.servers && w.serversBusy || a.target && w.targetBusy {
		return false
	}
	w.serversBusy, w.targetBusy = w.serversBusy || a.servers, w.targetBusy || a.target
	w.struck[a.name]++
	w.diary = append(w.diary, fmt.Sprintf("%s %s", time.Now().Format("15:04:05.000"), a.name))
	return true
}

func (w *world) end(a accident) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serversBusy, w.targetBusy = w.serversBusy && !a.servers, w.targetBusy && !a.target
	w.diary = append(w.diary, fmt.Sprintf("%s over: %s", time.Now().Format("15:04:05.000"), a.name))
}
