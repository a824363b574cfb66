//go:build unix

package agent_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
)

// inside returns the environment that the command of a run gets.
func (d *desk) inside(t *testing.T, env []string, roles ...string) []string {
	t.Helper()
	code, out, _, err := d.run(t, roles, func(r *agent.Run) { r.Env = env }, "env", "-0")
	if code != 0 || err != nil {
		t.Fatalf("got %d, %v", code, err)
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
}

// nested runs a command inside env, says whether it got on without a lease of its own, and what was told.
func (d *desk) nested(t *testing.T, env []string, role string, change func(*agent.Run)) (shared bool, out, told string) {
	t.Helper()
	given, released := d.given, len(d.released)
	code, out, told, err := d.run(t, []string{role}, func(r *agent.Run) {
		r.Env = env
		if change != nil {
			change(r)
		}
	}, "/bin/sh", "-c", "echo $PGUSER $PGPASSWORD [$PGHOSTADDR] $"+agent.LeasesVariable)
	if code != 0 || err != nil {
		t.Fatalf("got %d, %v", code, err)
	}
	if d.given-given != len(d.released)-released {
		t.Errorf("%d leases were given and %d released", d.given-given, len(d.released)-released)
	}
	return d.given == given, out, told
}

func set(env []string, name, value string) []string { return append(slices.Clone(env), name+"="+value) }

// valueOf returns a variable of an environment.
func valueOf(env []string, name string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

func TestARunInsideUsesTheLeaseOfTheRunOutside(t *testing.T) {
	d := newDesk(t)
	d.shares = true
	env := d.inside(t, nil, "orders")
	offers := valueOf(env, agent.LeasesVariable)
	if !strings.Contains(offers, `"role":"orders","lease":"lease1"`) || strings.Contains(offers, "canary") {
		t.Fatalf("offered is %s", offers)
	}
	shared, out, told := d.nested(t, set(env, "PGHOSTADDR", "10.6.6.6"), "orders", nil)
	if !shared || out != "u canary [] "+offers+"\n" || !strings.Contains(told, "lease1 of role \"orders\" is shared with the run outside") || strings.Contains(told, "released") {
		t.Errorf("shared %v, got %s, told %s", shared, out, told)
	}
}

func TestALeaseIsSharedUnderAnotherPrefixToo(t *testing.T) {
	d := newDesk(t)
	d.shares = true
	if shared, out, _ := d.nested(t, d.inside(t, nil, "REPORTS=orders"), "orders", nil); !shared || !strings.HasPrefix(out, "u canary []") {
		t.Errorf("shared %v, got %s", shared, out)
	}
	env := d.inside(t, d.inside(t, nil, "orders"), "OTHER=reports")
	if shared, _, _ := d.nested(t, env, "orders", nil); !shared {
		t.Error("what the outermost run holds is not passed on by the one between")
	}
}

func TestWithoutTheRolesWordEachRunHasALeaseOfItsOwn(t *testing.T) {
	d := newDesk(t)
	env := d.inside(t, nil, "orders")
	if offers := valueOf(env, agent.LeasesVariable); offers != "" {
		t.Errorf("offered is %s", offers)
	}
	if shared, _, _ := d.nested(t, env, "orders", nil); shared {
		t.Error("a lease is shared that its role does not share")
	}
	d.shares = true
	env = d.inside(t, nil, "orders")
	d.shares = false
	if shared, _, told := d.nested(t, env, "orders", nil); shared || !strings.Contains(told, "does not say so") {
		t.Errorf("a lease is shared that its role does not share any more: %s", told)
	}
}

func TestALeaseThatDoesNotFitIsNotShared(t *testing.T) {
	d := newDesk(t)
	d.shares = true
	env, reports := d.inside(t, nil, "orders"), d.inside(t, nil, "reports")
	ttl := api.Duration(1e9)
	for name, c := range map[string]struct {
		env    []string
		change func(*agent.Run)
		told   string
	}{
		"another role":                {reports, nil, ""},
		"a lease of another role":     {set(reports, agent.LeasesVariable, strings.ReplaceAll(valueOf(reports, agent.LeasesVariable), "reports", "orders")), nil, "does not say so"},
		"another server":              {set(env, agent.LeasesVariable, strings.ReplaceAll(valueOf(env, agent.LeasesVariable), "127.0.0.1", "localhost")), nil, ""},
		"a changed database":          {set(env, "PGDATABASE", "elsewhere"), nil, "its variables have changed"},
		"a variable that is gone":     {slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, "PGPORT=") }), nil, "its variables have changed"},
		"no JSON":                     {set(env, agent.LeasesVariable, "{"), nil, "cannot be read"},
		"JSON of another kind":        {set(env, agent.LeasesVariable, `{"role":"orders"}`), nil, "cannot be read"},
		"an offer of no variables":    {set(env, agent.LeasesVariable, `[{"server":"`+d.URL+`","role":"orders","lease":"lease1","digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]`), nil, "its variables have changed"},
		"a run with its own ttl":      {env, func(r *agent.Run) { r.TTL = &ttl }, ""},
		"a run with its own reason":   {env, func(r *agent.Run) { r.Reason = "release 42" }, ""},
		"a run that keeps receipts":   {env, func(r *agent.Run) { r.Acquired = func(*client.Lease) error { return nil } }, ""},
		"a lease that is not ours":    {env, func(*agent.Run) { d.refusal = http.StatusNotFound }, "is not shared: read lease lease1: no"},
		"a lease that was locked":     {env, func(*agent.Run) { d.refusal, d.ends = 0, true }, "it has ended: locked"},
		"evidence that is not enough": {env, func(*agent.Run) { d.refusal = http.StatusUnauthorized }, "is not shared"},
	} {
		t.Run(name, func(t *testing.T) {
			d.refusal, d.ends = 0, false
			change := c.change
			shared, _, told := d.nested(t, c.env, "orders", func(r *agent.Run) {
				r.OnLoss = agent.Warn // the desk locks the new lease as well
				if change != nil {
					change(r)
				}
			})
			if shared || !strings.Contains(told, c.told) {
				t.Errorf("shared %v, told %s", shared, told)
			}
		})
	}
}

func TestAServerThatCannotTellLeavesTheCredentialInUse(t *testing.T) {
	d := newDesk(t)
	d.shares = true
	env := d.inside(t, nil, "orders")
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		d.refusal = status
		if shared, _, told := d.nested(t, env, "orders", nil); !shared || !strings.Contains(told, "unchecked") {
			t.Errorf("%d: shared %v, told %s", status, shared, told)
		}
	}
	d.Close()
	if shared, _, told := d.nested(t, env, "orders", nil); !shared || !strings.Contains(told, "unchecked: read lease lease1: no answer") {
		t.Errorf("shared %v, told %s", shared, told)
	}
}
