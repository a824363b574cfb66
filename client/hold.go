package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/daypass/daypass/api"
)

// How a held lease is looked after.
const (
	renewAt     = 2.0 / 3          // of a life: the last third is for trying again
	minWatch    = 1 * time.Second  // between looks at whether the lease still lives
	maxWatch    = 60 * time.Second // the same
	watchParts  = 60               // looks per life, within these bounds
	holdTimeout = 15 * time.Second // of one call; a hung server must not use up the last third
)

// LostError says that a held lease ended, or will not be told of again, before its holder let it go.
type LostError struct {
	Lease  api.Lease // as the server last told
	Reason string    // as in [api.Lease]: "locked", "expired", …; "gone" when the server does not know the lease
	Err    error     // why it was not renewed, where that is known
}

// Error names the lease and the reason.
func (e *LostError) Error() string {
	text := fmt.Sprintf("lease %s of role %q ended: %s", e.Lease.ID, e.Lease.Role, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns why the lease was not renewed.
func (e *LostError) Unwrap() error { return e.Err }

// Notice is what [Lease.Hold] tells while it goes on.
type Notice struct {
	Lease api.Lease // as the server last told
	Err   error     // why a renewal failed; nil after one that went well
	Final bool      // it will not be renewed again and ends at its expiry
}

// HoldOption changes how [Lease.Hold] works.
type HoldOption func(*hold)

// OnNotice has each renewal and failed renewal told to f, which must return soon.
func OnNotice(f func(Notice)) HoldOption { return func(h *hold) { h.notice = f } }

// Hold keeps the lease alive until ctx ends, and then returns nil without releasing it. It blocks: run it in a
// goroutine of its own beside the work. When the lease ends first it returns a [LostError].
//
// It renews after two thirds of each life, tries again until the last moment while the server is out of reach, and
// looks at the lease in between (60 times a life, every second at most and every minute at least), since a lock ends it at any time.
func (l *Lease) Hold(ctx context.Context, options ...HoldOption) error {
	h := &hold{lease: l, notice: func(Notice) {}}
	for _, option := range options {
		option(h)
	}
	return h.run(ctx)
}

// hold is one run of [Lease.Hold]. One goroutine owns it.
type hold struct {
	lease  *Lease
	notice func(Notice)

	end, renew, watch *time.Timer
	life              time.Duration // what was left when the server last told
	final             bool          // no more renewals
	failures          int           // in a row
	lastErr           error         // of the last failed renewal, until one goes well
}

// run is the loop.
func (h *hold) run(ctx context.Context) error {
	if lost := h.begin(ctx); lost != nil {
		return lost
	}
	defer h.end.Stop()
	defer h.renew.Stop()
	defer h.watch.Stop()
	for {
		var lost error
		select {
		case <-ctx.Done():
			return nil
		case <-h.end.C:
			lost = h.atEnd(ctx)
		case <-h.renew.C:
			lost = h.atRenew(ctx)
		case <-h.watch.C:
			lost = h.atWatch(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if lost != nil {
			return lost
		}
	}
}

// begin learns what is left of the life. A server that does not answer now may do so later: until then the lease
// is taken to be as young as it says.
func (h *hold) begin(ctx context.Context) error {
	info, date, err := h.read(ctx)
	if lost := h.lost(info, err); lost != nil {
		return lost
	}
	if err != nil {
		info = h.lease.Info()
		date = info.CreatedAt.Time
	}
	h.life = remaining(info, date, info.ExpiresAt.Sub(info.CreatedAt.Time))
	h.end, h.renew, h.watch = time.NewTimer(h.life), time.NewTimer(h.toRenewal()), time.NewTimer(h.toWatch())
	h.final = isLast(info)
	return nil
}

// remaining is what is left of a life by the server's own clock, or otherwise where the server does not tell it.
func remaining(info api.Lease, date time.Time, otherwise time.Duration) time.Duration {
	if date.IsZero() {
		return max(otherwise, 0)
	}
	return max(info.ExpiresAt.Sub(date), 0)
}

// isLast reports whether no renewal can add to the life: a second's worth is not worth asking for.
func isLast(info api.Lease) bool {
	return !info.RenewableUntil.IsZero() && info.RenewableUntil.Sub(info.ExpiresAt.Time) < time.Second
}

// toRenewal is the time from an answer to the next renewal.
func (h *hold) toRenewal() time.Duration { return time.Duration(float64(h.life) * renewAt) }

// toWatch is the time to the next look.
func (h *hold) toWatch() time.Duration {
	every := min(max(h.life/watchParts, minWatch), maxWatch)
	return every + jitter(every/4)
}

// atRenew tries to renew.
func (h *hold) atRenew(ctx context.Context) error {
	if h.final {
		return nil
	}
	before := h.lease.Info()
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	info, date, err := h.lease.renew(ctx, h.lease.ttl)
	if err == nil {
		h.failures, h.lastErr = 0, nil
		h.extend(before, info, date)
		h.notice(Notice{Lease: info, Final: h.final})
		return nil
	}
	if ctx.Err() == context.Canceled {
		return nil // let go of, not failed
	}
	h.failures, h.lastErr = h.failures+1, err
	if isRefusal(err) {
		return h.refused(ctx, err)
	}
	again := min(time.Second<<min(h.failures-1, 5), max(h.life/12, time.Second))
	h.renew.Reset(again + jitter(again/4))
	h.notice(Notice{Lease: before, Err: err})
	return nil
}

// extend sets the timers after an answer that may have moved the expiry.
func (h *hold) extend(before, info api.Lease, date time.Time) {
	h.life = remaining(info, date, info.ExpiresAt.Sub(before.ExpiresAt.Time))
	h.final = h.final || isLast(info) || !info.ExpiresAt.After(before.ExpiresAt.Time)
	h.end.Reset(h.life)
	h.renew.Reset(h.toRenewal())
	h.watch.Reset(h.toWatch())
}

// isRefusal reports whether asking again is useless: the server answered, and the answer was no.
func isRefusal(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	return ok && problem.Status < http.StatusInternalServerError && problem.Status != http.StatusTooManyRequests
}

// refused finds out whether a lease that may not be renewed lives on until its expiry.
func (h *hold) refused(ctx context.Context, err error) error {
	info, _, readErr := h.read(ctx)
	if lost := h.lost(info, readErr); lost != nil {
		return lost
	}
	h.final = true
	h.notice(Notice{Lease: h.lease.Info(), Err: err, Final: true})
	return nil
}

// atWatch looks whether the lease still lives. A look that fails proves nothing.
func (h *hold) atWatch(ctx context.Context) error {
	h.watch.Reset(h.toWatch())
	before := h.lease.Info()
	info, date, err := h.read(ctx)
	if lost := h.lost(info, err); lost != nil {
		return lost
	}
	if err == nil && info.ExpiresAt.After(before.ExpiresAt.Time) { // someone else with the token renewed it
		h.extend(before, info, date)
	}
	return nil
}

// atEnd tells why a lease whose time is up is lost.
func (h *hold) atEnd(ctx context.Context) error {
	before := h.lease.Info()
	info, date, err := h.read(ctx)
	if lost := h.lost(info, err); lost != nil {
		return lost
	}
	if err == nil && remaining(info, date, 0) > 0 && info.ExpiresAt.After(before.ExpiresAt.Time) {
		h.extend(before, info, date)
		return nil
	}
	return &LostError{Lease: h.lease.Info(), Reason: "expired", Err: h.lastErr}
}

// read asks how the lease is, with a deadline of its own.
func (h *hold) read(ctx context.Context) (api.Lease, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	return h.lease.read(ctx)
}

// lost returns a [LostError] when an answer proves that the lease ended, and nil when it does not.
func (h *hold) lost(info api.Lease, err error) error {
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Status == http.StatusNotFound {
		return &LostError{Lease: h.lease.Info(), Reason: "gone", Err: h.lastErr}
	}
	if err != nil || info.State == "pending" || info.State == "active" {
		return nil
	}
	return &LostError{Lease: info, Reason: info.Reason, Err: h.lastErr}
}
