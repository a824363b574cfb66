package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/store"
)

// builder makes views of access configurations and keeps the fleet in step with the active one.
type builder struct {
	kinds   map[string]kind
	zones   []*time.Location
	secrets secrets
	issuers *issuers
	store   *store.Store
	fleet   *revoker.Fleet
	revoker *revoker.Revoker
	issuer  *issuer.Issuer
	log     *slog.Logger

	others  peers
	granted *granted

	mu       sync.Mutex          // guards the fields below; held while the fleet changes
	deployed map[string]deployed // by name
	broken   map[string]string   // targets that could not be made, and why
	closing  sync.WaitGroup
}

// deployed is a target in the fleet.
type deployed struct {
	fingerprint string
	member      *revoker.Member
	close       func()
}

var _ broker.Builder = (*builder)(nil)

// Build implements [broker.Builder].
func (b *builder) Build(_ context.Context, revision string, files access.Files) (*broker.View, error) {
	cfg, err := access.Parse(files, accessKinds(b.kinds, b.issuers.kinds))
	if err != nil {
		return nil, err
	}
	verifiers, wrong := b.issuers.build(cfg)
	if revision == "" {
		// What is new must be whole. A revision that served before may lack a file by now and still serves.
		wrong = append(wrong, b.missingFiles(cfg)...)
	}
	engine, err := policy.Compile(cfg, b.zones)
	wrong.Add("", err)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	return &broker.View{Revision: cfg.Hash, Access: cfg, Policy: engine, Verifier: verifiers}, nil
}

// missingFiles reports the references to files that cannot be read.
func (b *builder) missingFiles(cfg *access.Config) (wrong source.Errors) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Targets)) {
		t := cfg.Targets[name]
		if _, err := fingerprint(t, b.kinds[t.Kind], b.secrets); err != nil {
			wrong = append(wrong, &source.Error{File: t.Place.File, Line: t.Place.Line, Column: t.Place.Column,
				Message: fmt.Sprintf("target %q: %v", name, err), Hint: "put the file there, readable by the server"})
		}
	}
	return wrong
}

// Deploy implements [broker.Builder]. One target that cannot be made does not keep the others from serving.
func (b *builder) Deploy(ctx context.Context, view *broker.View) (notes []string, err error) {
	if v, ok := view.Verifier.(*verifiers); ok {
		b.issuers.deploy(v)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(view.Access.Targets)) {
		if err := b.put(ctx, view.Access.Targets[name], false); err != nil {
			notes = append(notes, b.fail(name, err))
		}
	}
	var longest time.Duration
	for _, role := range view.Access.Roles {
		longest = max(longest, role.TTL.Max)
	}
	b.revoker.SetLongest(longest)
	drained, err := b.drain(ctx, view)
	for name, d := range b.deployed {
		d.member.SetRoles(rolesAt(view.Access, name))
	}
	return append(notes, drained...), err
}

// rolesAt returns the rights of the roles at a target. One that it no longer has is not among them: its leases keep
// what they have until they end.
func rolesAt(cfg *access.Config, target string) map[string]json.RawMessage {
	roles := map[string]json.RawMessage{}
	for name, role := range cfg.Roles {
		if role.Target == target {
			roles[name] = role.Rights
		}
	}
	return roles
}

func (b *builder) fail(name string, err error) string {
	b.log.Error("a target is not in service", "target", name, "err", err)
	b.broken[name] = err.Error()
	return fmt.Sprintf("target %q is not in service: %v", name, err)
}

// put brings a target into the fleet. One that is there and made from the same stays as it is.
func (b *builder) put(ctx context.Context, t access.Target, draining bool) error {
	k := b.kinds[t.Kind]
	print, err := fingerprint(t, k, b.secrets)
	if err != nil {
		return err
	}
	old, there := b.deployed[t.Name]
	if there && old.fingerprint == print {
		old.member.Drain(draining)
		return nil
	}
	order := targetOrder{config: t, boot: b.store.Boot(), peers: b.peers, secrets: b.secrets, log: b.log, issuer: b.issuer, until: b.until, granted: b.granted, now: b.issuers.now}
	if order.known, err = b.settled(ctx, t.Name); err != nil {
		return err
	}
	if order.mark, err = b.revoker.Mark(ctx, t.Name); err != nil {
		return err
	}
	if there {
		// First the old one lets go: a target may suffer only one of us. Its calls under way fail, and are tried again.
		b.log.Info("a target is made anew: its settings changed", "target", t.Name)
		b.end(old)
		delete(b.deployed, t.Name)
	}
	opened, err := k.open(ctx, order)
	if err != nil {
		b.fleet.Remove(t.Name)
		return err
	}
	member := revoker.NewMember(t.Name, t.Kind, opened.Target)
	member.Drain(draining)
	b.fleet.Put(member)
	b.deployed[t.Name] = deployed{print, member, opened.close}
	return nil
}

// until tells until when a credential that was handed out for a lease lives; the zero time where none was: of a lease
// that never became active nobody holds the credential.
func (b *builder) until(ctx context.Context, id string) (until time.Time, err error) {
	err = b.store.View(ctx, func(tx *store.Tx) error {
		l, err := tx.Lease(lease.ID(id))
		if err == nil && l.Revocation != "" {
			until = l.NativeUntil
		}
		return err
	})
	return until, err
}

// settled reports whether a credential that was handed out may live at a target. Of a lease that never became
// active nobody holds the credential, and it may not exist.
func (b *builder) settled(ctx context.Context, name string) (bool, error) {
	const enough = 1000
	found := false
	err := b.store.View(ctx, func(tx *store.Tx) error {
		active, _, err := tx.Leases(store.Filter{Target: name, State: lease.Active, Live: true}, "", 1)
		if err != nil || len(active) > 0 {
			found = len(active) > 0
			return err
		}
		ending, _, err := tx.Leases(store.Filter{Target: name, State: lease.Revoking, Live: true}, "", enough)
		found = len(ending) == enough || slices.ContainsFunc(ending, func(l store.Lease) bool { return l.Revocation != "" })
		return err
	})
	return found, err
}

// drain takes the targets out of service that a view does not name. Those where leases live stay, to end them;
// after a restart they are made again, as they were when the leases were granted.
func (b *builder) drain(ctx context.Context, view *broker.View) (notes []string, err error) {
	live, err := b.live(ctx)
	if err != nil {
		return nil, err
	}
	for name, d := range b.deployed {
		if _, named := view.Access.Targets[name]; named {
			continue
		}
		if live[name] == 0 {
			b.remove(name)
			continue
		}
		d.member.Drain(true)
		notes = append(notes, fmt.Sprintf("target %q left: it drains until its %d leases have ended", name, live[name]))
	}
	for name, n := range live {
		_, named := view.Access.Targets[name]
		if _, there := b.deployed[name]; named || there || n == 0 {
			continue
		}
		if err := b.recall(ctx, name); err != nil {
			notes = append(notes, b.fail(name, err))
		}
	}
	slices.Sort(notes)
	return notes, nil
}

// live counts the leases that may live, by target.
func (b *builder) live(ctx context.Context) (map[string]int, error) {
	live := map[string]int{}
	err := b.store.View(ctx, func(tx *store.Tx) error {
		tallies, err := tx.Targets()
		for _, t := range tallies {
			live[t.Target] = t.Live()
		}
		return err
	})
	return live, err
}

// recall makes a target that no view names from the revision under which its newest live lease was granted.
func (b *builder) recall(ctx context.Context, name string) error {
	var revision store.Revision
	err := b.store.View(ctx, func(tx *store.Tx) error {
		found, _, err := tx.Leases(store.Filter{Target: name, Live: true}, "", 1)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return errors.New("its leases have just ended")
		}
		revision, err = tx.Revision(found[0].Revision)
		return err
	})
	if err != nil {
		return fmt.Errorf("find the settings that its leases were granted under: %w", err)
	}
	var files access.Files
	if err := json.Unmarshal(revision.Files, &files); err != nil {
		return fmt.Errorf("read revision %s: %w", revision.ID, err)
	}
	cfg, err := access.Parse(files, accessKinds(b.kinds, b.issuers.kinds))
	if err != nil {
		return fmt.Errorf("read revision %s: %w", revision.ID, err)
	}
	t, ok := cfg.Targets[name]
	if !ok {
		return fmt.Errorf("revision %s does not name it", revision.ID)
	}
	b.log.Info("a target of an earlier access revision drains", "target", name, "revision", revision.ID)
	return b.put(ctx, t, true)
}

// remove takes a target out of the fleet. The caller holds mu.
func (b *builder) remove(name string) {
	b.fleet.Remove(name)
	b.end(b.deployed[name])
	delete(b.deployed, name)
	b.log.Info("a target was taken out of service", "target", name)
}

// end closes a target and waits for it, but not longer than for a call that hangs.
func (b *builder) end(d deployed) {
	const patience = 5 * time.Second
	closed := make(chan struct{})
	b.closing.Go(func() {
		defer close(closed)
		d.close()
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		b.log.Warn("a target takes long to close", "target", d.member.Name())
	}
}

// tidy removes targets that have drained.
func (b *builder) tidy(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	live, err := b.live(ctx)
	if err != nil {
		return err
	}
	for name, d := range b.deployed {
		if d.member.Draining() && live[name] == 0 {
			b.remove(name)
		}
	}
	return nil
}

// closeAll ends all targets.
func (b *builder) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.deployed {
		b.end(d)
	}
	b.deployed = map[string]deployed{}
	b.closing.Wait()
}

// faults returns the targets that could not be made, and why.
func (b *builder) faults() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.broken)
}
