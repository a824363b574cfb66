// Package deployment brings access revisions into service: it makes views of them for the broker, and keeps the fleet in
// step with the active one.
//
// It owns which targets are in the fleet and what each was made from (deployment.go), and what targets are told of the
// store: the other servers (peers.go) and what leases were granted as (granted.go). It promises that activating a revision
// disturbs nothing that stays the same; that one target that cannot be made keeps no other from serving; and that a target
// that a revision no longer names stays until its last lease has ended, also over restarts. It knows kinds of targets, and
// none by name; it must not import the edge or what serves.
package deployment

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
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/store"
)

// Verifiers makes the verifiers of an access revision, and takes up those of the one in service.
type Verifiers interface {
	Build(cfg *access.Config) (admission.Verifier, source.Errors)
	Deploy(v admission.Verifier)
}

// Config is everything that a [Deployment] needs.
type Config struct {
	Kinds     kind.Set
	Zones     []*time.Location // that policies may ask the local time of
	Secrets   secretdir.Dir
	Verifiers Verifiers
	Store     *store.Store
	Fleet     *revoker.Fleet
	Revoker   *revoker.Revoker
	Issuer    *issuer.Issuer // signs the tokens of targets
	Now       func() time.Time
	Log       *slog.Logger
}

// Deployment is the access revision in service. Make it with [New].
type Deployment struct {
	cfg     Config
	kinds   access.Kinds
	others  peers
	granted granted
	closing sync.WaitGroup

	mu       sync.Mutex          // guards the fields below; held while the fleet changes
	deployed map[string]deployed // by name
	broken   map[string]string   // targets that could not be made, and why
}

// deployed is a target in the fleet.
type deployed struct {
	fingerprint string
	member      *revoker.Member
	close       func()
}

var _ admission.Builder = (*Deployment)(nil)

// New returns a deployment with no target in service.
func New(cfg Config) *Deployment {
	kinds := cfg.Kinds.Access()
	return &Deployment{cfg: cfg, kinds: kinds, granted: granted{store: cfg.Store, kinds: kinds, log: cfg.Log}, deployed: map[string]deployed{}}
}

// Build implements [admission.Builder].
func (d *Deployment) Build(_ context.Context, revision string, files access.Files) (*admission.View, error) {
	cfg, err := access.Parse(files, d.kinds)
	if err != nil {
		return nil, err
	}
	verifiers, wrong := d.cfg.Verifiers.Build(cfg)
	if revision == "" {
		// What is new must be whole. A revision that served before may lack a file by now and still serves.
		wrong = append(wrong, d.missingFiles(cfg)...)
		wrong = append(wrong, d.ourselves(cfg)...)
	}
	engine, err := policy.Compile(cfg, d.cfg.Zones)
	wrong.Add("", err)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	return &admission.View{Revision: cfg.Hash, Access: cfg, Policy: engine, Verifier: verifiers}, nil
}

// missingFiles reports the references to files that cannot be read.
func (d *Deployment) missingFiles(cfg *access.Config) (wrong source.Errors) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Targets)) {
		t := cfg.Targets[name]
		if _, err := d.cfg.Kinds.Targets[t.Kind].Fingerprint(t, d.cfg.Secrets); err != nil {
			wrong = append(wrong, &source.Error{File: t.Place.File, Line: t.Place.Line, Column: t.Place.Column,
				Message: fmt.Sprintf("target %q: %v", name, err), Hint: "put the file there, readable by the server"})
		}
	}
	return wrong
}

// ourselves refuses issuers that are our own: what roles give out would be evidence here, whoever holds it, and one lease
// would beget the next.
func (d *Deployment) ourselves(cfg *access.Config) (wrong source.Errors) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Issuers)) {
		if issuer := cfg.Issuers[name]; issuer.URL == d.cfg.Issuer.URL() {
			wrong = append(wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column,
				Message: fmt.Sprintf("issuer %q is this installation's own: who has a role would come back as another workload", name),
				Hint:    "let the workload show its own platform's token here"})
		}
	}
	return wrong
}

// Deploy implements [admission.Builder]. One target that cannot be made does not keep the others from serving.
func (d *Deployment) Deploy(ctx context.Context, view *admission.View) (notes []string, err error) {
	d.cfg.Verifiers.Deploy(view.Verifier)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(view.Access.Targets)) {
		if err := d.put(ctx, view.Access.Targets[name], false); err != nil {
			notes = append(notes, d.fail(name, err))
		}
	}
	var longest time.Duration
	for _, role := range view.Access.Roles {
		longest = max(longest, role.TTL.Max)
	}
	d.cfg.Revoker.SetLongest(longest)
	drained, err := d.drain(ctx, view)
	for name, in := range d.deployed {
		in.member.SetRoles(rolesAt(view.Access, name))
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

func (d *Deployment) fail(name string, err error) string {
	d.cfg.Log.Error("a target is not in service", "target", name, "err", err)
	d.broken[name] = err.Error()
	return fmt.Sprintf("target %q is not in service: %v", name, err)
}

// put brings a target into the fleet. One that is there and made from the same stays as it is.
func (d *Deployment) put(ctx context.Context, t access.Target, draining bool) error {
	k := d.cfg.Kinds.Targets[t.Kind]
	print, err := k.Fingerprint(t, d.cfg.Secrets)
	if err != nil {
		return err
	}
	old, there := d.deployed[t.Name]
	if there && old.fingerprint == print {
		old.member.Drain(draining)
		return nil
	}
	order := kind.TargetOrder{
		Config: t, Boot: d.cfg.Store.Boot(), Peers: d.peers, Secrets: d.cfg.Secrets, Log: d.cfg.Log, Issuer: d.cfg.Issuer, Now: d.cfg.Now,
		Until: d.until, Lease: d.granted.held,
		Roles: func(ctx context.Context) (map[string]json.RawMessage, error) { return d.granted.rights(ctx, t.Name) },
	}
	if order.Known, err = d.settled(ctx, t.Name); err != nil {
		return err
	}
	if order.Mark, err = d.cfg.Revoker.Mark(ctx, t.Name); err != nil {
		return err
	}
	if there {
		// First the old one lets go: a target may suffer only one of us. Its calls under way fail, and are tried again.
		d.cfg.Log.Info("a target is made anew: its settings changed", "target", t.Name)
		d.end(old)
		delete(d.deployed, t.Name)
	}
	opened, err := k.Open(ctx, order)
	if err != nil {
		d.cfg.Fleet.Remove(t.Name)
		return err
	}
	member := revoker.NewMember(t.Name, t.Kind, opened.Target)
	member.Drain(draining)
	d.cfg.Fleet.Put(member)
	d.deployed[t.Name] = deployed{print, member, opened.Close}
	return nil
}

// until tells until when a credential that was handed out for a lease lives; the zero time where none was: of a lease
// that never became active nobody holds the credential.
func (d *Deployment) until(ctx context.Context, id string) (until time.Time, err error) {
	err = d.cfg.Store.View(ctx, func(tx *store.Tx) error {
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
func (d *Deployment) settled(ctx context.Context, name string) (bool, error) {
	const enough = 1000
	found := false
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) error {
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
func (d *Deployment) drain(ctx context.Context, view *admission.View) (notes []string, err error) {
	live, err := d.live(ctx)
	if err != nil {
		return nil, err
	}
	for name, in := range d.deployed {
		if _, named := view.Access.Targets[name]; named {
			continue
		}
		if live[name] == 0 {
			d.remove(name)
			continue
		}
		in.member.Drain(true)
		notes = append(notes, fmt.Sprintf("target %q left: it drains until its %d leases have ended", name, live[name]))
	}
	for name, n := range live {
		_, named := view.Access.Targets[name]
		if _, there := d.deployed[name]; named || there || n == 0 {
			continue
		}
		if err := d.recall(ctx, name); err != nil {
			notes = append(notes, d.fail(name, err))
		}
	}
	slices.Sort(notes)
	return notes, nil
}

// live counts the leases that may live, by target.
func (d *Deployment) live(ctx context.Context) (map[string]int, error) {
	live := map[string]int{}
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) error {
		tallies, err := tx.Targets()
		for _, t := range tallies {
			live[t.Target] = t.Live()
		}
		return err
	})
	return live, err
}

// recall makes a target that no view names from the revision under which its newest live lease was granted.
func (d *Deployment) recall(ctx context.Context, name string) error {
	var revision store.Revision
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) error {
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
	cfg, err := access.Parse(files, d.kinds)
	if err != nil {
		return fmt.Errorf("read revision %s: %w", revision.ID, err)
	}
	t, ok := cfg.Targets[name]
	if !ok {
		return fmt.Errorf("revision %s does not name it", revision.ID)
	}
	d.cfg.Log.Info("a target of an earlier access revision drains", "target", name, "revision", revision.ID)
	return d.put(ctx, t, true)
}

// remove takes a target out of the fleet. The caller holds mu.
func (d *Deployment) remove(name string) {
	d.cfg.Fleet.Remove(name)
	d.end(d.deployed[name])
	delete(d.deployed, name)
	d.cfg.Log.Info("a target was taken out of service", "target", name)
}

// end closes a target and waits for it, but not longer than for a call that hangs.
func (d *Deployment) end(old deployed) {
	const patience = 5 * time.Second
	closed := make(chan struct{})
	d.closing.Go(func() {
		defer close(closed)
		old.close()
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		d.cfg.Log.Warn("a target takes long to close", "target", old.member.Name())
	}
}

// Tidy removes targets that have drained.
func (d *Deployment) Tidy(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	live, err := d.live(ctx)
	if err != nil {
		return err
	}
	for name, in := range d.deployed {
		if in.member.Draining() && live[name] == 0 {
			d.remove(name)
		}
	}
	return nil
}

// Close ends all targets.
func (d *Deployment) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, in := range d.deployed {
		d.end(in)
	}
	d.deployed = map[string]deployed{}
	d.closing.Wait()
}

// Faults returns the targets that could not be made, and why.
func (d *Deployment) Faults() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.broken)
}
