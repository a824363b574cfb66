package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
)

// desk answers the calls about one lease of a life as a server would. The test's bubble runs it in the client's
// own goroutine.
type desk struct {
	life   time.Duration
	max    time.Duration // of all lives together; 0: no end
	lease  api.Lease
	refuse func(r *http.Request) *api.Problem
	renews []string // who renewed: evidence or lease-token
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.refuse != nil {
		if p := d.refuse(r); p != nil {
			writeProblem(w, *p)
			return
		}
	}
	now := time.Now()
	if d.lease.State == "active" && !now.Before(d.lease.ExpiresAt.Time) {
		d.lease.State, d.lease.Reason = "revoking", "expired"
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/renew"):
		d.renews = append(d.renews, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		until := now.Add(d.life)
		if d.max > 0 && until.After(d.lease.RenewableUntil.Time) {
			until = d.lease.RenewableUntil.Time
		}
		d.lease.ExpiresAt = api.At(until)
	case r.Method == http.MethodPost:
		a := acquired(d.life)
		if d.max > 0 {
			a.Lease.RenewableUntil = api.At(now.Add(d.max))
		} else {
			a.Lease.RenewableUntil = api.At(now.Add(1000 * d.life))
		}
		d.lease = a.Lease
		writeJSON(w, http.StatusCreated, a)
		return
	}
	writeJSON(w, http.StatusOK, d.lease)
}

// acquire starts a bubble with a lease from d.
func (d *desk) acquire(t *testing.T) *client.Lease {
	t.Helper()
	lease, err := dial(t, d.ServeHTTP).Acquire(t.Context(), api.AcquireRequest{Role: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func lost(t *testing.T, err error) *client.LostError {
	t.Helper()
	lost, ok := errors.AsType[*client.LostError](err)
	if !ok {
		t.Fatalf("got %v, want a LostError", err)
	}
	return lost
}

func TestAHeldLeaseLivesAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: 15 * time.Minute}
		lease := d.acquire(t)
		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Minute)
		defer cancel()
		if err := lease.Hold(ctx); err != nil {
			t.Fatal(err)
		}
		if len(d.renews) != 5 || d.renews[0] != "evidence" || d.lease.State != "active" {
			t.Errorf("renewed by %v, state %s", d.renews, d.lease.State)
		}
	})
}

func TestALockEndsHoldWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: 24 * time.Hour}
		lease := d.acquire(t)
		start := time.Now()
		d.refuse = func(*http.Request) *api.Problem {
			if time.Since(start) > time.Hour {
				d.lease.State, d.lease.Reason = "revoking", "locked"
			}
			return nil
		}
		err := lost(t, lease.Hold(t.Context()))
		if err.Reason != "locked" || time.Since(start) > time.Hour+75*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestARoleWithAMaximumIsHeldUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: 15 * time.Minute, max: time.Hour}
		lease := d.acquire(t)
		start, final := time.Now(), 0
		err := lost(t, lease.Hold(t.Context(), client.OnNotice(func(n client.Notice) {
			if n.Final {
				final++
			}
		})))
		if err.Reason != "expired" || time.Since(start).Round(time.Minute) != time.Hour || final != 1 {
			t.Errorf("%v after %v with %d final notices", err, time.Since(start), final)
		}
	})
}

func TestADeniedRenewalLeavesTheLifeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: 15 * time.Minute}
		d.refuse = func(r *http.Request) *api.Problem {
			if strings.HasSuffix(r.URL.Path, "/renew") {
				return &api.Problem{Status: 403, Code: "denied", Detail: "no"}
			}
			return nil
		}
		lease := d.acquire(t)
		start, told := time.Now(), 0
		err := lost(t, lease.Hold(t.Context(), client.OnNotice(func(n client.Notice) { told++ })))
		if err.Reason != "expired" || err.Err == nil || time.Since(start).Round(time.Minute) != 15*time.Minute || told != 1 {
			t.Errorf("%v after %v, told %d times", err, time.Since(start), told)
		}
	})
}

func TestAServerOutOfReachIsAskedUntilTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: 15 * time.Minute}
		start := time.Now()
		d.refuse = func(*http.Request) *api.Problem {
			if at := time.Since(start); at > 9*time.Minute && at < 14*time.Minute {
				return &api.Problem{Status: 503, Code: "store_unavailable"}
			}
			return nil
		}
		lease := d.acquire(t)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		if err := lease.Hold(ctx); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d, start := &desk{life: 15 * time.Minute}, time.Now()
		lease := d.acquire(t)
		d.refuse = func(*http.Request) *api.Problem { return &api.Problem{Status: 500, Code: "internal"} }
		err := lost(t, lease.Hold(t.Context()))
		if err.Reason != "expired" || err.Err == nil || time.Since(start).Round(time.Minute) != 15*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestTheLeaseTokenRenewsWhereEvidenceIsSpentOrAnothers(t *testing.T) {
	for status, code := range map[int]string{401: "unauthenticated", 404: "not_found"} {
		synctest.Test(t, func(t *testing.T) { renewByToken(t, &api.Problem{Status: status, Code: code}) })
	}
}

func renewByToken(t *testing.T, refusal *api.Problem) {
	d := &desk{life: 15 * time.Minute}
	lease := d.acquire(t)
	d.refuse = func(r *http.Request) *api.Problem {
		if r.Header.Get("Authorization") == "Bearer evidence" {
			return refusal
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 59*time.Minute)
	defer cancel()
	if err := lease.Hold(ctx); err != nil || len(d.renews) != 5 || d.renews[0] != "lease-token" {
		t.Errorf("renewed by %v: %v", d.renews, err)
	}
}

func TestAnUnknownLeaseIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{life: time.Minute}
		lease := d.acquire(t)
		d.refuse = func(*http.Request) *api.Problem { return &api.Problem{Status: 404, Code: "not_found"} }
		if err := lost(t, lease.Hold(t.Context())); err.Reason != "gone" {
			t.Error(err)
		}
	})
}
