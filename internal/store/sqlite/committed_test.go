package sqlite_test

import (
	"context"
	"sync"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

func TestEachCommitTellsHowManyUpdatesSharedIt(t *testing.T) {
	db, signer := newFile(t), storetest.Signer(t)
	if err := db.Create(t.Context(), store.Options{Signer: signer}); err != nil {
		t.Fatal(err)
	}
	var commits, updates int // of the writer's goroutine until it has ended
	s, err := db.Open(t.Context(), store.Options{Signer: signer, Committed: func(n int) { commits++; updates += n }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if commits != 1 || updates != 1 {
		t.Errorf("opening told %d commits of %d updates: want the one that counts the boot", commits, updates)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	const all = 50
	var callers sync.WaitGroup
	for range all {
		callers.Go(func() { storetest.Insert(t, s, storetest.NewLease("reader", "db")) })
	}
	callers.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if updates != all+1 || commits > updates {
		t.Errorf("%d commits told of %d updates: want %d updates", commits, updates, all+1)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
