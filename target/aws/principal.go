package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/daypass/daypass/target"
)

// Principals is a target that makes an IAM user or role per lease. Its methods may be called concurrently.
//
// What makes late requests harmless: everything hangs from the user or role, which is made first, and AWS refuses
// whatever names one that is gone. A grant that nobody got an answer of may still make the user or role itself, and go on;
// so Revoke leaves another of that name in its place, a tomb, which may do nothing and under whose name nothing can be made.
// Where the credential was handed out the grant has ended, and the name is left free.
type Principals struct{ *account }

var (
	_ target.Target  = (*Principals)(nil)
	_ target.Lister  = (*Principals)(nil)
	_ target.Marker  = (*Principals)(nil)
	_ target.Expirer = (*Principals)(nil)
	_ target.Cleaner = (*Principals)(nil)
	_ target.Checker = (*Principals)(nil)
)

// NewPrincipals makes a target of cfg and connects to nothing.
func NewPrincipals(cfg Config) (*Principals, error) {
	a, err := newAccount(cfg)
	if err == nil && (cfg.Settings.Manage == nil || !cfg.Settings.Manage.PerLease) {
		err = target.Wrong("manage.per_lease", "it takes a role that may make users and roles")
	}
	if err != nil {
		return nil, err
	}
	return &Principals{a}, nil
}

// species is what a lease can have of its own: users, or roles. Both are driven the same way.
type species interface {
	what() string
	// make makes the principal; an [exists] error where its name is taken.
	make(ctx context.Context, p fresh) error
	// path returns the path of a principal, empty where there is none of that name.
	path(ctx context.Context, name string) (string, error)
	// allow puts an inline policy, and attach attaches a managed one.
	allow(ctx context.Context, name, policy, document string) error
	attach(ctx context.Context, name, arn string) error
	// document reads an inline policy, empty where there is none.
	document(ctx context.Context, name, policy string) (string, error)
	// disarm takes away what opens anything as the principal; the rest of it stays.
	disarm(ctx context.Context, name string) error
	// destroy takes everything away, and the principal last.
	destroy(ctx context.Context, name string) error
	// list lists the principals below a path, with that path each.
	list(ctx context.Context, path string, do func(name, path string, made time.Time) error) error
}

// fresh is a principal to be made.
type fresh struct {
	name, path, boundary, lease string
	tags                        []types.Tag
	longest                     time.Duration // of a role's sessions
	tomb                        bool
}

func (p *Principals) species(of string) species {
	if of == perRole {
		return roles{p.account}
	}
	return users{p.account}
}

// Paths, which IAM lists by.
func (a *account) livePath() string { return "/daypass/" + a.cfg.Instance + "/live/" }
func (a *account) tombPath() string { return "/daypass/" + a.cfg.Instance + "/ended/" }
func (a *account) markPath() string { return "/daypass/" + a.cfg.Instance + "/mark/" }

// Names of our inline policies.
const (
	policyRights = "rights"
	policyEnd    = "end"
)

// Grant makes a user or role, gives it what the role says, and a credential last.
func (p *Principals) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	c, err := p.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %.40q on %s: %w", g.Lease, p.title(), err)
	}
	return c, nil
}

func (p *Principals) grant(ctx context.Context, g target.Grant) (c target.Credential, err error) {
	rights, err := begin(ctx, g)
	if err == nil && rights.PerLease == "" {
		err = target.NotDone(errors.New("the role is one that exists, for which the target must not have manage: {per_lease: true}"))
	}
	if err != nil {
		return c, err
	}
	kind, name := p.species(rights.PerLease), p.name(g.Lease)
	if err := p.raise(ctx, kind, g, rights); err != nil {
		return c, err
	}
	until := p.cfg.Now().Add(g.TTL).UTC().Truncate(time.Second)
	if err := p.endow(ctx, kind, name, rights, until); err != nil {
		return c, err
	}
	if rights.PerLease == perRole {
		return p.enter(ctx, g, until)
	}
	return p.key(ctx, name, until)
}

// raise makes the principal of a lease, or takes up the one of an earlier grant of the same lease, without its keys.
func (p *Principals) raise(ctx context.Context, kind species, g target.Grant, rights Rights) error {
	name := p.name(g.Lease)
	err := kind.make(ctx, fresh{
		name: name, path: p.livePath(), boundary: rights.PermissionsBoundary, lease: g.Lease, longest: g.TTL,
		tags: []types.Tag{tag(tagLease, g.Lease), tag(tagPrincipal, principalTag(g.Holder))},
	})
	if !exists(err) {
		if err != nil {
			return fmt.Errorf("make %s %s: %w", kind.what(), name, refused(err))
		}
		return nil
	}
	path, err := kind.path(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("look at %s %s: %w", kind.what(), name, err)
	case path == p.tombPath():
		return target.NotDone(errors.New("the lease has ended"))
	case path != p.livePath():
		return target.NotDone(fmt.Errorf("%s %s exists and is not ours", kind.what(), name))
	}
	if err := kind.disarm(ctx, name); err != nil {
		return fmt.Errorf("take the earlier credential of %s %s away: %w", kind.what(), name, err)
	}
	return nil
}

// endow gives a principal its rights, after the end that AWS itself keeps.
func (p *Principals) endow(ctx context.Context, kind species, name string, rights Rights, until time.Time) error {
	end, err := document(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{
		"Effect": "Deny", "Action": "*", "Resource": "*",
		"Condition": map[string]any{"DateGreaterThan": map[string]any{conditionTime: until.Format(time.RFC3339)}},
	}})
	if err == nil {
		err = kind.allow(ctx, name, policyEnd, end)
	}
	if err == nil && rights.Policy != nil {
		var text string
		if text, err = document(rights.Policy); err == nil {
			err = kind.allow(ctx, name, policyRights, text)
		}
	}
	for _, arn := range rights.PolicyARNs {
		if err == nil {
			err = kind.attach(ctx, name, arn)
		}
	}
	if err != nil {
		return fmt.Errorf("give %s %s its rights: %w", kind.what(), name, told(err))
	}
	return nil
}

// conditionTime is what AWS calls its own clock in policies.
const conditionTime = "aws:CurrentTime"

// Revoke deletes what a lease has, and proves that it is gone.
func (p *Principals) Revoke(ctx context.Context, lease string) error {
	if err := p.revoke(ctx, lease); err != nil {
		return fmt.Errorf("revoke lease %.40q on %s: %w", lease, p.title(), err)
	}
	return nil
}

func (p *Principals) revoke(ctx context.Context, lease string) error {
	if err := target.CheckLease(lease); err != nil {
		return err
	}
	held, err := p.cfg.Lease(ctx, lease)
	if err != nil {
		return fmt.Errorf("what was granted: %w", err)
	}
	of := []string{perUser, perRole} // a lease that the store does not know may have either
	if held.Rights != nil {
		rights, err := readRights(held.Rights)
		if err != nil {
			return err
		}
		of = []string{rights.PerLease}
	}
	changed := false
	for _, one := range of {
		did, err := p.end(ctx, p.species(one), lease, held.HandedOut)
		if err != nil {
			return err
		}
		changed = changed || did
	}
	if !changed {
		return nil
	}
	if err := pause(ctx, p.cfg.Settings.settle()); err != nil {
		return fmt.Errorf("wait until AWS knows of the deletion: %w", err)
	}
	return nil
}

// end takes the principal of a lease away and reports whether anything of it could work. Unless its grant is known to have
// ended, it leaves a tomb.
func (p *Principals) end(ctx context.Context, kind species, lease string, ended bool) (bool, error) {
	name := p.name(lease)
	path, err := kind.path(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look for %s %s: %w", kind.what(), name, err)
	}
	changed := path == p.livePath()
	if path == p.tombPath() && !ended {
		return false, p.shut(ctx, kind, name)
	}
	if path != "" && !changed && path != p.tombPath() {
		return false, fmt.Errorf("%s %s is at %s, where we make none", kind.what(), name, path)
	}
	// Also where none was seen: IAM may not show yet what it has made.
	if err := kind.destroy(ctx, name); err != nil {
		return false, fmt.Errorf("delete %s %s: %w", kind.what(), name, err)
	}
	if !ended {
		return changed, p.bury(ctx, kind, lease)
	}
	return changed, p.eventually(ctx, func() (bool, error) {
		path, err := kind.path(ctx, name)
		return path == "", err
	})
}

// bury makes the tomb of a lease.
func (p *Principals) bury(ctx context.Context, kind species, lease string) error {
	name := p.name(lease)
	err := kind.make(ctx, fresh{name: name, path: p.tombPath(), lease: lease, tomb: true, longest: shortest, tags: []types.Tag{tag(tagLease, lease)}})
	if exists(err) {
		return fmt.Errorf("%s %s has just been made by a late grant: revoke again", kind.what(), name)
	}
	if err != nil {
		return fmt.Errorf("make the tomb of %s %s: %w", kind.what(), name, told(err))
	}
	return p.shut(ctx, kind, name)
}

// shut sees to it that a tomb may do nothing, whatever a late grant has put into it, and holds no key.
func (p *Principals) shut(ctx context.Context, kind species, name string) error {
	nothing, err := document(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{"Effect": "Deny", "Action": "*", "Resource": "*"}})
	if err == nil {
		err = kind.allow(ctx, name, "nothing", nothing)
	}
	if err == nil {
		err = kind.disarm(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("shut the tomb of %s %s: %w", kind.what(), name, told(err))
	}
	return nil
}

func tag(name, value string) types.Tag { return types.Tag{Key: &name, Value: &value} }
