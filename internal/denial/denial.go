// Package denial keeps what was refused on record without flooding it.
//
// It owns which denials were recorded lately and how often they happened again. It promises that the first denial of a
// kind is on the ledger before it is told, that the ones after it are counted and recorded together, and that what is
// remembered is bounded, whoever asks. It decides nothing, reads no clock, and must not import what decides.
package denial

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// Book keeps equal denials of one principal from filling the store and the ledger: the first is recorded at
// once, the ones after it are counted and recorded together. Principals are many where anybody can get a token, so
// first denials have a rate too, for each issuer: what goes beyond it is a metric.
//
// Its methods may be called concurrently.
type Book struct {
	*prometheus.CounterVec // of all denials, by reason

	store *store.Store
	now   func() time.Time
	log   *slog.Logger

	mu    sync.Mutex               // guards the fields below
	fresh map[string]*rate.Limiter // by issuer URL: there are as many as are configured
	seen  map[kind]*known
}

// kind is what makes denials equal.
type kind struct{ issuerURL, subject, action, about, effect string }

// known is a recorded denial and how often it happened again since the last flush.
type known struct {
	id    string
	since time.Time
	again int
}

const (
	maxKinds   = 10_000           // kinds of denial remembered at once
	window     = 10 * time.Minute // how long a kind is remembered
	freshRate  = 1                // first denials recorded in a second
	freshBurst = 100
	recordTime = 30 * time.Second // how long a record may wait for the store
)

// New returns a Book without denials.
func New(s *store.Store, now func() time.Time, log *slog.Logger) *Book {
	b := &Book{
		CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_denials_total",
			Help: "Requests that were denied, by reason (forbid: a policy forbids; none: no policy permits; error: a policy failed; lock; ended: while it was granted; role: there is none of that name)."},
			[]string{"reason"}),
		store: s, now: now, log: log, fresh: map[string]*rate.Limiter{}, seen: map[kind]*known{},
	}
	for _, reason := range reasons() {
		b.WithLabelValues(reason) // each begins at zero
	}
	return b
}

// noRole is the reason where nothing decided, since there is no such role.
const noRole = "role"

// reasons are the words that denials are counted by: the effects of reasons, of policies and of what overrules them.
func reasons() []string { return []string{"forbid", "none", "error", "lock", "ended", noRole} }

// reasonOf is the word for a denial. The names of policies and roles are no words: they are many, and not for all.
func reasonOf(d store.Decision, about string) string {
	if about == "" {
		return noRole
	}
	var given []struct{ Effect string }
	if err := json.Unmarshal(d.Reasons, &given); err != nil || len(given) == 0 || !slices.Contains(reasons(), given[0].Effect) {
		return "error"
	}
	return given[0].Effect
}

// Note counts a denial and returns the ID of the decision that stands for it, empty where it was only counted.
func (b *Book) Note(ctx context.Context, d store.Decision, about string) string {
	b.WithLabelValues(reasonOf(d, about)).Inc()
	key := kind{d.IssuerURL, d.Subject, d.Action, about, d.Outcome}
	if about != "" {
		key.effect = string(d.Reasons) + d.Revision + surroundings(d.Input)
	}
	b.mu.Lock()
	earlier := b.seen[key]
	if earlier != nil {
		earlier.again++
		b.mu.Unlock()
		return earlier.id
	}
	if b.fresh[d.IssuerURL] == nil {
		b.fresh[d.IssuerURL] = rate.NewLimiter(freshRate, freshBurst)
	}
	if len(b.seen) >= maxKinds || !b.fresh[d.IssuerURL].Allow() {
		b.mu.Unlock()
		return ""
	}
	b.seen[key] = &known{id: d.ID, since: d.At}
	b.mu.Unlock()

	err := b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		commitment, err := tx.PutDecision(d)
		if err != nil {
			return err
		}
		_, err = tx.Append(ledger.Entry{Time: d.At, Event: ledger.DecisionDenied, Decision: d.ID, Count: 1, Commitment: commitment})
		return err
	})
	if err != nil {
		b.log.Error("record a denial", "decision", d.ID, "err", err)
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
func (b *Book) repeat(tx *store.Tx, id string, now time.Time, again int) error {
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

// Flush records how often each denial happened again, and forgets old ones.
func (b *Book) Flush(ctx context.Context) error {
	now := b.now()
	repeated := map[string]int{}
	b.mu.Lock()
	for key, d := range b.seen {
		if d.again > 0 {
			repeated[d.id] = d.again
			d.again = 0
		}
		if now.Sub(d.since) > window {
			delete(b.seen, key)
		}
	}
	b.mu.Unlock()
	if len(repeated) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	return b.store.Update(ctx, func(tx *store.Tx) error {
		for id, n := range repeated {
			if err := b.repeat(tx, id, now, n); err != nil {
				return err
			}
		}
		return nil
	})
}
