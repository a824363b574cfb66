package deployment

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/testbed"
)

// A release may refuse what an older one took. Leases of then are ended all the same, by what else is known of them.
func TestALeaseOfARevisionThatTodaysRulesRefuseIsKnownWithoutItsRights(t *testing.T) {
	s, log := open(t), &testbed.Log{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	now := time.Now().UTC().Truncate(time.Microsecond)
	made := func(revision string) store.Lease {
		return store.Lease{
			ID: lease.NewID(now.Unix()), State: lease.Pending, Role: "deploy", Target: "acme", Revision: revision, Revocation: "assisted", CreatedAt: now,
			ExpiresAt: now.Add(time.Hour), RenewableUntil: now.Add(time.Hour), NativeUntil: now.Add(2 * time.Hour), TokenHash: []byte(revision),
		}
	}
	old, gone := made("old"), made("gone")
	err := s.Update(ctx, func(tx *store.Tx) error {
		err := tx.PutRevision(store.Revision{ID: "old", CreatedAt: now, Files: []byte(`{"daypass.yaml":"roles: {deploy: {a_word_of_then: true}}"}`)})
		for _, l := range []*store.Lease{&old, &gone} {
			if err == nil {
				_, err = tx.InsertLease(l)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d := New(Config{Store: s, Kinds: kind.All(kind.Allowed{}), Log: slog.New(slog.NewTextHandler(log, nil))})
	held, err := d.granted.held(ctx, string(old.ID))
	if err != nil || held.Rights != nil || !held.HandedOut || !held.Until.Equal(old.NativeUntil) || !held.Made.Equal(now) {
		t.Errorf("held: %+v, %v", held, err)
	}
	if !strings.Contains(log.String(), string(old.ID)) {
		t.Errorf("nothing is logged of it: %s", log)
	}
	if held, err := d.granted.held(ctx, string(gone.ID)); err == nil {
		t.Errorf("without its revision a lease is %+v", held)
	}
}
