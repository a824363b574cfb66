package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
)

// counter is a server that counts. A test's bubble has a goroutine per call.
type counter struct {
	share string
	slow  time.Duration // how long an acquisition takes

	mu       sync.Mutex
	given    int
	released int
	refuse   int  // so many acquisitions, with 403
	ended    bool // leases are locked
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		<-time.After(c.slow)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := acquired(time.Hour)
	a.Lease.Share = c.share
	switch {
	case r.Method == http.MethodPost && c.refuse > 0:
		c.refuse--
		writeProblem(w, api.Problem{Status: 403, Code: "denied"})
	case r.Method == http.MethodPost:
		c.given++
		a.Lease.ID = fmt.Sprintf("lease%d", c.given)
		writeJSON(w, http.StatusCreated, a)
	default:
		a.Lease.ID = path.Base(r.URL.Path)
		if r.Method == http.MethodDelete {
			c.released++
		}
		if c.ended {
			a.Lease.State, a.Lease.Reason = "revoking", "locked"
		}
		writeJSON(w, http.StatusOK, a.Lease)
	}
}

// uses runs n goroutines that use a role for a minute, and returns how many ended with an error.
func uses(t *testing.T, s *client.Sharing, n int) (failed int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for range n {
		all.Go(func() {
			err := s.Use(t.Context(), "orders", func(ctx context.Context, lease *client.Lease) error {
				if lease.Credential.Secret("password").Reveal() != "canary" {
					t.Error("the lease has no credential")
				}
				<-time.After(time.Minute)
				return ctx.Err()
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
		})
	}
	all.Wait()
	return failed
}

func TestGoroutinesShareOneLeaseWhereItsRoleSaysSo(t *testing.T) {
	for share, want := range map[string]int{api.ShareRun: 1, "": 20} {
		synctest.Test(t, func(t *testing.T) {
			c := &counter{share: share, slow: time.Second}
			s := client.NewSharing(dial(t, c.ServeHTTP))
			if failed := uses(t, s, 20); failed > 0 || c.given != want || c.released != want {
				t.Errorf("share %q: %d failed, %d given, %d released", share, failed, c.given, c.released)
			}
			if failed := uses(t, s, 1); failed > 0 || c.given != want+1 || c.released != want+1 {
				t.Errorf("share %q, again: %d failed, %d given, %d released", share, failed, c.given, c.released)
			}
		})
	}
}

func TestTheLastOfThoseWhoShareReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{share: api.ShareRun}
		s := client.NewSharing(dial(t, c.ServeHTTP))
		first, leave := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- s.Use(first, "orders", func(ctx context.Context, _ *client.Lease) error {
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		err := s.Use(t.Context(), "orders", func(ctx context.Context, lease *client.Lease) error {
			leave() // who began it goes, and its context with it
			<-done
			if c.released != 0 || ctx.Err() != nil {
				t.Errorf("%d released, %v", c.released, ctx.Err())
			}
			return errors.New("the work's own")
		})
		if err == nil || err.Error() != "the work's own" || c.given != 1 || c.released != 1 {
			t.Errorf("%v, %d given, %d released", err, c.given, c.released)
		}
	})
}

func TestALeaseThatIsLostEndsTheWorkOfAllAndIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{share: api.ShareRun}
		s := client.NewSharing(dial(t, c.ServeHTTP))
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				err := s.Use(t.Context(), "orders", func(ctx context.Context, _ *client.Lease) error {
					<-ctx.Done()
					return context.Cause(ctx)
				})
				if lost(t, err).Reason != "locked" {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		all.Wait()
		c.ended = false
		if failed := uses(t, s, 2); failed > 0 || c.given != 2 || c.released != 1 {
			t.Errorf("%d failed, %d given, %d released", failed, c.given, c.released)
		}
	})
}

func TestWhoComesAfterALossGetsAnotherLeaseWhileOthersStillEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{share: api.ShareRun}
		s := client.NewSharing(dial(t, c.ServeHTTP))
		err := s.Use(t.Context(), "orders", func(ctx context.Context, old *client.Lease) error {
			c.mu.Lock()
			c.ended = true
			c.mu.Unlock()
			<-ctx.Done()
			c.mu.Lock()
			c.ended = false
			c.mu.Unlock()
			return s.Use(t.Context(), "orders", func(_ context.Context, another *client.Lease) error {
				if another.ID() == old.ID() {
					t.Error("a lost lease is handed on")
				}
				return nil
			})
		})
		if err != nil || c.given != 2 || c.released != 1 {
			t.Errorf("%v, %d given, %d released", err, c.given, c.released)
		}
	})
}

func TestARefusalIsToldToAllWhoWaitForItAndToNobodyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{share: api.ShareRun, slow: time.Second, refuse: 1}
		s := client.NewSharing(dial(t, c.ServeHTTP))
		if failed := uses(t, s, 5); failed != 5 || c.given != 0 {
			t.Errorf("%d failed, %d given", failed, c.given)
		}
		if failed := uses(t, s, 5); failed != 0 || c.given != 1 || c.released != 1 {
			t.Errorf("%d failed, %d given, %d released", failed, c.given, c.released)
		}
	})
}

func TestWhoStopsWaitingLeavesTheLeaseToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{share: api.ShareRun, slow: time.Minute / 3}
		s := client.NewSharing(dial(t, c.ServeHTTP))
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		none := func(context.Context, *client.Lease) error { t.Error("work without a lease"); return nil }
		done := make(chan error)
		go func() { done <- s.Use(hasty, "orders", none) }()
		synctest.Wait()
		if failed := uses(t, s, 2); failed > 0 || c.given != 1 || c.released != 1 {
			t.Errorf("%d failed, %d given, %d released", failed, c.given, c.released)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
