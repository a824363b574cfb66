package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/target"
)

// queue hands what callers ask for to a few lanes, in batches.
type queue[T any] struct {
	items chan T
	lanes int
	most  int // in one batch
}

func newQueue[T any](lanes, most int) *queue[T] {
	return &queue[T]{items: make(chan T, 20_000), lanes: lanes, most: most}
}

// put refuses at once when the queue is full.
func (q *queue[T]) put(item T) error {
	select {
	case q.items <- item:
		return nil
	default:
		return fmt.Errorf("%d requests wait already: %w", cap(q.items), target.ErrNotDone)
	}
}

// take waits for an item and adds its share of what else waits: a lane that took all would leave the server's
// other cores idle.
func (q *queue[T]) take(ctx context.Context) []T {
	var batch []T
	select {
	case item := <-q.items:
		batch = append(batch, item)
	case <-ctx.Done():
		return nil
	}
	share := min(q.most, 1+len(q.items)/q.lanes)
	for len(batch) < share {
		select {
		case item := <-q.items:
			batch = append(batch, item)
		default:
			return batch
		}
	}
	return batch
}

// book says which leases are being worked on. A revocation waits until the grants of its lease are settled, and
// no grant of a lease begins while it is being revoked.
type book struct {
	mu    sync.Mutex
	pages map[string]*page
}

// page is one lease in the book.
type page struct {
	grants  int           // grants that are not settled
	ends    int           // revocations in progress
	settled chan struct{} // closed when grants falls to zero; nil when nobody waits
}

// open notes a grant of lease, or reports that the lease is being revoked.
func (b *book) open(lease string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.page(lease)
	if g.ends > 0 {
		return false
	}
	g.grants++
	return true
}

func (b *book) page(lease string) *page {
	if b.pages == nil {
		b.pages = map[string]*page{}
	}
	if b.pages[lease] == nil {
		b.pages[lease] = &page{}
	}
	return b.pages[lease]
}

// close notes that a grant is settled.
func (b *book) close(lease string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.pages[lease]
	g.grants--
	if g.grants == 0 && g.settled != nil {
		close(g.settled)
		g.settled = nil
	}
	b.tidy(lease, g)
}

// end bars grants of lease and waits until those under way are settled. Undo it with reopen.
func (b *book) end(ctx context.Context, lease string) error {
	b.mu.Lock()
	g := b.page(lease)
	g.ends++
	var settled chan struct{}
	if g.grants > 0 {
		if g.settled == nil {
			g.settled = make(chan struct{})
		}
		settled = g.settled
	}
	b.mu.Unlock()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		b.reopen(lease)
		return fmt.Errorf("a grant of the lease is not settled: %w", ctx.Err())
	}
}

// reopen undoes end.
func (b *book) reopen(lease string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.pages[lease]
	g.ends--
	b.tidy(lease, g)
}

func (b *book) tidy(lease string, g *page) {
	if g.grants == 0 && g.ends == 0 {
		delete(b.pages, lease)
	}
}

// collect reads one column of all rows.
func collect[T any](rows pgx.Rows) ([]T, error) { return pgx.CollectRows(rows, pgx.RowTo[T]) }
