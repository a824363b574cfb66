package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// granted tells targets what leases were granted as, which is not what their roles say today.
type granted struct {
	store *store.Store
	kinds access.Kinds

	mu   sync.Mutex // guards what follows
	read map[string]*access.Config
}

// keptRevisions is how many revisions are kept in memory that leases were granted under.
const keptRevisions = 4

// held tells what the store knows of a lease; the zero Held where it knows none.
func (g *granted) held(ctx context.Context, id string) (kind.Held, error) {
	var l store.Lease
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		l, err = tx.Lease(lease.ID(id))
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return kind.Held{}, nil
	}
	if err != nil {
		return kind.Held{}, err
	}
	cfg, err := g.config(ctx, func(tx *store.Tx) (store.Revision, error) { return tx.Revision(l.Revision) }, l.Revision)
	if err != nil {
		return kind.Held{}, err
	}
	return kind.Held{Rights: cfg.Roles[l.Role].Rights, HandedOut: l.Revocation != "", Made: l.CreatedAt, Until: l.NativeUntil}, nil
}

// rights returns those of the roles that a target has now, by name.
func (g *granted) rights(ctx context.Context, target string) (map[string]json.RawMessage, error) {
	cfg, err := g.config(ctx, (*store.Tx).ActiveRevision, "")
	if err != nil {
		return nil, err
	}
	return rolesAt(cfg, target), nil
}

// config reads a revision, or remembers it.
func (g *granted) config(ctx context.Context, find func(*store.Tx) (store.Revision, error), id string) (*access.Config, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if cfg := g.read[id]; cfg != nil {
		return cfg, nil
	}
	var revision store.Revision
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		revision, err = find(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var files access.Files
	if err := json.Unmarshal(revision.Files, &files); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", revision.ID, err)
	}
	cfg, err := access.Parse(files, g.kinds)
	if err != nil {
		return nil, fmt.Errorf("read revision %s: %w", revision.ID, err)
	}
	if g.read == nil || len(g.read) >= keptRevisions {
		g.read = map[string]*access.Config{}
	}
	g.read[revision.ID] = cfg
	return cfg, nil
}
