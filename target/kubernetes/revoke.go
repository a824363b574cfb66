package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/kube"

	"github.com/daypass/daypass/target"
)

// Revoke ends a lease: its bindings, its tokens and its account are gone, no grant of it that is still on its way can
// make a token, and every API server has forgotten that the tokens were good. That last takes seconds after the rest,
// and Revoke waits for it.
func (k *Kubernetes) Revoke(ctx context.Context, lease string) error {
	if err := k.revoke(ctx, lease); err != nil {
		return fmt.Errorf("revoke lease %s on %s: %w", lease, k.title(), err)
	}
	return nil
}

func (k *Kubernetes) revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	if err := k.Meet(ctx); err != nil {
		return err
	}
	r, err := k.close(ctx, lease)
	if err != nil || r.state == ended {
		return err
	}
	wait, err := k.end(ctx, r)
	if err != nil {
		return err
	}
	if err := pause(ctx, wait); err != nil {
		return fmt.Errorf("wait until the API servers forget its token: %w", err)
	}
	// A grant that was under way may have made an account and bindings meanwhile. No token of them was given.
	if err := errors.Join(k.unbind(ctx, r), k.dismiss(ctx, r)); err != nil {
		return err
	}
	if _, err = k.change(ctx, r, ended, 0); kube.Is(err, kube.ReasonConflict) {
		// Another revocation of the same lease was here meanwhile, and proved as much as this one.
		if r, err = k.close(ctx, lease); err == nil && r.state != ended {
			_, err = k.change(ctx, r, ended, 0)
		}
	}
	return err
}

// contests is how often a change is tried against somebody else's.
const contests = 5

// close sees to it that no later grant begins, and returns the record as it then is: ending, or ended long ago.
func (k *Kubernetes) close(ctx context.Context, lease string) (record, error) {
	var err error
	for range contests {
		var r record
		var found bool
		if r, found, err = k.find(ctx, lease); err != nil {
			return r, err
		}
		switch {
		case !found:
			r, err = k.entombRecord(ctx, lease)
		case r.state == live:
			r, err = k.change(ctx, r, ending, 0)
		}
		if err == nil || !kube.Is(err, kube.ReasonExists) && !kube.Is(err, kube.ReasonConflict) {
			return r, err
		}
	}
	return record{}, err
}

// entombRecord writes the record of a lease that has none: it was never granted, or somebody took its record away.
func (k *Kubernetes) entombRecord(ctx context.Context, lease string) (record, error) {
	meta := kube.Meta{Name: k.names.of(lease), Namespace: k.space(), Labels: k.names.labels()}
	meta.Labels[labelState] = ending
	made, err := k.api.CreateLease(ctx, kube.Lease{Meta: meta})
	if err != nil {
		return record{}, fmt.Errorf("write its record in namespace %s: %w", k.space(), err)
	}
	return k.readRecord(made)
}

// end takes everything of a lease away, rights first, and returns how long its tokens may be taken after that.
func (k *Kubernetes) end(ctx context.Context, r record) (time.Duration, error) {
	if r.grants == 0 {
		return k.search(ctx, r)
	}
	if err := k.unbind(ctx, r); err != nil {
		return 0, err
	}
	for nth := range r.grants {
		if err := k.entomb(ctx, r.rights.home(), k.names.anchor(r.lease, nth+1)); err != nil {
			return 0, err
		}
	}
	return settle, k.dismiss(ctx, r)
}

// search looks in all namespaces for anchors of a lease that has no record, and ends them.
func (k *Kubernetes) search(ctx context.Context, r record) (wait time.Duration, err error) {
	for _, namespace := range k.cfg.Settings.Namespaces {
		for nth := range maxGrants {
			err := k.api.DeleteSecret(ctx, namespace, k.names.anchor(r.lease, nth+1))
			if err == nil {
				k.log.WarnContext(ctx, "a lease without a record had a token; somebody deleted the record", "lease", r.lease, "namespace", namespace)
				wait = settle
			}
			if err := absent(err); err != nil {
				return 0, fmt.Errorf("look for its anchor in namespace %s: %w", namespace, err)
			}
		}
	}
	return wait, nil
}

// unbind takes away what the lease's own account may do. API servers hear of it within milliseconds.
func (k *Kubernetes) unbind(ctx context.Context, r record) error {
	for i, b := range r.rights.bindings() {
		if err := absent(k.api.DeleteBinding(ctx, b.namespace, k.names.binding(r.lease, i))); err != nil {
			return fmt.Errorf("take away its binding of %s %s: %w", b.kind, b.role, err)
		}
	}
	return nil
}

// entomb deletes an anchor and puts another of its name in its place, with another UID: no token is bound to that, and
// a request for the anchor that comes late is refused.
func (k *Kubernetes) entomb(ctx context.Context, namespace, name string) error {
	var err error
	for range contests {
		if err := absent(k.api.DeleteSecret(ctx, namespace, name)); err != nil {
			return fmt.Errorf("delete its anchor in namespace %s: %w", namespace, err)
		}
		_, err = k.api.CreateSecret(ctx, kube.Meta{Name: name, Namespace: namespace, Labels: k.names.labels()})
		if err == nil || kube.Is(err, kube.ReasonNotFound) { // there is no such namespace: nothing can come to be there
			return nil
		}
		if !kube.Is(err, kube.ReasonExists) {
			break
		}
	}
	return fmt.Errorf("bury its anchor in namespace %s: %w", namespace, err)
}

// dismiss deletes the lease's own account.
func (k *Kubernetes) dismiss(ctx context.Context, r record) error {
	if r.rights.PerLease == nil {
		return nil
	}
	if err := absent(k.api.DeleteServiceAccount(ctx, r.rights.home(), k.names.of(r.lease))); err != nil {
		return fmt.Errorf("delete its account in namespace %s: %w", r.rights.home(), err)
	}
	return nil
}

// destroy deletes everything of a lease but its record, tombs included.
func (k *Kubernetes) destroy(ctx context.Context, r record) error {
	if r.grants == 0 {
		return nil
	}
	errs := []error{k.unbind(ctx, r), k.dismiss(ctx, r)}
	for nth := range r.grants {
		errs = append(errs, absent(k.api.DeleteSecret(ctx, r.rights.home(), k.names.anchor(r.lease, nth+1))))
	}
	return errors.Join(errs...)
}
