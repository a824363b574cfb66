package broker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

const (
	grantTime   = 30 * time.Second // how long a target may take to make a credential
	recordTime  = 30 * time.Second // how long a record may wait for the store
	integrateBy = time.Minute      // how long after a receipt the tree holds its leaf
	maxTries    = 5                // how often a request follows an access revision that changes under it
)

// Origin is where a request comes from.
type Origin struct {
	Request  string // request ID
	SourceIP netip.Addr
}

// AcquireRequest asks for a credential of a role.
type AcquireRequest struct {
	Evidence Evidence
	Role     string
	TTL      time.Duration // 0: the role's default
	Reason   string
	Key      string // Idempotency-Key, empty where there is none
	Origin   Origin
}

// Acquired is a lease with what opens it. It exists in one answer only.
type Acquired struct {
	Lease      store.Lease
	Token      secret.Text
	Credential target.Credential
	Receipt    string
	Clamped    bool
}

// acquisition is one request on its way through the steps. Each step fills what the next one needs.
type acquisition struct {
	request   AcquireRequest
	view      *View
	principal identity.Principal
	dues      []due // of the evidence, settled with the record
	role      access.Role
	ttl       time.Duration
	clamped   bool
	around    circumstances
	asked     policy.Request
	decision  store.Decision
	lease     store.Lease
	token     secret.Text
}

// Acquire makes a credential that did not exist before, for the workload that the evidence speaks for.
func (b *Broker) Acquire(ctx context.Context, request AcquireRequest) (Acquired, error) {
	return b.acquireTraced(ctx, &acquisition{request: request}, b.acquire)
}

// acquireTraced measures and traces an acquisition, from the step where it begins.
func (b *Broker) acquireTraced(ctx context.Context, a *acquisition, acquire func(context.Context, *acquisition) (Acquired, error)) (Acquired, error) {
	begun := time.Now()
	span := b.tracer.Serve(&ctx, "acquire")
	acquired, err := acquire(ctx, a)
	b.figures.acquired(a.role.Target, err, time.Since(begun))
	a.describe(span)
	span.End(&err)
	return acquired, err
}

func (b *Broker) acquire(ctx context.Context, a *acquisition) (Acquired, error) {
	if err := b.verify(ctx, a); err != nil {
		return Acquired{}, err
	}
	return b.acquireAs(ctx, a)
}

// acquireAs goes on for a principal whose evidence is good.
func (b *Broker) acquireAs(ctx context.Context, a *acquisition) (Acquired, error) {
	if err := b.rates.take(a.principal.IssuerURL, a.principal.Subject, time.Now()); err != nil {
		return Acquired{}, err
	}
	if err := b.admit(ctx, a); err != nil {
		return Acquired{}, err
	}
	// From here on a credential may exist: the story goes on without the caller if it must.
	ctx = context.WithoutCancel(ctx)
	credential, err := b.grant(ctx, a)
	if err != nil {
		b.abandon(ctx, a, lease.Failed)
		return Acquired{}, err
	}
	receipt, err := b.activate(ctx, a, credential)
	if err != nil {
		b.abandon(ctx, a, lease.Failed)
		return Acquired{}, err
	}
	b.revoker.WakeExpiry(a.lease.ExpiresAt)
	return Acquired{Lease: a.lease, Token: a.token, Credential: credential, Receipt: receipt, Clamped: a.clamped}, nil
}

// verify turns evidence into a principal, by the issuers of the active revision.
func (b *Broker) verify(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "verify").End(&err)
	a.view = b.View()
	a.principal, a.dues, err = b.identify(ctx, a.view, a.request.Evidence)
	return err
}

// admit decides and records, again when the access revision changed between the two.
func (b *Broker) admit(ctx context.Context, a *acquisition) error {
	for range maxTries {
		if err := b.decide(ctx, a); err != nil {
			return err
		}
		err := b.record(ctx, a)
		if !errors.Is(err, errRevisionChanged) {
			return err
		}
		if a.view, err = b.refresh(ctx); err != nil {
			return err
		}
	}
	return fault.New(fault.StoreUnavailable, "acquire", "the access configuration keeps changing; try again")
}

// errIssuerLeft is for evidence that was good until its issuer left the access configuration.
var errIssuerLeft = fault.New(fault.Unauthenticated, "acquire", "the token's issuer has just left the access configuration")

// decide asks the policies. A role that does not exist is denied like any other, so that no stranger learns
// which roles there are.
func (b *Broker) decide(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "decide").End(&err)
	var trusted, exists bool
	var tooLong error
	if a.principal, trusted = a.view.recognise(a.principal); !trusted {
		return errIssuerLeft
	}
	if a.role, exists = a.view.Access.Roles[a.request.Role]; exists {
		// Told only to those who may have the role: others must not learn that it is there.
		a.ttl, a.clamped, tooLong = chooseTTL(a.role, a.request.TTL, a.role.TTL.Max)
	}
	now, on := b.clock.Now(), policy.OnRole(a.request.Role)
	if a.around, err = b.lookAround(ctx, a.view, a.principal, 0); err != nil {
		return err
	}
	a.asked = policy.Request{
		Principal: a.principal,
		Action:    policy.Acquire,
		Resource:  on,
		Now:       now,
		SourceIP:  a.request.Origin.SourceIP,
		TTL:       a.ttl,
		TokenAge:  tokenAge(a.principal, now),
	}
	a.asked.Country, a.asked.Subdivision = b.place(a.asked.SourceIP)
	if err := a.around.tell(a.view, &a.asked); err != nil {
		return err
	}
	d := a.view.Policy.Decide(a.asked)
	a.decision = b.newDecision(a.view, a.principal, policy.Acquire, on, d, now)
	if d.Allow && exists {
		return tooLong
	}
	about := a.decision.Resource
	if !exists {
		about = "" // all roles that there are not are one: their names are the caller's to choose
	}
	return b.deny(ctx, a.decision, about, fmt.Sprintf("role %q was denied", a.request.Role))
}

// chooseTTL applies the role's default, and what is the most here. With an error it still returns the most.
func chooseTTL(role access.Role, asked, most time.Duration) (ttl time.Duration, clamped bool, err error) {
	if asked == 0 {
		return min(role.TTL.Default, most), false, nil
	}
	if asked <= most {
		return asked, false, nil
	}
	if role.TTL.Over == access.Refuse {
		return most, false, fault.New(fault.Invalid, "choose the ttl", fmt.Sprintf("role %q allows at most %s here", role.Name, most))
	}
	return most, true, nil
}

var errRevisionChanged = errors.New("the active access revision changed")

// record writes the lease as pending, with its decision and ledger entry, before anything happens at the target.
// Locks, limits and the revision are checked in the same transaction.
func (b *Broker) record(ctx context.Context, a *acquisition) (err error) {
	defer b.tracer.Start(&ctx, "record").End(&err)
	if err := a.draft(b); err != nil {
		return err
	}
	var superseded string
	var recorded store.Lease
	err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if err := b.checkRevision(tx, a.view); err != nil {
			return err
		}
		if err := b.settle(tx, a.dues); err != nil {
			return err
		}
		if err := b.checkLocks(tx, a.lease); err != nil {
			return err
		}
		if err := b.confirm(tx, a.view, &a.asked, &a.around, &a.decision, 0); err != nil {
			return err
		}
		if superseded, err = b.supersede(tx, a); err != nil {
			return err
		}
		if err := b.checkLimits(tx, a); err != nil {
			return err
		}
		if _, err := tx.PutDecision(a.decision); err != nil {
			return err
		}
		recorded = a.lease
		recorded.Decision = a.decision.ID
		if _, err = tx.InsertLease(&recorded); err != nil {
			return err
		}
		return a.around.watch(tx, recorded)
	})
	if superseded != "" && err == nil {
		b.revoker.Wake(superseded)
	}
	if denied, ok := errors.AsType[*deniedError](err); ok {
		return b.deny(ctx, overruled(a.decision, denied.effect, denied.text), a.decision.Resource, denied.text)
	}
	if err == nil {
		a.lease = recorded
	}
	return b.overtaken(ctx, err, fmt.Sprintf("role %q was denied", a.request.Role))
}

// draft makes the row that record will write.
func (a *acquisition) draft(b *Broker) error {
	claims, err := encodeClaims(a.principal)
	if err != nil {
		return err
	}
	now := b.clock.Now()
	id := lease.NewID(now.Unix())
	a.token = newToken(id)
	a.lease = store.Lease{
		ID:             id,
		State:          lease.Pending,
		Role:           a.role.Name,
		Target:         a.role.Target,
		Issuer:         a.principal.Issuer,
		IssuerURL:      a.principal.IssuerURL,
		Subject:        a.principal.Subject,
		Claims:         claims,
		Run:            runOf(a.view, a.principal),
		Decision:       a.decision.ID,
		Revision:       a.view.Revision,
		CreatedAt:      now,
		ExpiresAt:      now.Add(a.ttl),
		RenewableUntil: now.Add(a.role.TTL.Max),
		NativeUntil:    now.Add(a.ttl),
		TokenHash:      hash(a.token.Reveal()),
		RenewByHandle:  a.role.Renew == access.Handle,
		Boot:           b.store.Boot(),
	}
	if a.request.Key != "" {
		a.lease.KeyHash = hash("key", a.request.Key)
		a.lease.BodyHash = hash("body", a.request.Role, a.request.TTL.String(), a.request.Reason)
	}
	a.decision.Lease = string(a.lease.ID)
	return nil
}

func encodeClaims(p identity.Principal) ([]byte, error) {
	claims, err := json.Marshal(p.Claims)
	if err != nil {
		return nil, fmt.Errorf("encode the claims of %s: %w", p.Name(), err)
	}
	return claims, nil
}

// runOf returns what the workload's platform calls its run, where it is known of the issuer.
func runOf(view *View, p identity.Principal) string {
	var parts []string
	for _, name := range view.Access.Issuers[p.Issuer].Run {
		if part, ok := p.Claims[name].(string); ok && part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// hash is SHA-256 over parts, each with its length before it, so that no two lists of parts look alike.
func hash(parts ...string) []byte {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	return h.Sum(nil)
}

func (b *Broker) checkRevision(tx *store.Tx, view *View) error {
	active, err := tx.ActiveID()
	if err != nil {
		return err
	}
	if active != view.Revision {
		return errRevisionChanged
	}
	return nil
}

// checkLocks refuses a lease that an active lock matches, by its principal or by one who acts for it.
func (b *Broker) checkLocks(tx *store.Tx, l store.Lease) error {
	holders, err := withActors(l)
	if err != nil {
		return err
	}
	for _, holder := range holders {
		lock, found, err := tx.MatchingLock(holder, b.clock.Now())
		if err != nil {
			return err
		}
		if found {
			return &deniedError{effect: "lock", text: fmt.Sprintf("a lock is in force: %s", lock.Reason)}
		}
	}
	return nil
}

// checkLimits counts live leases, this one not yet among them.
func (b *Broker) checkLimits(tx *store.Tx, a *acquisition) error {
	l := a.lease
	for _, limit := range []struct {
		scope store.Scope
		most  int
		what  string
	}{
		{store.Scope{Role: l.Role}, a.role.Limits.Live, fmt.Sprintf("role %q", l.Role)},
		{store.Scope{Role: l.Role, IssuerURL: l.IssuerURL, Subject: l.Subject}, a.role.Limits.PerPrincipal, fmt.Sprintf("role %q for this principal", l.Role)},
		{store.Scope{IssuerURL: l.IssuerURL, Subject: l.Subject}, b.limits.LeasesPerPrincipal, "this principal"},
	} {
		if limit.most == 0 {
			continue
		}
		live, err := tx.Live(limit.scope)
		if err != nil {
			return err
		}
		if live >= limit.most {
			refusal := fault.New(fault.TooMany, "acquire", fmt.Sprintf("%s has %d live leases, as many as the limit; release some or wait", limit.what, live))
			refusal.RetryAfter = 5 * time.Second
			return refusal
		}
	}
	return nil
}

// supersede ends the lease that the same principal made with the same idempotency key: its answer was lost, or
// was not, and either way the caller asks for a fresh one. It returns the target of the lease it ended.
func (b *Broker) supersede(tx *store.Tx, a *acquisition) (targetName string, err error) {
	if a.lease.KeyHash == nil {
		return "", nil
	}
	earlier, err := tx.LeaseByKey(a.lease.IssuerURL, a.lease.Subject, a.lease.KeyHash)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if string(earlier.BodyHash) != string(a.lease.BodyHash) {
		return "", fault.New(fault.Conflict, "acquire", "this Idempotency-Key was used for another request; use a fresh one")
	}
	if earlier.State != lease.Pending && earlier.State != lease.Active {
		return "", nil
	}
	_, err = tx.Move(&earlier, lease.Ended, store.Why{Reason: lease.Superseded, Now: b.clock.Now()})
	return earlier.Target, err
}

// grant asks the target for the credential.
func (b *Broker) grant(ctx context.Context, a *acquisition) (c target.Credential, err error) {
	defer b.tracer.Start(&ctx, "grant").End(&err)
	m, ok := b.fleet.Member(a.role.Target)
	if !ok {
		return target.Credential{}, fault.New(fault.TargetUnavailable, "grant", fmt.Sprintf("target %q is not in service", a.role.Target))
	}
	ctx, cancel := context.WithTimeout(ctx, grantTime)
	defer cancel()
	begun := time.Now()
	c, err = m.Grant(ctx, target.Grant{
		Lease:  string(a.lease.ID),
		Role:   a.role.Name,
		Rights: a.role.Rights,
		TTL:    a.lease.NativeUntil.Sub(b.clock.Now()),
		Holder: a.holder(),
	})
	b.figures.granted(a.role.Target, err, time.Since(begun))
	return c, err
}

// holder says to the target whom the credential is for.
func (a *acquisition) holder() target.Holder {
	p := a.principal
	return target.Holder{Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject, Claims: p.Claims, Run: a.lease.Run}
}

// activate records that the credential exists, after a second look at locks and the access revision: what was
// decided before a lock and became ready after it must not reach the caller.
func (b *Broker) activate(ctx context.Context, a *acquisition, c target.Credential) (receipt string, err error) {
	defer b.tracer.Start(&ctx, "activate").End(&err)
	for range maxTries {
		receipt, err = b.tryActivate(ctx, a, c)
		if !errors.Is(err, errRevisionChanged) {
			return receipt, err
		}
		if a.view, err = b.refresh(ctx); err != nil {
			return "", err
		}
		if err := b.decide(ctx, a); err != nil {
			b.abandon(ctx, a, lease.Policy)
			return "", err
		}
	}
	return "", fault.New(fault.StoreUnavailable, "acquire", "the access configuration keeps changing; try again")
}

func (b *Broker) tryActivate(ctx context.Context, a *acquisition, c target.Credential) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	var leaf []byte
	var active store.Lease
	err := b.store.Update(ctx, func(tx *store.Tx) (err error) {
		if err := b.checkRevision(tx, a.view); err != nil {
			return err
		}
		if err := b.checkLocks(tx, a.lease); err != nil {
			return err
		}
		active = a.lease
		active.Revocation, active.Revision = string(c.Revocation), a.view.Revision
		leaf, err = tx.Move(&active, lease.Granted, store.Why{Now: b.clock.Now()})
		if errors.Is(err, store.ErrStale) {
			return endedMeanwhile(tx, a.lease.ID)
		}
		return err
	})
	if denied, ok := errors.AsType[*deniedError](err); ok {
		b.abandon(ctx, a, lease.Locked)
		refusal := fault.Wrap(fault.Denied, "acquire", denied.text, denied)
		refusal.Decision = a.decision.ID
		return "", refusal
	}
	if err != nil {
		return "", err
	}
	a.lease = active
	return b.store.Signer().Receipt(leaf, b.clock.Now().Add(integrateBy)), nil
}

// endedMeanwhile is the refusal to hand out what was ended while it was being granted.
func endedMeanwhile(tx *store.Tx, id lease.ID) error {
	current, err := tx.Lease(id)
	if err != nil {
		return err
	}
	return &deniedError{effect: "ended", text: fmt.Sprintf("the lease was ended while it was being granted: %s", current.Reason)}
}
