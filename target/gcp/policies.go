package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/target/cloud"
)

// policies are the allow policies of the resources that a target may bind accounts on. A policy is read, changed and written
// with the etag that it was read with, so that of two who write at once one is refused and reads again.
type policies struct {
	*google
	turns map[string]chan struct{} // by resource: our own writes come one after the other; fixed after newPolicies
}

func newPolicies(g *google) *policies {
	p := &policies{google: g, turns: map[string]chan struct{}{}}
	if g.settings.Manage != nil {
		for _, r := range g.settings.Manage.Resources {
			p.turns[r] = make(chan struct{}, 1)
		}
	}
	return p
}

// policy is an allow policy with all that others have written into it.
type policy map[string]any

// most is how often a policy is read and written until a write is not passed by another.
const most = 12

// bind makes the account of a lease a member of roles on a resource until a time, in place of what it was there.
func (p *policies) bind(ctx context.Context, b Binding, lease string, until time.Time) error {
	err := p.edit(ctx, b.On, func(now policy) bool {
		now.remove(p.isOf(lease))
		for _, role := range b.Roles {
			now.add(role, "serviceAccount:"+p.email(p.name(lease)), lease, until)
		}
		return true
	})
	if err != nil {
		// A member that is not known yet is an invalid argument to Google.
		return fmt.Errorf("bind it on %s: %w", b.On, cloud.Early(err, http.StatusBadRequest))
	}
	return nil
}

// unbind takes members out of every resource that the target may bind accounts on: of a lease that the store does not know
// nobody can say where it was bound.
func (p *policies) unbind(ctx context.Context, is func(member string) bool) error {
	for _, on := range p.settings.Manage.Resources {
		if err := p.edit(ctx, on, func(now policy) bool { return now.remove(is) }); err != nil {
			return fmt.Errorf("take it out of the policy of %s: %w", on, err)
		}
	}
	return nil
}

// bound lists the leases that policies name, each once.
func (p *policies) bound(ctx context.Context) ([]string, error) {
	leases := map[string]bool{}
	for _, on := range p.settings.Manage.Resources {
		now, err := p.read(ctx, on)
		if err != nil {
			return nil, fmt.Errorf("read the policy of %s: %w", on, err)
		}
		now.remove(func(member string) bool {
			if lease, ours := p.leaseOf(member); ours {
				leases[lease] = true
			}
			return false
		})
	}
	return slices.Sorted(maps.Keys(leases)), nil
}

// isOf reports whether a member is the account of a lease, alive or deleted.
func (g *google) isOf(lease string) func(string) bool {
	return func(member string) bool {
		found, ours := g.leaseOf(member)
		return ours && found == lease
	}
}

// leaseOf is whose account a member is: serviceAccount:EMAIL, or deleted:serviceAccount:EMAIL?uid=NUMBER.
func (g *google) leaseOf(member string) (string, bool) {
	member = strings.TrimPrefix(member, "deleted:")
	email, ours := strings.CutPrefix(member, "serviceAccount:")
	email, _, _ = strings.Cut(email, "?")
	name, _, _ := strings.Cut(email, "@")
	lease, valid := g.lease(name)
	return lease, ours && valid && email == g.email(name)
}

// edit changes a policy. It writes nothing where change says that there is nothing to write.
func (p *policies) edit(ctx context.Context, on string, change func(policy) bool) error {
	turn := p.turns[on]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for try := 1; ; try++ {
		now, err := p.read(ctx, on)
		if err != nil {
			return err
		}
		if !change(now) {
			return nil
		}
		err = p.write(ctx, on, now)
		// 409 is the Resource Manager's word for a policy that has changed, 412 that of Storage.
		if !cloud.IsStatus(err, http.StatusConflict, http.StatusPreconditionFailed) || try == most {
			return err
		}
		if err := cloud.Pause(ctx, rand.N(time.Duration(min(try, 5))*200*time.Millisecond)); err != nil {
			return err
		}
	}
}

// read asks for a policy in version 3, without which conditions would not be shown, and would be lost when it is written.
func (p *policies) read(ctx context.Context, on string) (now policy, err error) {
	kind, name, _ := strings.Cut(on, "/")
	if kind == "buckets" {
		query := url.Values{"optionsRequestedPolicyVersion": {"3"}}
		_, err = p.call.Do(ctx, cloud.Request{Method: http.MethodGet, URL: p.bucket(name) + "?" + query.Encode(), Bearer: p.manager, Long: true}, &now)
	} else {
		_, err = p.call.Do(ctx, cloud.Request{URL: p.project(name, ":getIamPolicy"), Bearer: p.manager, Long: true,
			Body: map[string]any{"options": map[string]any{"requestedPolicyVersion": 3}}}, &now)
	}
	if etag, _ := now["etag"].(string); err == nil && etag == "" {
		err = errors.New("the policy has no etag: others' changes could be lost")
	}
	return now, err
}

func (p *policies) write(ctx context.Context, on string, now policy) error {
	now["version"] = 3
	kind, name, _ := strings.Cut(on, "/")
	if kind == "buckets" {
		_, err := p.call.Do(ctx, cloud.Request{Method: http.MethodPut, URL: p.bucket(name), Bearer: p.manager, Long: true, Body: now}, nil)
		return err
	}
	_, err := p.call.Do(ctx, cloud.Request{URL: p.project(name, ":setIamPolicy"), Bearer: p.manager, Long: true, Body: map[string]any{"policy": now}}, nil)
	return err
}

func (p *policies) project(id, verb string) string {
	return cmp.Or(p.settings.ResourceManager, "https://cloudresourcemanager.googleapis.com") + "/v3/projects/" + url.PathEscape(id) + verb
}

func (p *policies) bucket(name string) string {
	return cmp.Or(p.settings.Storage, "https://storage.googleapis.com") + "/storage/v1/b/" + url.PathEscape(name) + "/iam"
}

// add binds a member to a role until a time. The binding is the lease's alone: its condition is.
func (p policy) add(role, member, lease string, until time.Time) {
	all, _ := p["bindings"].([]any)
	p["bindings"] = append(all, map[string]any{
		"role": role, "members": []any{member},
		"condition": map[string]any{
			"title": "Daypass lease " + lease, "description": "ends with the lease, whoever forgets it",
			"expression": `request.time < timestamp("` + until.UTC().Format(time.RFC3339) + `")`,
		},
	})
}

// remove takes members out of all bindings, and reports whether there were any. A binding without members goes.
func (p policy) remove(is func(member string) bool) (changed bool) {
	all, _ := p["bindings"].([]any)
	var kept []any
	for _, one := range all {
		binding, ok := one.(map[string]any)
		members, _ := binding["members"].([]any)
		var stay []any
		for _, m := range members {
			if text, ok := m.(string); !ok || !is(text) {
				stay = append(stay, m)
			}
		}
		if ok && len(stay) < len(members) {
			changed = true
			if len(stay) == 0 {
				continue
			}
			binding["members"] = stay
		}
		kept = append(kept, one)
	}
	if changed {
		p["bindings"] = kept
	}
	return changed
}
