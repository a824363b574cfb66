package broker

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

// Load makes the store's active revision serve. It is called once, before the broker serves.
func (b *Broker) Load(ctx context.Context) error {
	_, err := b.refresh(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil // a new installation: nothing is configured, everything is denied
	}
	return err
}

// CheckAccess validates files, activates nothing, and returns what they say. The mistakes come back as they are.
func (b *Broker) CheckAccess(ctx context.Context, c Caller, files access.Files) (*access.Config, error) {
	if _, err := b.administer(ctx, c, policy.Configure); err != nil {
		return nil, err
	}
	view, err := b.builder.Build(ctx, "", files)
	if err != nil {
		return nil, err
	}
	return view.Access, b.checkConditions(view)
}

// Apply validates files, keeps them as a revision and activates it. When expected is not empty, the revision
// active now must be that one.
func (b *Broker) Apply(ctx context.Context, c Caller, files access.Files, expected string) (Applied, error) {
	who, err := b.administer(ctx, c, policy.Configure)
	if err != nil {
		return Applied{}, err
	}
	view, err := b.builder.Build(ctx, "", files)
	if err != nil {
		return Applied{}, err
	}
	text, err := json.Marshal(files)
	if err != nil {
		return Applied{}, fmt.Errorf("encode the access files: %w", err)
	}
	revision := store.Revision{ID: view.Revision, CreatedAt: b.clock.Now(), CreatedBy: who.name, Files: text}
	return b.activateRevision(ctx, who, view, &revision, expected)
}

// Activate makes an earlier revision active again.
func (b *Broker) Activate(ctx context.Context, c Caller, id, expected string) (Applied, error) {
	who, err := b.administer(ctx, c, policy.Configure)
	if err != nil {
		return Applied{}, err
	}
	view, err := b.build(ctx, id)
	if err != nil {
		return Applied{}, err
	}
	return b.activateRevision(ctx, who, view, nil, expected)
}

// Revisions returns one page of the access revisions, newest first, and the ID of the active one.
func (b *Broker) Revisions(ctx context.Context, c Caller, cursor string, limit int) (found []store.Revision, active, next string, err error) {
	if _, err := b.administer(ctx, c, policy.Read); err != nil {
		return nil, "", "", err
	}
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		if active, err = tx.ActiveID(); err != nil {
			return err
		}
		found, next, err = tx.Revisions(cursor, limit)
		return err
	})
	return found, active, next, err
}

// build reads a revision and makes it ready to serve.
func (b *Broker) build(ctx context.Context, id string) (*View, error) {
	var revision store.Revision
	err := b.store.View(ctx, func(tx *store.Tx) (err error) {
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
	return b.builder.Build(ctx, id, files)
}

// activateRevision records the activation and swaps the view. Requests in flight keep the view they began with,
// and find out at their next record.
func (b *Broker) activateRevision(ctx context.Context, who actor, view *View, fresh *store.Revision, expected string) (Applied, error) {
	if err := b.checkConditions(view); err != nil {
		return Applied{}, err
	}
	if err := b.lockView(ctx); err != nil {
		return Applied{}, err
	}
	defer b.unlockView()
	now := b.clock.Now()
	var done store.Revision
	err := b.store.Update(ctx, func(tx *store.Tx) error {
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
			if _, err := tx.Activate(view.Revision, now, who.name); err != nil {
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
	notes, err := b.serve(context.WithoutCancel(ctx), view)
	b.logOf(who.origin).Info("an access revision was activated", "revision", view.Revision, "by", who.name, "notes", notes)
	return Applied{Revision: done, Notes: notes, Access: view.Access}, err
}

// serve puts a view that the store calls active to work. The caller holds the view lock.
func (b *Broker) serve(ctx context.Context, view *View) ([]string, error) {
	notes, err := b.builder.Deploy(ctx, view)
	if err != nil {
		return notes, err
	}
	notes = append(notes, b.openNotes(view)...)
	before := b.View()
	view.left, err = b.issuersLeft(ctx, before, view)
	b.view.Store(view)
	signal(b.activated)
	for url := range view.left {
		if before == nil || !before.left[url] {
			notes = append(notes, fmt.Sprintf("issuer %s left: its leases end", url))
			go b.endIssuer(context.WithoutCancel(ctx), url)
		}
	}
	return notes, err
}

// Redeploy brings the targets of the view that serves up to date, when something that it refers to has changed. No
// activation comes between, so that what it deploys is never what served before.
func (b *Broker) Redeploy(ctx context.Context) error {
	if err := b.lockView(ctx); err != nil {
		return err
	}
	defer b.unlockView()
	view := b.View()
	if view == nil {
		return nil
	}
	_, err := b.builder.Deploy(ctx, view)
	return err
}

// refresh makes the store's active revision serve, when another one does, and returns its view.
func (b *Broker) refresh(ctx context.Context) (*View, error) {
	if err := b.lockView(ctx); err != nil {
		return nil, err
	}
	defer b.unlockView()
	var active string
	err := b.store.View(ctx, func(tx *store.Tx) (err error) {
		active, err = tx.ActiveID()
		return err
	})
	if err != nil {
		return nil, err
	}
	if active == "" {
		return nil, fault.New(fault.NotFound, "read the active access revision", "no access configuration is active")
	}
	if view := b.View(); view != nil && view.Revision == active {
		return view, nil
	}
	view, err := b.build(ctx, active)
	if err != nil {
		return nil, err
	}
	_, err = b.serve(ctx, view)
	return view, err
}

// lockView lets one goroutine at a time change the view.
func (b *Broker) lockView(ctx context.Context) error {
	select {
	case b.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.StoreUnavailable, "change the access configuration", "another change is under way", ctx.Err())
	}
}

func (b *Broker) unlockView() { <-b.changing }

// issuersLeft returns the URLs of issuers whose leases must end: those that left with this change or before, and after a
// start those of earlier revisions, since the process may have died before it ended them.
func (b *Broker) issuersLeft(ctx context.Context, before, after *View) (left map[string]bool, err error) {
	left = map[string]bool{}
	if before != nil {
		maps.Copy(left, before.left)
		collectIssuers(left, before.Access)
	} else {
		err = b.earlierIssuers(ctx, left)
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
func (b *Broker) earlierIssuers(ctx context.Context, into map[string]bool) error {
	const newest = 20
	var revisions []store.Revision
	err := b.store.View(ctx, func(tx *store.Tx) (err error) {
		revisions, _, err = tx.Revisions("", newest)
		return err
	})
	if err != nil {
		return err
	}
	for _, revision := range revisions {
		view, err := b.build(ctx, revision.ID)
		if err != nil {
			b.log.Warn("an earlier access revision cannot be read", "revision", revision.ID, "err", err)
			continue
		}
		collectIssuers(into, view.Access)
	}
	return nil
}

// endIssuer ends the live leases of an issuer that left. It tries until it is done, or until the store has stopped:
// then the next start takes it up.
func (b *Broker) endIssuer(ctx context.Context, url string) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := b.revoker.EndAll(ctx, store.Filter{IssuerURL: url}, lease.Withdrawn)
		if err == nil {
			return
		}
		b.log.Error("end the leases of an issuer that left", "issuer", url, "err", err)
		select {
		case <-b.stopped:
			return
		case <-time.After(wait):
		}
	}
}
