package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// newDecision is a policy decision as the store keeps it, with its whole input.
func (b *Broker) newDecision(view *View, p identity.Principal, action policy.Action, on policy.Resource, d policy.Decision, now time.Time) store.Decision {
	outcome := "deny"
	if d.Allow {
		outcome = "allow"
	}
	reasons, err := json.Marshal(d.Reasons)
	if err != nil { // plain strings: it cannot happen
		reasons = []byte("[]")
	}
	return store.Decision{
		ID:        string(lease.NewID(now.Unix())),
		At:        now,
		Revision:  view.Revision,
		Issuer:    p.Issuer,
		IssuerURL: p.IssuerURL,
		Subject:   p.Subject,
		Action:    string(action),
		Resource:  on.String(),
		Outcome:   outcome,
		Reasons:   reasons,
		Input:     d.Input(),
		Salt:      ledger.NewSalt(),
		Count:     1,
	}
}

// overruled is an allowed decision that something else denied.
func overruled(d store.Decision, effect, message string) store.Decision {
	reasons, err := json.Marshal([]policy.Reason{{Effect: policy.Effect(effect), Message: message}})
	if err == nil {
		d.Reasons = reasons
	}
	d.Outcome = "deny"
	d.Lease = ""
	return d
}

// deniedError says that a lease may not be, or may no longer be, whatever the policies say.
type deniedError struct {
	effect string // "lock" or "ended"
	text   string
}

func (e *deniedError) Error() string { return e.text }

// deny records a denial and returns what the caller may know of it: that it was one, and the decision to show to
// an operator.
// What it is about keeps different denials of one principal apart.
func (b *Broker) deny(ctx context.Context, d store.Decision, about, public string) error {
	refusal := fault.New(fault.Denied, d.Action, public)
	refusal.Decision = b.denials.note(ctx, d, about)
	return refusal
}

// denials keeps equal denials of one principal from filling the store and the ledger: the first is recorded at
// once, the ones after it are counted and recorded together. Principals are many where anybody can get a token, so
// first denials have a rate too, for each issuer: what goes beyond it is a metric.
type denials struct {
	broker *Broker

	mu    sync.Mutex               // guards the fields below
	fresh map[string]*rate.Limiter // by issuer URL: there are as many as are configured
	seen  map[denialKey]*denial
}

type denialKey struct{ issuerURL, subject, action, about, effect string }

// denial is a recorded denial and how often it happened again since the last flush.
type denial struct {
	id    string
	since time.Time
	again int
}

const (
	maxDenials   = 10_000           // kinds of denial remembered at once
	denialWindow = 10 * time.Minute // how long a kind is remembered
	freshRate    = 1                // first denials recorded in a second
	freshBurst   = 100
)

func newDenials(b *Broker) *denials {
	return &denials{broker: b, fresh: map[string]*rate.Limiter{}, seen: map[denialKey]*denial{}}
}

// note counts a denial and returns the ID of the decision that stands for it, empty where it was only counted.
func (s *denials) note(ctx context.Context, d store.Decision, about string) string {
	s.broker.figures.denied.Inc()
	key := denialKey{d.IssuerURL, d.Subject, d.Action, about, d.Outcome}
	if about != "" {
		key.effect = string(d.Reasons) + d.Revision + surroundings(d.Input)
	}
	s.mu.Lock()
	known := s.seen[key]
	if known != nil {
		known.again++
		s.mu.Unlock()
		return known.id
	}
	if s.fresh[d.IssuerURL] == nil {
		s.fresh[d.IssuerURL] = rate.NewLimiter(freshRate, freshBurst)
	}
	if len(s.seen) >= maxDenials || !s.fresh[d.IssuerURL].Allow() {
		s.mu.Unlock()
		return ""
	}
	s.seen[key] = &denial{id: d.ID, since: d.At}
	s.mu.Unlock()

	err := s.broker.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		commitment, err := tx.PutDecision(d)
		if err != nil {
			return err
		}
		_, err = tx.Append(ledger.Entry{Time: d.At, Event: ledger.DecisionDenied, Decision: d.ID, Count: 1, Commitment: commitment})
		return err
	})
	if err != nil {
		s.broker.log.Error("record a denial", "decision", d.ID, "err", err)
	}
	return d.ID
}

// surroundings are what a denial may be due to beside who asks for what, as far as it does not change with each request:
// whoever asks why is shown the input of the decision that stands for theirs.
func surroundings(input []byte) string {
	var in struct {
		Context struct {
			Country     string `json:"country"`
			Subdivision string `json:"subdivision"`
			Local       map[string]struct {
				Hour int `json:"hour"`
			} `json:"local"`
			Posture map[string]struct {
				Fields json.RawMessage `json:"fields"`
			} `json:"posture"`
		} `json:"context"`
	}
	if err := json.Unmarshal(input, &in); err != nil { // it is ours
		return ""
	}
	return fmt.Sprint(in) // of maps it prints the keys in their order
}

// repeat adds to a denial that was recorded before.
func (s *denials) repeat(tx *store.Tx, id string, now time.Time, again int) error {
	d, err := tx.Decision(id)
	if fault.Is(err, fault.NotFound) {
		return nil // retention has let it go
	}
	if err != nil {
		return err
	}
	d.At, d.Count = now, d.Count+again
	commitment, err := tx.PutDecision(d)
	if err != nil {
		return err
	}
	_, err = tx.Append(ledger.Entry{Time: now, Event: ledger.DecisionDenied, Decision: id, Count: int64(again), Commitment: commitment})
	return err
}

// flush records how often each denial happened again, and forgets old ones.
func (s *denials) flush(ctx context.Context) error {
	now := s.broker.clock.Now()
	repeated := map[string]int{}
	s.mu.Lock()
	for key, d := range s.seen {
		if d.again > 0 {
			repeated[d.id] = d.again
			d.again = 0
		}
		if now.Sub(d.since) > denialWindow {
			delete(s.seen, key)
		}
	}
	s.mu.Unlock()
	if len(repeated) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	return s.broker.store.Update(ctx, func(tx *store.Tx) error {
		for id, n := range repeated {
			if err := s.repeat(tx, id, now, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// Decision returns a stored decision, for administrators.
func (b *Broker) Decision(ctx context.Context, c Caller, id string) (d store.Decision, err error) {
	if _, err := b.administer(ctx, c, policy.Read); err != nil {
		return d, err
	}
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		d, err = tx.Decision(id)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return d, fault.New(fault.NotFound, "explain decision "+id, fmt.Sprintf("no decision %q: it may have passed its retention", id))
	}
	return d, err
}
