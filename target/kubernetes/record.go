package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/target"
)

// The states of a record. It goes forward only, and a lease whose record is not live is never granted again: an ended
// record is a tombstone.
const (
	live   = "live"   // written before anything else is made; a crash leaves what its rights and its count of grants tell
	ending = "ending" // from here on nothing new is made; a crash leaves the ending to be done again
	ended  = "ended"  // nothing of the lease works
)

// maxGrants bounds how often one lease may be granted again.
const maxGrants = 3

// record is what the cluster knows of a lease: where its things are, so that who has only its ID can find them.
type record struct {
	lease  string
	state  string
	rights Rights // none where the lease was ended before it was granted
	text   string // the same, as written
	role   string
	grants int // of tokens that may have been asked for
	object kube.Lease
}

// newRecord is that of a first grant.
func (k *Kubernetes) newRecord(g target.Grant, rights Rights) (record, error) {
	text, err := json.Marshal(rights)
	if err != nil {
		return record{}, err
	}
	meta := kube.Meta{
		Name: k.names.of(g.Lease), Namespace: k.space(), Labels: k.names.labels(),
		Annotations: map[string]string{noteRights: string(text), noteRole: g.Role, noteGrants: "1"},
	}
	meta.Labels[labelState] = live
	spec := kube.LeaseSpec{HolderIdentity: holder(g.Holder), LeaseDurationSeconds: int32(min(seconds(g.TTL), math.MaxInt32))}
	return record{lease: g.Lease, state: live, rights: rights, text: string(text), role: g.Role, grants: 1, object: kube.Lease{Meta: meta, Spec: spec}}, nil
}

// holder tells people who is behind a lease.
func holder(h target.Holder) string {
	const most = 300
	name := strings.ToValidUTF8(h.Issuer+":"+h.Subject, "?")
	return strings.ToValidUTF8(name[:min(len(name), most)], "")
}

// seconds is a time to live as the API server counts it: whole, and ten minutes at least.
func seconds(ttl time.Duration) int64 {
	return max(int64(math.Ceil(ttl.Seconds())), 600)
}

// readRecord reads a record back.
func (k *Kubernetes) readRecord(object kube.Lease) (record, error) {
	lease, ours := k.names.lease(object.Meta.Name)
	notes := object.Meta.Annotations
	r := record{lease: lease, state: object.Meta.Labels[labelState], text: notes[noteRights], role: notes[noteRole], object: object}
	var err error
	if r.text != "" {
		r.rights, err = parseRights(json.RawMessage(r.text))
	}
	if err == nil && notes[noteGrants] != "" {
		r.grants, err = strconv.Atoi(notes[noteGrants])
	}
	if !ours || err != nil || r.grants < 0 || r.grants > maxGrants || r.state != live && r.state != ending && r.state != ended {
		return record{}, fmt.Errorf("the record %s/%s is not as Daypass writes it", object.Meta.Namespace, object.Meta.Name)
	}
	return r, nil
}

// find reads the record of a lease; found is false where there is none.
func (k *Kubernetes) find(ctx context.Context, lease string) (r record, found bool, err error) {
	object, err := k.api.Lease(ctx, k.space(), k.names.of(lease))
	if kube.Is(err, kube.ReasonNotFound) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read its record: %w", err)
	}
	r, err = k.readRecord(object)
	return r, err == nil, err
}

// change moves a record on, unless somebody else has: that is a [kube.ReasonConflict].
func (k *Kubernetes) change(ctx context.Context, r record, state string, grants int) (record, error) {
	object := r.object
	object.Meta.Labels, object.Meta.Annotations = maps.Clone(object.Meta.Labels), maps.Clone(object.Meta.Annotations)
	object.Meta.Labels[labelState] = state
	if grants > 0 {
		object.Meta.Annotations[noteGrants] = strconv.Itoa(grants)
	}
	made, err := k.api.UpdateLease(ctx, object)
	if err != nil {
		return r, fmt.Errorf("update its record: %w", err)
	}
	return k.readRecord(made)
}

// records lists records that are in one of states, with what cannot be read as errors.
func (k *Kubernetes) records(ctx context.Context, states string, do func(record) error) error {
	selector := fmt.Sprintf("%s=%s,%s in (%s)", labelInstance, k.names.instance, labelState, states)
	var bad []error
	for object, err := range k.api.Leases(ctx, k.space(), selector) {
		if err != nil {
			return errors.Join(append(bad, fmt.Errorf("list the records in namespace %s: %w", k.space(), err))...)
		}
		r, err := k.readRecord(object)
		if err == nil {
			err = do(r)
		}
		if errors.Is(err, errStop) {
			break
		}
		if err != nil {
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

// errStop ends [Kubernetes.records] early.
var errStop = errors.New("enough")
