package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testissuer"
)

const (
	soakCallers = 16
	soakEvery   = 400 * time.Millisecond // for each: 40 in a second
	soakSample  = 5 * time.Second
)

// soak runs one server under steady load for a long time and holds that its memory stays as it is.
//
// The rule: what a process needs is reached in the first quarter. The median of the last quarter may be at most a
// tenth and 4 MiB above that of the second, for resident memory and for the live heap, and at most 16 above it for
// goroutines and open files. The store's log may not pass the limit that the server sets for it.
func soak(ctx context.Context, s settings) (err error) {
	r, err := rig.Start(ctx, rig.Options{Fsync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	fmt.Printf("\n## Soak: %s of one server (SQLite) under steady load\n\n| minute | resident | live heap | goroutines | open files | store | its log | live leases | entries | done | refused as they should be | failed |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", s.soak)
	w := &soakWork{rig: r}
	if err := w.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.soak)
	defer cancel()
	working := w.begin(ctx)
	var taken []soakPoint
	begun := time.Now()
	for told := -1; sleep(ctx, soakSample); {
		p, err := w.sample(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		taken = append(taken, p)
		if minute := int(time.Since(begun).Minutes()); minute > told {
			told = minute
			fmt.Printf("| %d | %s |\n", minute, p)
		}
	}
	working.Wait()
	if w.failure != nil {
		fmt.Printf("\nthe last that failed: %v\n", w.failure)
	}
	return judgeSoak(taken)
}

// soakWork is what callers do in a soak.
type soakWork struct {
	rig                   *rig.Rig
	good, branch, stray   []*client.Client
	done, refused, failed atomic.Int64

	mu      sync.Mutex
	failure error // the last
}

func (w *soakWork) prepare() (err error) {
	site := w.rig.Site
	w.good, w.branch, w.stray = make([]*client.Client, soakCallers), make([]*client.Client, soakCallers), make([]*client.Client, soakCallers)
	other, err := testissuer.New(testissuer.Options{Now: time.Now, URL: site.Issuer.URL()}) // keys that nobody publishes
	if err != nil {
		return err
	}
	forged := *site
	forged.Issuer = other
	for i := range soakCallers {
		id := strconv.Itoa(i)
		for _, one := range []struct {
			at    **client.Client
			token client.TokenSource
		}{
			{at: &w.good[i], token: fresh(site, testissuer.Run{RunID: id})},
			{at: &w.branch[i], token: fresh(site, testissuer.Run{RunID: id, Ref: "refs/heads/topic-" + id})},
			{at: &w.stray[i], token: fresh(&forged, testissuer.Run{RunID: id})},
		} {
			if *one.at, err = client.New(client.Options{URL: w.rig.URL, Token: one.token}); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin lets all callers work until ctx ends.
func (w *soakWork) begin(ctx context.Context) *sync.WaitGroup {
	var working sync.WaitGroup
	for caller := range soakCallers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 0))
			due := time.Now().Add(soakEvery * time.Duration(caller) / soakCallers)
			keepTime(ctx, due, soakEvery, func(time.Time) { w.lap(context.WithoutCancel(ctx), caller, random.IntN(20)) })
		})
	}
	return &working
}

// lap is one piece of work: mostly a short job that renews, in part a lease that is left to expire, a denial, and a
// token that nobody signed.
func (w *soakWork) lap(ctx context.Context, caller, which int) {
	switch which {
	case 0:
		_, err := w.branch[caller].Acquire(ctx, api.AcquireRequest{Role: "member-fast"})
		w.mustRefuse(err, "denied")
		return
	case 1:
		_, err := w.stray[caller].Acquire(ctx, api.AcquireRequest{Role: "member-fast"})
		w.mustRefuse(err, "unauthenticated")
		return
	}
	ttl := api.Duration(30 * time.Second)
	held, err := w.good[caller].Acquire(ctx, api.AcquireRequest{Role: []string{"member-fast", "grants-fast"}[which%2], TTL: &ttl})
	if err == nil && which%3 == 0 {
		_, err = held.Renew(ctx, &ttl)
	}
	if err == nil && which%5 > 0 {
		_, err = held.Release(ctx, 0)
	}
	if err != nil {
		w.fail(err)
		return
	}
	w.done.Add(1)
}

func (w *soakWork) mustRefuse(err error, code string) {
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == code {
		w.refused.Add(1)
		return
	}
	w.fail(fmt.Errorf("wanted a refusal %q: %w", code, err))
}

func (w *soakWork) fail(err error) {
	w.failed.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

// soakPoint is how the server is at a moment.
type soakPoint struct {
	resident, heap, store, log int64
	goroutines, files          int64
	live, entries              int64
	done, refused, failed      int64
}

func (p soakPoint) String() string {
	return fmt.Sprintf("%d MiB | %.1f MiB | %d | %d | %.1f MiB | %.1f MiB | %d | %d | %d | %d | %d", p.resident>>20, mib(p.heap), p.goroutines, p.files,
		mib(p.store), mib(p.log), p.live, p.entries, p.done, p.refused, p.failed)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (w *soakWork) sample(ctx context.Context) (p soakPoint, err error) {
	figures, err := scrape(ctx, w.rig.URL)
	if err != nil {
		return p, err
	}
	status, err := w.rig.Admin.Status(ctx)
	if err != nil {
		return p, err
	}
	if p.resident, err = resident(w.rig.BrokerPID()); err != nil {
		return p, err
	}
	// The collector lets the heap grow to twice what lived after its last look.
	p.heap = int64(figures["go_memstats_next_gc_bytes"]) / 2
	p.goroutines, p.files = int64(figures["go_goroutines"]), int64(figures["process_open_fds"])
	p.live, p.entries = int64(status.Leases.Pending+status.Leases.Active+status.Leases.Revoking), status.Ledger.Size
	p.done, p.refused, p.failed = w.done.Load(), w.refused.Load(), w.failed.Load()
	for path, into := range map[string]*int64{"daypass.db": &p.store, "daypass.db-wal": &p.log} {
		info, err := os.Stat(w.rig.Path(path))
		if err != nil {
			return p, err
		}
		*into = info.Size()
	}
	return p, nil
}

// scrape reads the metrics that have no labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range bytes.Lines(text.Bytes()) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if number, err := strconv.ParseFloat(string(value), 64); err == nil {
			all[string(name)] = number
		}
	}
	return all, nil
}

const logLimit = 64 << 20 // journal_size_limit of the store

// judgeSoak applies the rule.
func judgeSoak(taken []soakPoint) error {
	if len(taken) < 16 {
		return fmt.Errorf("only %d samples were taken: the soak shows little", len(taken))
	}
	quarter := len(taken) / 4
	second, last := taken[quarter:2*quarter], taken[len(taken)-quarter:]
	fmt.Printf("\n| | median of the second quarter | of the last | at most |\n|---|--:|--:|--:|\n")
	var wrong []error
	for _, figure := range []struct {
		name  string
		of    func(soakPoint) int64
		most  func(before int64) int64
		shown func(int64) string
	}{
		{"resident memory", func(p soakPoint) int64 { return p.resident }, aTenthMore, inMiB},
		{"live heap", func(p soakPoint) int64 { return p.heap }, aTenthMore, inMiB},
		{"goroutines", func(p soakPoint) int64 { return p.goroutines }, someMore, inUnits},
		{"open files", func(p soakPoint) int64 { return p.files }, someMore, inUnits},
		{"the store's log", func(p soakPoint) int64 { return p.log }, func(int64) int64 { return logLimit }, inMiB},
		{"failed", func(p soakPoint) int64 { return p.failed }, func(int64) int64 { return 0 }, inUnits},
	} {
		before, after := median(second, figure.of), median(last, figure.of)
		most := figure.most(before)
		fmt.Printf("| %s | %s | %s | %s |\n", figure.name, figure.shown(before), figure.shown(after), figure.shown(most))
		if after > most {
			wrong = append(wrong, fmt.Errorf("%s grew from %s to %s, and at most %s is flat", figure.name, figure.shown(before), figure.shown(after), figure.shown(most)))
		}
	}
	return errors.Join(wrong...)
}

func aTenthMore(n int64) int64 { return n + n/10 + 4<<20 }

func someMore(n int64) int64 { return n + 16 }

func inMiB(n int64) string { return fmt.Sprintf("%.1f MiB", mib(n)) }

func inUnits(n int64) string { return strconv.FormatInt(n, 10) }

func median(points []soakPoint, of func(soakPoint) int64) int64 {
	var all []int64
	for _, p := range points {
		all = append(all, of(p))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
