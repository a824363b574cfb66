package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/target"
)

// markText is a mark as the annotation of the mark's Lease holds it.
type markText struct {
	Instance string `json:"instance"`
	Target   string `json:"target"`
	Boot     int64  `json:"boot"`
	Epoch    int64  `json:"epoch"`
}

// errElsewhere says that this is not the cluster that we mean.
var errElsewhere = errors.New("it is another cluster than this target was, or another target's namespace")

// readMark returns the mark of this cluster, zero where there is none, and the object that holds it.
func (k *Kubernetes) readMark(ctx context.Context) (target.Mark, kube.Lease, error) {
	object, err := k.api.Lease(ctx, k.space(), k.names.mark())
	if kube.Is(err, kube.ReasonNotFound) {
		return target.Mark{}, kube.Lease{}, nil
	}
	if err != nil {
		return target.Mark{}, object, fmt.Errorf("read the mark in namespace %s: %w", k.space(), err)
	}
	var mark markText
	if err := json.Unmarshal([]byte(object.Meta.Annotations[noteMark]), &mark); err != nil {
		return target.Mark{}, object, fmt.Errorf("the lease %s/%s holds no mark: %w", k.space(), k.names.mark(), errElsewhere)
	}
	return target.Mark(mark), object, nil
}

// writeMark leaves mark in the place of object.
func (k *Kubernetes) writeMark(ctx context.Context, mark target.Mark, object kube.Lease) error {
	text, err := json.Marshal(markText(mark))
	if err != nil {
		return err
	}
	fresh := object.Meta.UID == ""
	object.Meta.Name, object.Meta.Namespace = k.names.mark(), k.space()
	object.Meta.Labels, object.Meta.Annotations = k.names.labels(), map[string]string{noteMark: string(text)}
	if fresh {
		_, err = k.api.CreateLease(ctx, object)
	} else {
		_, err = k.api.UpdateLease(ctx, object)
	}
	if err != nil {
		return fmt.Errorf("leave the mark in namespace %s: %w", k.space(), err)
	}
	return nil
}

// enter waits for its turn to use the mark, as long as ctx allows.
func (k *Kubernetes) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case k.meeting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *Kubernetes) leave() { <-k.meeting }

// Meet makes sure, once, that this cluster is the one we mean.
func (k *Kubernetes) Meet(ctx context.Context) error {
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	if k.met {
		return nil
	}
	seen, object, err := k.readMark(ctx)
	if err != nil {
		return err
	}
	switch {
	case seen == target.Mark{} && k.known:
		return fmt.Errorf("%s lacks our mark in namespace %s: %w: %w", k.title(), k.space(), errElsewhere, target.ErrNotDone)
	case seen != target.Mark{} && !k.ours(seen, k.mark):
		return fmt.Errorf("%s bears the mark of target %q in namespace %s: %w: %w", k.title(), seen.Target, k.space(), errElsewhere, target.ErrNotDone)
	case seen.After(k.mark):
		// What that means for leases is the caller's to decide, by Mark.
		k.log.WarnContext(ctx, "a later boot or epoch has been at this target", "boot", seen.Boot, "epoch", seen.Epoch)
	case seen != k.mark:
		if err := k.writeMark(ctx, k.mark, object); err != nil {
			return err
		}
	}
	k.met, k.known = true, true
	return nil
}

func (k *Kubernetes) ours(seen, m target.Mark) bool {
	return seen.Instance == m.Instance && seen.Target == m.Target
}

// Mark returns the mark found in the cluster and replaces it by m, unless the one found is of another target or of a
// later boot or epoch. Calling it at a cluster without a mark adopts that cluster: it is the operator's word.
func (k *Kubernetes) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	if err := k.enter(ctx); err != nil {
		return target.Mark{}, err
	}
	defer k.leave()
	seen, object, err := k.readMark(ctx)
	if err == nil && (seen == target.Mark{} || k.ours(seen, m) && !seen.After(m)) {
		if seen != m {
			err = k.writeMark(ctx, m, object)
		}
		if err == nil && k.ours(m, k.mark) {
			k.mark, k.known, k.met = m, true, true
		}
	}
	if err != nil {
		return target.Mark{}, fmt.Errorf("mark %s: %w", k.title(), err)
	}
	return seen, nil
}
