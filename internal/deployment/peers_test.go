package deployment

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/ledger"
)

// While the store is away, revocations go on at the targets by what was last known of the other servers. Without
// having known anything, nobody's connections are ended.
func TestTheOtherServersAreThoseOfTheLastTimeWhileTheStoreIsAway(t *testing.T) {
	s := open(t)
	config := Config{Store: s, Log: slog.New(slog.DiscardHandler)}
	knows, blank := New(config), New(config)
	if boots, err := knows.peers(t.Context()); err != nil || len(boots) != 0 {
		t.Fatalf("a file has one owner, and its peers are %v, %v", boots, err)
	}
	knows.others.boots = []int64{7}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if boots, err := knows.peers(t.Context()); err != nil || !slices.Equal(boots, []int64{7}) {
		t.Errorf("with the store away its peers are %v, %v", boots, err)
	}
	if boots, err := blank.peers(t.Context()); err == nil {
		t.Errorf("without having asked, its peers are %v", boots)
	}
}

// open makes a store in a file.
func open(t *testing.T) *store.Store {
	t.Helper()
	signer, _, err := ledger.GenerateSigner("daypass.test/" + ledger.NewID())
	if err != nil {
		t.Fatal(err)
	}
	path, opt := filepath.Join(t.TempDir(), "daypass.db"), sqlite.Options{Options: store.Options{Signer: signer}}
	if err := sqlite.Create(t.Context(), path, opt); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
