package kubernetes

import (
	"context"
	"errors"
	"fmt"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/target"
)

// Grant makes a token for a lease.
//
// The order is what makes late requests harmless. The record comes first: Revoke finds through it what there may be, and
// what it leaves of it refuses every later grant. The anchor comes second: its UID is known from its answer alone. The
// token comes last and names that UID, so that a request for it that arrives after the anchor's end is refused, and
// whatever else arrives late opens nothing.
func (k *Kubernetes) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	c, err := k.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %s on %s: %w", g.Lease, k.title(), err)
	}
	return c, nil
}

func (k *Kubernetes) grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	var none target.Credential
	if err := target.CheckLease(g.Lease); err != nil {
		return none, err
	}
	rights, err := parseRights(g.Rights)
	if err == nil {
		err = k.cfg.Settings.allowed(rights)
	}
	if err == nil {
		err = k.Meet(ctx)
	}
	if err != nil {
		return none, target.NotDone(err)
	}
	r, err := k.open(ctx, g, rights)
	if err != nil {
		return none, err
	}
	token, err := k.furnish(ctx, r, seconds(g.TTL))
	if err != nil {
		return none, k.abandon(ctx, r, err)
	}
	return k.credential(r, token)
}

// open writes the record, or takes up the one of an earlier grant of the same lease.
func (k *Kubernetes) open(ctx context.Context, g target.Grant, rights Rights) (record, error) {
	r, err := k.newRecord(g, rights)
	if err != nil {
		return r, target.NotDone(err)
	}
	made, err := k.api.CreateLease(ctx, r.object)
	switch {
	case err == nil:
		r.object = made
		return r, nil
	case kube.Is(err, kube.ReasonExists):
		return k.reopen(ctx, r)
	case kube.WasRefused(err):
		err = target.NotDone(err)
	}
	return r, fmt.Errorf("write its record in namespace %s: %w", k.space(), err)
}

// reopen prepares a lease to be granted again. The token of the grant before dies with its anchor.
func (k *Kubernetes) reopen(ctx context.Context, want record) (record, error) {
	r, found, err := k.find(ctx, want.lease)
	switch {
	case err != nil:
		return r, err
	case !found || r.state != live:
		return r, target.NotDone(errors.New("the lease has ended"))
	case r.text != want.text:
		return r, target.NotDone(errors.New("the lease was granted with other rights"))
	case r.grants == maxGrants:
		return r, target.NotDone(fmt.Errorf("the lease was granted %d times", maxGrants))
	}
	before := r.grants
	if r, err = k.change(ctx, r, live, before+1); err != nil {
		return r, err
	}
	return r, absent(k.api.DeleteSecret(ctx, r.rights.home(), k.names.anchor(r.lease, before)))
}

// furnish makes what the record announces, and the token last.
func (k *Kubernetes) furnish(ctx context.Context, r record, ttl int64) (kube.Token, error) {
	home, name := r.rights.home(), k.names.of(r.lease)
	meta := func(namespace, name string) kube.Meta {
		return kube.Meta{Name: name, Namespace: namespace, Labels: k.names.labels()}
	}
	anchor, err := k.api.CreateSecret(ctx, meta(home, k.names.anchor(r.lease, r.grants)))
	if err != nil {
		return kube.Token{}, fmt.Errorf("make its anchor in namespace %s: %w", home, err)
	}
	order := kube.TokenOrder{Namespace: home, Account: name, Seconds: ttl, Secret: anchor.Meta.Name, SecretUID: anchor.Meta.UID}
	if a := r.rights.ServiceAccount; a != nil {
		order.Account, order.Audiences = a.Name, a.Audiences
	} else {
		if err := r.again(k.api.CreateServiceAccount(ctx, meta(home, name))); err != nil {
			return kube.Token{}, fmt.Errorf("make its account in namespace %s: %w", home, err)
		}
		subject := kube.Subject{Name: name, Namespace: home}
		for i, b := range r.rights.bindings() {
			err := k.api.CreateBinding(ctx, meta(b.namespace, k.names.binding(r.lease, i)), b.kind, b.role, subject)
			if err := r.again(err); err != nil {
				return kube.Token{}, fmt.Errorf("bind %s %s: %w", b.kind, b.role, err)
			}
		}
	}
	token, err := k.api.CreateToken(ctx, order)
	if err != nil {
		return token, fmt.Errorf("make a token of account %s in namespace %s: %w", order.Account, home, err)
	}
	return token, nil
}

// again forgives that something exists already where an earlier grant of the lease may have made it.
func (r record) again(err error) error {
	if r.grants > 1 && kube.Is(err, kube.ReasonExists) {
		return nil
	}
	return err
}

// abandon ends the record of a grant that was refused before it asked for a token, or when it did: no token of the
// lease was ever made, so that nothing is left to revoke but what opens nothing, which [Kubernetes.Clean] takes away.
func (k *Kubernetes) abandon(ctx context.Context, r record, cause error) error {
	if !kube.WasRefused(cause) || r.grants > 1 || ctx.Err() != nil {
		return cause
	}
	if _, err := k.change(ctx, r, ended, 0); err != nil {
		return cause
	}
	if err := k.destroy(ctx, r); err != nil {
		k.log.InfoContext(ctx, "what a refused grant made is left for later", "lease", r.lease, "err", err)
	}
	return target.NotDone(cause)
}

// absent forgives that what was to be deleted is not there.
func absent(err error) error {
	if kube.Is(err, kube.ReasonNotFound) {
		return nil
	}
	return err
}
