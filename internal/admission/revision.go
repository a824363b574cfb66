package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// Applied is an access revision that was made active, with what the activation leaves behind.
type Applied struct {
	Revision store.Revision
	Notes    []string
	Access   *access.Config // what it says
}

// Load makes the store's active revision serve. It is called once, before anything serves.
func (g *Guard) Load(ctx context.Context) error {
	_, err := g.Refresh(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil // a new installation: nothing is configured, everything is denied
	}
	return err
}

// CheckAccess validates files, activates nothing, and returns what they say. The mistakes come back as they are.
func (g *Guard) CheckAccess(ctx context.Context, c Caller, files access.Files) (*access.Config, error) {
	if _, err := g.Administer(ctx, c, policy.Configure); err != nil {
		return nil, err
	}
	view, err := g.builder.Build(ctx, "", files)
	if err != nil {
		return nil, err
	}
	return view.Access, g.checkConditions(view)
}

// Apply validates files, keeps them as a revision and activates it. When expected is not empty, the revision
// active now must be that one.
func (g *Guard) Apply(ctx context.Context, c Caller, files access.Files, expected string) (Applied, error) {
	who, err := g.Administer(ctx, c, policy.Configure)
	if err != nil {
		return Applied{}, err
	}
	view, err := g.builder.Build(ctx, "", files)
	if err != nil {
		return Applied{}, err
	}
	text, err := json.Marshal(files)
	if err != nil {
		return Applied{}, fmt.Errorf("encode the access files: %w", err)
	}
	revision := store.Revision{ID: view.Revision, CreatedAt: g.now(), CreatedBy: who.Name, Files: text}
	return g.activateRevision(ctx, who, view, &revision, expected)
}

// Activate makes an earlier revision active again.
func (g *Guard) Activate(ctx context.Context, c Caller, id, expected string) (Applied, error) {
	who, err := g.Administer(ctx, c, policy.Configure)
	if err != nil {
		return Applied{}, err
	}
	view, err := g.build(ctx, id)
	if err != nil {
		return Applied{}, err
	}
	return g.activateRevision(ctx, who, view, nil, expected)
}

// Revisions returns one page of the access revisions, newest first, and the ID of the active one.
func (g *Guard) Revisions(ctx context.Context, c Caller, cursor string, limit int) (found []store.Revision, active, next string, err error) {
	if _, err := g.Administer(ctx, c, policy.Read); err != nil {
		return nil, "", "", err
	}
	err = g.store.View(ctx, func(tx *store.Tx) (err error) {
		if active, err = tx.ActiveID(); err != nil {
			return err
		}
		found, next, err = tx.Revisions(cursor, limit)
		return err
	})
	return found, active, next, err
}

// build reads a revision and makes it ready to serve.
func (g *Guard) build(ctx context.Context, id string) (*View, error) {
	var revision store.Revision
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		revision, err = tx.Revision(id)
		return err
	})
	if err != nil {
		return nil, err
	}
	var files access.Files
	if err := json.Unmarshal(revision.Files, &files); err != nil {
		return nil, fmt.Errorf("read access revision %s: %w", id, err)
	}
	return g.builder.Build(ctx, id, files)
}

// activateRevision records the activation and swaps the view. Requests in flight keep the view they began with,
// and find out at their next record.
func (g *Guard) activateRevision(ctx context.Context, who Actor, view *View, fresh *store.Revision, expected string) (Applied, error) {
	if err := g.checkConditions(view); err != nil {
		return Applied{}, err
	}
	if err := g.lockView(ctx); err != nil {
		return Applied{}, err
	}
	defer g.unlockView()
	now := g.now()
	var done store.Revision
	err := g.store.Update(ctx, func(tx *store.Tx) error {
		active, err := tx.ActiveID()
		if err != nil {
			return err
		}
		if expected != "" && active != expected {
			return fault.New(fault.Conflict, "activate access revision "+view.Revision, fmt.Sprintf("revision %s is active, not %s; read it again and apply anew", active, expected))
		}
		if fresh != nil {
			if err := tx.PutRevision(*fresh); err != nil {
				return err
			}
		}
		if active != view.Revision {
			if _, err := tx.Activate(view.Revision, now, who.Name); err != nil {
				return err
			}
		}
		done, err = tx.Revision(view.Revision)
		return err
	})
	if err != nil {
		return Applied{}, err
	}
	// The revision is active: it must serve, whether or not the administrator still listens.
	notes, err := g.serve(context.WithoutCancel(ctx), view)
	who.Origin.Log(g.log).Info("an access revision was activated", "revision", view.Revision, "by", who.Name, "notes", notes)
	return Applied{Revision: done, Notes: notes, Access: view.Access}, err
}

// serve puts a view that the store calls active to work. The caller holds the view lock.
func (g *Guard) serve(ctx context.Context, view *View) ([]string, error) {
	notes, err := g.builder.Deploy(ctx, view)
	if err != nil {
		return notes, err
	}
	notes = append(notes, g.openNotes(view)...)
	before := g.View()
	view.left, err = g.issuersLeft(ctx, before, view)
	g.view.Store(view)
	select {
	case g.activated <- struct{}{}:
	default: // it is told already
	}
	for url := range view.left {
		if before == nil || !before.left[url] {
			notes = append(notes, fmt.Sprintf("issuer %s left: its leases end", url))
			go g.endIssuer(context.WithoutCancel(ctx), url)
		}
	}
	return notes, err
}

// Redeploy brings the targets of the view that serves up to date, when something that it refers to has changed. No
// activation comes between, so that what it deploys is never what served before.
func (g *Guard) Redeploy(ctx context.Context) error {
	if err := g.lockView(ctx); err != nil {
		return err
	}
	defer g.unlockView()
	view := g.View()
	if view == nil {
		return nil
	}
	_, err := g.builder.Deploy(ctx, view)
	return err
}

// Refresh makes the store's active revision serve, when another one does, and returns its view.
func (g *Guard) Refresh(ctx context.Context) (*View, error) {
	if err := g.lockView(ctx); err != nil {
		return nil, err
	}
	defer g.unlockView()
	var active string
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		active, err = tx.ActiveID()
		return err
	})
	if err != nil {
		return nil, err
	}
	if active == "" {
		return nil, fault.New(fault.NotFound, "read the active access revision", "no access configuration is active")
	}
	if view := g.View(); view != nil && view.Revision == active {
		return view, nil
	}
	view, err := g.build(ctx, active)
	if err != nil {
		return nil, err
	}
	_, err = g.serve(ctx, view)
	return view, err
}

// lockView lets one goroutine at a time change the view.
func (g *Guard) lockView(ctx context.Context) error {
	select {
	case g.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.StoreUnavailable, "change the access configuration", "another change is under way", ctx.Err())
	}
}

func (g *Guard) unlockView() { <-g.changing }

// issuersLeft returns the URLs of issuers whose leases must end: those that left with this change or before, and after a
// start those of earlier revisions, since the process may have died before it ended them.
func (g *Guard) issuersLeft(ctx context.Context, before, after *View) (left map[string]bool, err error) {
	left = map[string]bool{}
	if before != nil {
		maps.Copy(left, before.left)
		collectIssuers(left, before.Access)
	} else {
		err = g.earlierIssuers(ctx, left)
	}
	for _, issuer := range after.Access.Issuers {
		delete(left, issuer.URL)
	}
	return left, err
}

func collectIssuers(into map[string]bool, cfg *access.Config) {
	for _, issuer := range cfg.Issuers {
		into[issuer.URL] = true
	}
}

// earlierIssuers collects the issuers of the newest revisions.
func (g *Guard) earlierIssuers(ctx context.Context, into map[string]bool) error {
	const newest = 20
	var revisions []store.Revision
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		revisions, _, err = tx.Revisions("", newest)
		return err
	})
	if err != nil {
		return err
	}
	for _, revision := range revisions {
		view, err := g.build(ctx, revision.ID)
		if err != nil {
			g.log.Warn("an earlier access revision cannot be read", "revision", revision.ID, "err", err)
			continue
		}
		collectIssuers(into, view.Access)
	}
	return nil
}

// endIssuer ends the live leases of an issuer that left. It tries until it is done, or until the store has stopped:
// then the next start takes it up.
func (g *Guard) endIssuer(ctx context.Context, url string) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := g.ender.EndAll(ctx, store.Filter{IssuerURL: url}, lease.Withdrawn)
		if err == nil {
			return
		}
		g.log.Error("end the leases of an issuer that left", "issuer", url, "err", err)
		select {
		case <-g.stopped:
			return
		case <-time.After(wait):
		}
	}
}
