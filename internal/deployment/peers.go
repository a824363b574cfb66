package deployment

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/store"
)

// peersTime is how long a target waits to be told of our peers before it goes by what it was told last.
const peersTime = 5 * time.Second

// peers are the boots of the other servers of our store, as last read.
type peers struct {
	mu    sync.Mutex // guards the fields below
	known bool
	boots []int64
}

// peers are the boots of the other servers of our store that live. While the store cannot be asked, they are those of
// the last time: revocations go on at the targets. A server that has died since is left alone there, and one that is new
// keeps us waiting.
func (d *Deployment) peers(ctx context.Context) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, peersTime)
	defer cancel()
	var boots []int64
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Replicas()
		boots = nil
		for _, r := range all {
			if r.Boot != d.cfg.Store.Boot() {
				boots = append(boots, r.Boot)
			}
		}
		return err
	})
	d.others.mu.Lock()
	defer d.others.mu.Unlock()
	if err != nil && !d.others.known {
		return nil, err // ending what may be a living server's is worse than waiting
	}
	if err != nil {
		d.cfg.Log.WarnContext(ctx, "the store cannot tell who shares it; going by the last time", "peers", d.others.boots, "err", err)
		return slices.Clone(d.others.boots), nil
	}
	d.others.boots, d.others.known = boots, true
	return slices.Clone(boots), nil
}
