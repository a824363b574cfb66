package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/storetest"
)

func TestASealedValueOfADatabaseIsReplacedWhileNoServerRuns(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	reseal := func() error {
		return postgres.Reseal(t.Context(), d.url(), d.options(store.Options{}), func(all map[string][]byte) error {
			all["another"] = []byte("ciphertext")
			return nil
		})
	}
	if err := reseal(); err != nil {
		t.Fatal(err)
	}
	s := storetest.Serve(t, d, nil)
	storetest.View(t, s.Store, func(tx *store.Tx) error {
		sealed, err := tx.Sealed("another")
		if string(sealed) != "ciphertext" {
			t.Errorf("sealed is %q", sealed)
		}
		return err
	})
	if err := reseal(); !errors.Is(err, store.ErrInUse) {
		t.Errorf("replaced while it is served: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := d.idle(t.Context(), func(rows store.Rows) error { return rows.MarkMoved("elsewhere") }); err != nil {
		t.Fatal(err)
	}
	if err := reseal(); !errors.Is(err, store.ErrMoved) {
		t.Errorf("replaced in a store that moved: %v", err)
	}
}

// idle changes the store while no server has it open.
func (d database) idle(ctx context.Context, fn func(store.Rows) error) error {
	return postgres.Hold(ctx, d.url(), d.options(store.Options{}), func(dialect store.Dialect) error {
		idle := store.NewIdle(dialect)
		defer idle.Close()
		return idle.Update(ctx, fn)
	})
}
