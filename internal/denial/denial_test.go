package denial_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/denial"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *store.Store { return brokertest.Open(t, brokertest.Options{}).Store }

func refused(subject string) store.Decision {
	return store.Decision{
		ID: string(lease.NewID(noon.Unix())), At: noon, Revision: "r", Issuer: "ci", IssuerURL: "https://ci.example.com", Subject: subject,
		Action: "acquire", Resource: "Role::reader", Outcome: "deny", Reasons: []byte("[]"), Input: []byte("{}"), Salt: ledger.NewSalt(), Count: 1,
	}
}

func TestEqualDenialsAreOneDecisionThatCounts(t *testing.T) {
	s := open(t)
	book := denial.New(s, func() time.Time { return noon }, slog.New(slog.DiscardHandler))
	first := book.Note(t.Context(), refused("alice"), "reader")
	for range 4 {
		if again := book.Note(t.Context(), refused("alice"), "reader"); again != first {
			t.Fatalf("an equal denial has the decision %s, and the first %s", again, first)
		}
	}
	for what, other := range map[string]string{
		"another principal": book.Note(t.Context(), refused("bob"), "reader"),
		"another thing":     book.Note(t.Context(), refused("alice"), "writer"),
	} {
		if other == first || other == "" {
			t.Errorf("%s has the decision %q", what, other)
		}
	}
	count := func() (n int) {
		err := s.View(t.Context(), func(tx *store.Tx) error {
			d, err := tx.Decision(first)
			n = d.Count
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("before they are written the first counts %d", n)
	}
	if err := book.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 5 {
		t.Errorf("five denials count %d", n)
	}
}

func TestFirstDenialsHaveARateForEachIssuer(t *testing.T) {
	book := denial.New(open(t), func() time.Time { return noon }, slog.New(slog.DiscardHandler))
	unwritten := 0
	for range 200 {
		if book.Note(t.Context(), refused(string(lease.NewID(noon.Unix()))), "reader") == "" {
			unwritten++
		}
	}
	if unwritten == 0 || unwritten > 100 {
		t.Errorf("%d of 200 strangers' denials were only counted", unwritten)
	}
}

func TestDenialsAreCountedByTheirReason(t *testing.T) {
	book := denial.New(open(t), func() time.Time { return noon }, slog.New(slog.DiscardHandler))
	for _, c := range []struct{ reasons, about, want string }{
		{`[{"effect":"` + string(policy.Forbid) + `","policy":"night"}]`, "reader", "forbid"},
		{`[{"effect":"` + string(policy.None) + `"}]`, "reader", "none"},
		{`[{"effect":"` + string(policy.Failed) + `"}]`, "reader", "error"},
		{`[{"effect":"lock"}]`, "reader", "lock"},
		{`[{"effect":"ended"}]`, "reader", "ended"},
		{`[{"effect":"none"}]`, "", "role"},
		{`[{"effect":"of a stranger"}]`, "reader", "error"},
	} {
		before := counted(t, book, c.want)
		d := refused("alice")
		d.Reasons = []byte(c.reasons)
		book.Note(t.Context(), d, c.about)
		if got := counted(t, book, c.want) - before; got != 1 {
			t.Errorf("%s about %q counted %v as %s", c.reasons, c.about, got, c.want)
		}
	}
}

// counted is how often denials had a reason.
func counted(t *testing.T, book *denial.Book, reason string) float64 {
	t.Helper()
	var m dto.Metric
	if err := book.WithLabelValues(reason).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// Whoever asks, and however many they are: what is remembered has an end, and what comes after it is counted only.
func TestNoMoreIsRememberedThanThereIsRoomFor(t *testing.T) {
	const room, more = 10_000, 200
	book := denial.New(open(t), func() time.Time { return noon }, slog.New(slog.DiscardHandler))
	var written atomic.Int64
	next := make(chan int)
	var askers sync.WaitGroup
	for range 100 {
		askers.Go(func() {
			for n := range next {
				d := refused(string(lease.NewID(noon.Unix())))
				d.IssuerURL = fmt.Sprintf("https://ci-%d.example.com", n%(room/50))
				if book.Note(context.WithoutCancel(t.Context()), d, "reader") != "" {
					written.Add(1)
				}
			}
		})
	}
	for n := range room + more {
		next <- n
	}
	close(next)
	askers.Wait()
	if written.Load() != room {
		t.Errorf("%d of %d kinds of denial have a decision of their own", written.Load(), room+more)
	}
}
