package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
	log   *slog.Logger

	mu   sync.Mutex // guards what follows
	read map[string]*access.Config
}

// keptRevisions is how many revisions are kept in memory that leases were granted under.
const keptRevisions = 4

// held tells what the store knows of a lease; the zero Held where it knows none. Without rights where the revision of then
// breaks a rule of today: a release that is narrower must not keep old leases from being revoked.
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
	held := kind.Held{HandedOut: l.Revocation != "", Made: l.CreatedAt, Until: l.NativeUntil}
	if _, ok := errors.AsType[*unreadableError](err); ok {
		g.log.WarnContext(ctx, "a lease is ended without its rights: its revision is not one that this release takes", "lease", id, "error", err)
		return held, nil
	}
	if err != nil {
		return kind.Held{}, err
	}
	held.Rights = cfg.Roles[l.Role].Rights
	return held, nil
}

// unreadableError says that a revision is there, and is not one by the rules of this release.
type unreadableError struct {
	revision string
	error
}

func (e *unreadableError) Error() string {
	return "read revision " + e.revision + ": " + e.error.Error()
}

func (e *unreadableError) Unwrap() error { return e.error }

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
		return nil, &unreadableError{revision.ID, err}
	}
	cfg, err := access.Parse(files, g.kinds)
	if err != nil {
		return nil, &unreadableError{revision.ID, err}
	}
	if g.read == nil || len(g.read) >= keptRevisions {
		g.read = map[string]*access.Config{}
	}
	g.read[revision.ID] = cfg
	return cfg, nil
}
