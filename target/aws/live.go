package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/daypass/daypass/target"
)

// errStop ends a listing early.
var errStop = errors.New("enough")

// Leases lists the leases that have a user or role.
func (p *Principals) Leases(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, kind := range []species{users{p.account}, roles{p.account}} {
			err := kind.list(ctx, p.livePath(), func(name, _ string, _ time.Time) error {
				lease, ours := p.lease(name)
				if ours && !yield(lease, nil) {
					return errStop
				}
				return nil
			})
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield("", fmt.Errorf("list the leases on %s: %ss: %w", p.title(), kind.what(), err))
				return
			}
		}
	}
}

// Expiry returns when AWS itself ends what a lease has; zero where it has nothing.
func (p *Principals) Expiry(ctx context.Context, lease string) (until time.Time, err error) {
	if err = target.CheckLease(lease); err != nil {
		return until, err
	}
	for _, kind := range []species{users{p.account}, roles{p.account}} {
		text, err := kind.document(ctx, p.name(lease), policyEnd)
		if err != nil {
			return until, fmt.Errorf("read the expiry of lease %s on %s: %w", lease, p.title(), err)
		}
		if text == "" {
			continue
		}
		var policy struct {
			Statement struct {
				Condition map[string]map[string]time.Time
			}
		}
		if err := json.Unmarshal([]byte(text), &policy); err != nil {
			return until, fmt.Errorf("read the expiry of lease %s on %s: policy %s is not as we write it", lease, p.title(), policyEnd)
		}
		if at := policy.Statement.Condition["DateGreaterThan"][conditionTime]; at.After(until) {
			until = at.UTC()
		}
	}
	return until, nil
}

// keepTombs is how long a tomb stays. AWS refuses what was signed more than five minutes before it arrives.
const keepTombs = time.Hour

// Clean takes old tombs away.
func (p *Principals) Clean(ctx context.Context) (target.Residue, error) {
	for _, kind := range []species{users{p.account}, roles{p.account}} {
		var old []string
		err := kind.list(ctx, p.tombPath(), func(name, _ string, made time.Time) error {
			if p.cfg.Now().Sub(made) > keepTombs {
				old = append(old, name)
			}
			return nil
		})
		for _, name := range old {
			if err == nil {
				err = kind.destroy(ctx, name)
			}
		}
		if err != nil {
			return target.Residue{}, fmt.Errorf("clean %s: %ss: %w", p.title(), kind.what(), err)
		}
	}
	return target.Residue{}, nil
}
