package postgres_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/internal/testbed"
)

// A whole acquisition in the store, at a server that syncs: by one process and by three that share it.
func BenchmarkAcquire(b *testing.B) {
	server := testbed.OwnPostgres(b, testbed.PostgresOptions{Fsync: true})
	for _, processes := range []int{1, 3} {
		for _, n := range []int{1, 64, 192} {
			b.Run(fmt.Sprintf("%d processes %d callers", processes, n), func(b *testing.B) {
				d := databaseAt(b, server)
				storetest.Create(b, d)
				var all []*storetest.Running
				for range processes {
					all = append(all, storetest.Serve(b, d, nil))
				}
				var turn atomic.Int64
				storetest.Callers(b, n, func() error {
					s := all[int(turn.Add(1))%processes]
					return storetest.Acquire(b.Context(), s.Store)
				})
			})
		}
	}
}
