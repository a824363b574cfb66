package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/watch"
)

// mailbox is a sink that keeps what it gets. With err it takes nothing; with stuck it hangs until its time is up.
type mailbox struct {
	mu    sync.Mutex
	got   []watch.Message
	err   error
	stuck bool
	tries int
}

func (m *mailbox) Send(ctx context.Context, message watch.Message) error {
	m.mu.Lock()
	m.tries++
	err, stuck := m.err, m.stuck
	if err == nil && !stuck {
		m.got = append(m.got, message)
	}
	m.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (m *mailbox) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// lines are what it got: state, kind and subject of each.
func (m *mailbox) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, g := range m.got {
		all = append(all, fmt.Sprintf("%s %s %s", g.State, g.Kind, g.Subject))
	}
	return all
}

func (m *mailbox) last() watch.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[len(m.got)-1]
}

func (m *mailbox) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got := m.lines(); strings.Join(got, "\n") != strings.Join(lines, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// rig is a watcher that runs in a bubble.
type rig struct {
	*watch.Watcher
	mail   *mailbox
	mu     sync.Mutex
	health []watch.Health
}

func (r *rig) set(all ...watch.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = all
}

// run runs a watcher in a bubble, with one sink beside those given.
func run(t *testing.T, cfg watch.Config, test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{mail: &mailbox{}, health: []watch.Health{{Issuer: "github", Keys: 1}}}
		cfg.Sinks = append(cfg.Sinks, watch.Sink{Name: "mail", Sender: r.mail, Rate: 1000})
		cfg.Instance, cfg.Server, cfg.Now, cfg.Log = "abc123", "host/1", time.Now, slog.New(slog.DiscardHandler)
		cfg.Issuers = func() []watch.Health {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.health
		}
		r.Watcher = watch.New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		test(t, r)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestKeysThatChangeWithoutOverlapAreToldOnceAndThenThatItIsOver(t *testing.T) {
	run(t, watch.Config{}, func(t *testing.T, r *rig) {
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 0, Now: 2})          // the first keys
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 2, Now: 2, Kept: 1}) // a rotation
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 2, Err: errors.New("it is down")})
		r.mail.want(t)
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 2, Now: 1})
		r.mail.want(t, "opened issuer-keys-replaced github")
		pass(9 * time.Minute)
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 1, Now: 1})
		pass(9 * time.Minute)
		r.mail.want(t, "opened issuer-keys-replaced github")
		if open := r.Open(); len(open) != 1 || open[0].Count != 2 {
			t.Errorf("open: %+v", open)
		}
		pass(2 * time.Minute)
		r.mail.want(t, "opened issuer-keys-replaced github", "ended issuer-keys-replaced github")
		if last := r.mail.last(); last.Count != 2 || last.Key != "abc123/issuer-keys-replaced/github" || last.Advice == "" || last.Server != "host/1" {
			t.Errorf("the message: %+v", last)
		}
		if open := r.Open(); len(open) != 0 {
			t.Errorf("open: %+v", open)
		}
	})
}

func TestDocumentsThatMoveAreTold(t *testing.T) {
	at := func(keys string, algorithms ...string) oidc.Discovery {
		return oidc.Discovery{KeysAt: keys, Algorithms: algorithms}
	}
	for _, c := range []struct {
		name string
		next oidc.Fetch
		want string // in the summary; empty: nothing is told
	}{
		{"the same again", oidc.Fetch{Discovery: at("https://a.example/k", "RS256")}, ""},
		{"another place of keys", oidc.Fetch{Discovery: at("https://b.example/k", "RS256")}, "its keys are at https://b.example/k and were at https://a.example/k"},
		{"another algorithm", oidc.Fetch{Discovery: at("https://a.example/k", "ES256")}, "signs with ES256 and said RS256"},
		{"another issuer", oidc.Fetch{Err: fmt.Errorf("it %w", oidc.ErrOtherIssuer)}, "says that it is another issuer"},
		{"a fetch that failed", oidc.Fetch{Err: errors.New("it is down")}, ""},
		{"a place that writes on terminals", oidc.Fetch{Discovery: at("https://b.example/\x1b[31m\n", "RS256")}, `https://b.example/\u{1b}[31m\u{a}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, watch.Config{}, func(t *testing.T, r *rig) {
				r.Fetched(oidc.Fetch{Issuer: "github", Discovery: at("https://a.example/k", "RS256")})
				c.next.Issuer = "github"
				r.Fetched(c.next)
				if c.want == "" {
					r.mail.want(t)
					return
				}
				r.mail.want(t, "opened issuer-discovery-moved github")
				if got := r.mail.last().Summary; !strings.Contains(got, c.want) {
					t.Errorf("summary %q lacks %q", got, c.want)
				}
			})
		})
	}
}

func TestAClockThatRunsAheadIsToldFromTheThirdToken(t *testing.T) {
	run(t, watch.Config{}, func(t *testing.T, r *rig) {
		early := func(ahead time.Duration, why oidc.Why) {
			r.Verified(oidc.Verification{Issuer: "github", Why: why, IssuedAt: time.Now().Add(ahead)})
		}
		early(15*time.Second, "")
		early(45*time.Second, oidc.WhyEarly)
		for range 10 {
			early(5*time.Second, "") // within what clocks do
		}
		r.mail.want(t)
		early(45*time.Second, oidc.WhyEarly)
		r.mail.want(t, "opened issuer-clock-skew github")
		if got := r.mail.last().Summary; !strings.Contains(got, "45s in our future") {
			t.Errorf("summary %q", got)
		}
		r.Verified(oidc.Verification{Issuer: "github", Why: oidc.WhySignature}) // tells nothing of time
		r.mail.want(t, "opened issuer-clock-skew github")
	})
}

func TestFloodsAreToldFromTheLimitOnAndOnce(t *testing.T) {
	run(t, watch.Config{Limits: watch.Limits{Failures: 20}}, func(t *testing.T, r *rig) {
		for range 19 {
			r.Verified(oidc.Verification{Issuer: "github", UnknownKey: true, Unavailable: true})
			r.Rejected("github", &oidc.Rejection{Why: oidc.WhyKey}) // counted as unknown keys, not here
			r.Refused(netip.MustParseAddr("2001:db8::1"))
		}
		r.mail.want(t)
		pass(2 * time.Minute) // slowly is no flood
		for range 19 {
			r.Verified(oidc.Verification{Issuer: "github", Why: oidc.WhyKey})
		}
		r.mail.want(t)
		r.Verified(oidc.Verification{Issuer: "github", Why: oidc.WhyKey})
		for range 30 {
			r.Refused(netip.MustParseAddr("2001:db8::2")) // the same subscriber as :1
			r.Rejected("github", &oidc.Rejection{Why: oidc.WhyAudience})
		}
		r.mail.want(t, "opened issuer-unknown-keys github", "opened source-failures 2001:db8::/64", "opened issuer-rejections github")
		for _, open := range r.Open() {
			if want := map[watch.Kind]int64{watch.UnknownKeys: 20, watch.SourceFailures: 30, watch.Rejections: 30}[open.Kind]; open.Count != want {
				t.Errorf("%s was counted %d times, not %d", open.Kind, open.Count, want)
			}
		}
	})
}

func TestStrangersAreToldOneByOneUpToABoundAndTheirTextsAreHarmless(t *testing.T) {
	run(t, watch.Config{}, func(t *testing.T, r *rig) {
		r.Knocked("https://evil.example/\x1b[2J\n<script>" + strings.Repeat("ü", 4000))
		synctest.Wait()
		first := r.mail.last().Subject
		if !strings.HasPrefix(first, `https://evil.example/\u{1b}[2J\u{a}<script>\u{fc}`) || !strings.HasSuffix(first, "...") {
			t.Errorf("subject %q", first)
		}
		if len(first) > 120 || strings.ContainsFunc(first, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("subject %q", first)
		}
		for i := range 1000 {
			for range 3 {
				r.Knocked(fmt.Sprintf("https://%d.example", i))
			}
			synctest.Wait()
		}
		got := r.mail.lines()
		if len(got) != 9 || got[8] != "opened unknown-issuer (others)" {
			t.Errorf("%d messages: %q", len(got), got)
		}
		if open := r.Open(); len(open) != 9 || open[0].Subject != "(others)" || open[0].Count < 2900 {
			t.Errorf("open: %+v", open)
		}
	})
}

func TestAnIssuerThatGivesNoKeysIsToldWhenItLastsAndWhenItIsBack(t *testing.T) {
	run(t, watch.Config{}, func(t *testing.T, r *rig) {
		begun := time.Now()
		r.set(watch.Health{Issuer: "github", FailingSince: begun, LastError: "it answers\n503", Keys: 1, KeysUntil: begun.Add(7 * time.Hour)})
		pass(5*time.Minute - time.Second)
		r.mail.want(t)
		pass(3 * time.Second)
		r.mail.want(t, "opened issuer-unreachable github")
		if got := r.mail.last().Summary; !strings.Contains(got, `it answers\u{a}503`) {
			t.Errorf("summary %q", got)
		}
		pass(time.Hour)
		r.mail.want(t, "opened issuer-unreachable github", "opened issuer-keys-ending github")
		r.set(watch.Health{Issuer: "github", Keys: 1})
		pass(2 * time.Minute)
		r.mail.want(t, "opened issuer-unreachable github", "opened issuer-keys-ending github",
			"ended issuer-unreachable github", "ended issuer-keys-ending github")
	})
}

func TestAnIssuerThatLeftTheConfigurationIsNotToldOfAnyMore(t *testing.T) {
	run(t, watch.Config{}, func(t *testing.T, r *rig) {
		r.set(watch.Health{Issuer: "github", FailingSince: time.Now().Add(-time.Hour)})
		pass(2 * time.Second)
		r.mail.want(t, "opened issuer-keys-ending github", "opened issuer-unreachable github")
		r.set()
		pass(2 * time.Minute)
		if open := r.Open(); len(open) != 0 {
			t.Errorf("open: %+v", open)
		}
	})
}

func TestASinkThatIsDeadHarmsOnlyItselfAndGetsWhatWaitsWhenItIsBack(t *testing.T) {
	dead, stuck := &mailbox{err: errors.New("nobody answers")}, &mailbox{stuck: true}
	run(t, watch.Config{Sinks: []watch.Sink{{Name: "dead", Sender: dead, Rate: 1000}, {Name: "stuck", Sender: stuck, Rate: 1000}}}, func(t *testing.T, r *rig) {
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 1, Now: 1})
		r.mail.want(t, "opened issuer-keys-replaced github")
		pass(10 * time.Minute)
		synctest.Wait()
		dead.mu.Lock()
		tries := dead.tries
		dead.mu.Unlock()
		if tries < 5 || tries > 12 {
			t.Errorf("the dead sink was tried %d times in ten minutes", tries)
		}
		all := r.Outlets()
		if !all[0].Failing || all[0].LastError != "nobody answers" || all[0].Sent != 0 || !all[1].Failing || all[2].Failing {
			t.Errorf("outlets: %+v", all)
		}
		dead.fail(nil)
		pass(10 * time.Minute)
		dead.want(t, "opened issuer-keys-replaced github", "ended issuer-keys-replaced github")
		pass(2 * time.Hour)
		synctest.Wait()
		if all := r.Outlets(); all[0].Failing || all[0].Sent != 2 || all[1].Abandons != 2 {
			t.Errorf("outlets later: %+v", all)
		}
	})
}

func TestASinkIsSentNoMoreThanItsRateAndItsQueueIsBounded(t *testing.T) {
	slow := &mailbox{}
	run(t, watch.Config{Sinks: []watch.Sink{{Name: "slow", Sender: slow, Rate: 1.0 / 60}}}, func(t *testing.T, r *rig) {
		var all []watch.Health
		for i := range 400 {
			all = append(all, watch.Health{Issuer: fmt.Sprintf("i%d", i), FailingSince: time.Now().Add(-time.Hour), Keys: 1, KeysUntil: time.Now().Add(20 * time.Hour)})
		}
		r.set(all...)
		pass(5 * time.Second)
		synctest.Wait()
		if got := len(r.mail.lines()); got < 256 { // what fits its queue at once
			t.Errorf("the fast sink got %d", got)
		}
		if got := len(slow.lines()); got != 10 {
			t.Errorf("the slow sink got %d at once", got)
		}
		o := r.Outlets()[0]
		if o.Waiting > 256 || o.Dropped == 0 {
			t.Errorf("the slow sink: %+v", o)
		}
		pass(5 * time.Minute)
		synctest.Wait()
		if got := len(slow.lines()); got < 14 || got > 16 {
			t.Errorf("the slow sink got %d after five minutes", got)
		}
	})
}

// shelf is what servers of one store claim.
type shelf struct {
	mu    sync.Mutex
	by    map[string]string
	until map[string]time.Time
}

func (s *shelf) claim(server string) func(context.Context, string, time.Duration) (bool, error) {
	return func(_ context.Context, what string, during time.Duration) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.by[what] != server && time.Now().Before(s.until[what]) {
			return false, nil
		}
		s.by[what], s.until[what] = server, time.Now().Add(during)
		return true, nil
	}
}

func TestOfSeveralServersOneTellsAndAnotherTakesOverWhenItDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		common := &shelf{by: map[string]string{}, until: map[string]time.Time{}}
		failing := []watch.Health{{Issuer: "github", FailingSince: time.Now().Add(-time.Hour), Keys: 1, KeysUntil: time.Now().Add(24 * time.Hour)}}
		start := func(name string) (*mailbox, func()) {
			mail := &mailbox{}
			w := watch.New(watch.Config{Server: name, Now: time.Now, Log: slog.New(slog.DiscardHandler), Claim: common.claim(name),
				Sinks: []watch.Sink{{Name: "mail", Sender: mail}}, Issuers: func() []watch.Health { return failing }})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = w.Run(ctx) }()
			return mail, func() { cancel(); <-ended }
		}
		first, stopFirst := start("first")
		pass(2 * time.Second)
		second, stopSecond := start("second")
		pass(30 * time.Minute)
		first.want(t, "opened issuer-unreachable github")
		second.want(t)
		stopFirst()
		pass(20 * time.Minute)
		second.want(t, "opened issuer-unreachable github")
		stopSecond()
	})
}

func TestWhenNobodyCanBeAskedWhoTellsEachTells(t *testing.T) {
	broken := func(context.Context, string, time.Duration) (bool, error) {
		return false, errors.New("the store is away")
	}
	run(t, watch.Config{Claim: broken}, func(t *testing.T, r *rig) {
		r.Fetched(oidc.Fetch{Issuer: "github", Before: 1, Now: 1})
		r.mail.want(t, "opened issuer-keys-replaced github")
	})
}

func TestNothingThatIsWatchedWaits(t *testing.T) {
	w := watch.New(watch.Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}) // nobody runs it
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 5000 {
			w.Verified(oidc.Verification{Issuer: "github"})
			w.Knocked("https://stranger.example")
			w.Refused(netip.MustParseAddr("192.0.2.1"))
		}
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}
}

// pass lets time go by in a bubble, where it takes none.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a bubble
