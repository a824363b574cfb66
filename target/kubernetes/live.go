package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/target"
)

// Leases lists the leases whose records have not ended.
func (k *Kubernetes) Leases(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := k.Meet(ctx)
		stopped := false
		if err == nil {
			err = k.records(ctx, live+","+ending, func(r record) error {
				if stopped = !yield(r.lease, nil); stopped {
					return errStop
				}
				return nil
			})
		}
		if err != nil && !stopped {
			yield("", fmt.Errorf("list the leases on %s: %w", k.title(), err))
		}
	}
}

// Expiry returns when the token of a lease ends by itself at the latest; zero where none is alive.
func (k *Kubernetes) Expiry(ctx context.Context, lease string) (time.Time, error) {
	err := target.CheckLease(lease)
	var r record
	found := false
	if err == nil {
		r, found, err = k.find(ctx, lease)
	}
	var made time.Time
	if found && r.state == live {
		made, err = time.Parse(time.RFC3339, r.object.Meta.CreationTimestamp)
	}
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("read the expiry of lease %s on %s: %w", lease, k.title(), err)
	case made.IsZero():
		return time.Time{}, nil
	}
	// The token was made after the record, by no more than our patience with a request.
	return made.Add(time.Duration(r.object.Spec.LeaseDurationSeconds)*time.Second + time.Minute).UTC(), nil
}

// Narrow takes from live leases the bindings that their roles have lost, and ends the tokens of accounts that their
// roles no longer name.
func (k *Kubernetes) Narrow(ctx context.Context, roles map[string]json.RawMessage) error {
	err := k.Meet(ctx)
	wait := time.Duration(0)
	if err == nil {
		err = k.records(ctx, live, func(r record) error {
			text, named := roles[r.role]
			if !named {
				return nil
			}
			now, err := parseRights(text)
			if err != nil {
				return fmt.Errorf("role %q: %w", r.role, err)
			}
			took, err := k.narrow(ctx, r, now)
			wait = max(wait, took)
			return err
		})
	}
	if err == nil {
		err = pause(ctx, wait)
	}
	if err != nil {
		return fmt.Errorf("narrow roles on %s: %w", k.title(), err)
	}
	return nil
}

// narrow takes from one lease what its role lacks now, and returns how long that takes to count.
func (k *Kubernetes) narrow(ctx context.Context, r record, now Rights) (wait time.Duration, err error) {
	if !r.rights.sameAccount(now) || k.cfg.Settings.allowed(r.rights) != nil {
		for nth := range r.grants {
			err := k.api.DeleteSecret(ctx, r.rights.home(), k.names.anchor(r.lease, nth+1))
			if err == nil {
				wait = settle
			}
			if err := absent(err); err != nil {
				return wait, fmt.Errorf("end the token of lease %s: %w", r.lease, err)
			}
		}
		return wait, k.unbind(ctx, r)
	}
	kept := now.bindings()
	for i, b := range r.rights.bindings() {
		if slices.Contains(kept, b) {
			continue
		}
		err := k.api.DeleteBinding(ctx, b.namespace, k.names.binding(r.lease, i))
		if err == nil {
			wait = spread
		}
		if err := absent(err); err != nil {
			return wait, fmt.Errorf("take a binding from lease %s: %w", r.lease, err)
		}
	}
	return wait, nil
}

// sameAccount reports whether a token under r may go on under now, as far as its account tells.
func (r Rights) sameAccount(now Rights) bool {
	switch {
	case r.PerLease != nil && now.PerLease != nil:
		return r.PerLease.Namespace == now.PerLease.Namespace
	case r.ServiceAccount != nil && now.ServiceAccount != nil:
		a, b := r.ServiceAccount, now.ServiceAccount
		return a.Namespace == b.Namespace && a.Name == b.Name && slices.Equal(a.Audiences, b.Audiences)
	}
	return false
}

// keepTombs is how long the record of a lease stays that has ended. Whatever a grant sent arrives before then: our
// requests give up after half a minute, and the API server's after one.
const keepTombs = time.Hour

// Clean takes away what is left of leases that ended a while ago: tombs, and what arrived late and opens nothing.
func (k *Kubernetes) Clean(ctx context.Context) (target.Residue, error) {
	var left target.Residue
	err := k.Meet(ctx)
	var now time.Time
	if err == nil {
		now, err = k.api.Now(ctx)
	}
	if err == nil {
		err = k.records(ctx, ended, func(r record) error {
			if made, err := time.Parse(time.RFC3339, r.object.Meta.CreationTimestamp); err != nil || now.Sub(made) < k.keep {
				return err
			}
			err := k.destroy(ctx, r)
			if err == nil {
				err = absent(k.api.DeleteLease(ctx, r.object.Meta))
			}
			if err == nil || kube.Is(err, kube.ReasonConflict) {
				return nil
			}
			left.Leases++
			left.Objects++
			k.log.InfoContext(ctx, "what a dead lease left stays for now", "lease", r.lease, "err", err)
			return nil
		})
	}
	if err != nil {
		return left, fmt.Errorf("clean %s: %w", k.title(), errors.Join(err))
	}
	return left, nil
}
