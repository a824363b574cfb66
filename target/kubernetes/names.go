package kubernetes

import (
	"fmt"
	"strings"

	"github.com/daypass/daypass/target"
)

// base32Alphabet is what instances and lease IDs are made of: all of it may stand in a DNS label.
const base32Alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// names derives every name that we use in a cluster from the instance and the lease alone. All are far below the 63
// bytes of a DNS label.
type names struct{ instance string }

func newNames(instance string) (names, error) {
	if len(instance) < 4 || len(instance) > 6 || strings.Trim(instance, base32Alphabet) != "" {
		return names{}, fmt.Errorf("instance %q: want 4 to 6 characters of lowercase base32", instance)
	}
	return names{instance}, nil
}

// of is what everything of a lease is called: its record, its account, and with a number its bindings and anchors.
func (n names) of(lease string) string { return n.prefix() + lease }

func (n names) prefix() string { return "dp-" + n.instance + "-" }

// anchor is the Secret that tokens of the lease's nth grant are bound to.
func (n names) anchor(lease string, nth int) string { return fmt.Sprintf("%s-%d", n.of(lease), nth) }

// binding is what gives the lease's account the ith of its role's rights.
func (n names) binding(lease string, i int) string { return fmt.Sprintf("%s-%d", n.of(lease), i) }

// lease is the inverse of of.
func (n names) lease(name string) (string, bool) {
	lease, ours := strings.CutPrefix(name, n.prefix())
	return lease, ours && target.CheckLease(lease) == nil
}

// mark is the Lease whose annotation is our mark. No lease ID is as short.
func (n names) mark() string { return n.prefix() + "mark" }

// What our objects are labelled and annotated with.
const (
	labelInstance = "daypass.dev/instance"
	labelState    = "daypass.dev/state"
	noteRights    = "daypass.dev/rights"
	noteRole      = "daypass.dev/role"
	noteGrants    = "daypass.dev/grants"
	noteMark      = "daypass.dev/mark"
)

// labels are those of everything that is of this instance.
func (n names) labels() map[string]string { return map[string]string{labelInstance: n.instance} }
