package gcptest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// policy is an allow policy.
type policy struct {
	generation int
	bindings   []map[string]any
	gone       []unbound // what settles
}

// unbound is a binding that was taken away.
type unbound struct {
	binding map[string]any
	at      time.Time
}

func (c *Cloud) policy(on string) *policy {
	if c.policies[on] == nil {
		c.policies[on] = &policy{generation: 1}
	}
	return c.policies[on]
}

func (p *policy) etag() string { return fmt.Sprintf("BwX%08d=", p.generation) }

// gives reports whether a policy gives a permission to a member now.
func (p *policy) gives(c *Cloud, member, permission string, modified []string) bool {
	all := slices.Clone(p.bindings)
	for _, u := range p.gone {
		if c.cfg.Now().Before(u.at.Add(c.settle)) {
			all = append(all, u.binding)
		}
	}
	for _, b := range all {
		role, _ := b["role"].(string)
		members, _ := b["members"].([]any)
		if slices.Contains(c.roles[role], permission) && slices.Contains(members, any(member)) && c.holds(b["condition"], modified) {
			return true
		}
	}
	return false
}

var (
	untilForm = regexp.MustCompile(`^request\.time < timestamp\("([^"]+)"\)$`)
	onlyForm  = regexp.MustCompile(`^api\.getAttribute\('iam\.googleapis\.com/modifiedGrantsByRole', \[\]\)\.hasOnly\(\[(.*)\]\)$`)
)

// holds evaluates the two conditions that this knows. No other holds.
func (c *Cloud) holds(condition any, modified []string) bool {
	if condition == nil {
		return true
	}
	parts, _ := condition.(map[string]any)
	text, _ := parts["expression"].(string)
	if found := untilForm.FindStringSubmatch(text); found != nil {
		until, err := time.Parse(time.RFC3339, found[1])
		return err == nil && c.cfg.Now().Before(until)
	}
	if found := onlyForm.FindStringSubmatch(text); found != nil {
		for _, role := range modified {
			if !strings.Contains(found[1], "'"+role+"'") {
				return false
			}
		}
		return true
	}
	return false
}

// show is a policy as Google shows it: without version 3, none of its conditions.
func (p *policy) show(version string) map[string]any {
	bindings := []any{}
	for _, b := range p.bindings {
		shown := map[string]any{"role": b["role"], "members": slices.Clone(b["members"].([]any))}
		if b["condition"] != nil && version == "3" {
			shown["condition"] = b["condition"]
		}
		bindings = append(bindings, shown)
	}
	return map[string]any{"version": 3, "etag": p.etag(), "bindings": bindings}
}

// parse reads the bindings of a policy that is to be written.
func (c *Cloud) parse(written map[string]any) ([]map[string]any, error) {
	if written["version"] != float64(3) {
		return nil, invalid("Specified policy version is not 3, and the policy has conditions.")
	}
	var bindings []map[string]any
	all, _ := written["bindings"].([]any)
	for _, one := range all {
		b, _ := one.(map[string]any)
		members, _ := b["members"].([]any)
		role, _ := b["role"].(string)
		if c.roles[role] == nil || len(members) == 0 {
			return nil, invalid("Role " + role + " is not supported for this resource, or has no members.")
		}
		for _, m := range members {
			text, _ := m.(string)
			if email, ok := strings.CutPrefix(text, "serviceAccount:"); ok {
				if a := c.accounts[email]; a == nil || hide(&a.hidden) {
					return nil, invalid("Service account " + email + " does not exist.")
				}
			}
		}
		bindings = append(bindings, b)
	}
	return bindings, nil
}

// set replaces a policy.
func (c *Cloud) set(r *http.Request, permission, on string, written map[string]any, stale error) (any, error) {
	p := c.policy(on)
	bindings, err := c.parse(written)
	if err != nil {
		return nil, err
	}
	if _, err := c.may(r, permission, modified(p.bindings, bindings), on); err != nil {
		return nil, err
	}
	if written["etag"] != p.etag() {
		return nil, stale
	}
	for _, b := range p.bindings {
		if !slices.ContainsFunc(bindings, func(now map[string]any) bool { return fmt.Sprint(now) == fmt.Sprint(b) }) {
			p.gone = append(p.gone, unbound{b, c.cfg.Now()})
		}
	}
	p.bindings = bindings
	p.generation++
	return p.show("3"), nil
}

// modified are the roles whose bindings differ.
func modified(before, after []map[string]any) (roles []string) {
	count := map[string]int{}
	for _, b := range before {
		count[fmt.Sprint(b)]++
	}
	for _, b := range after {
		count[fmt.Sprint(b)]--
	}
	for _, b := range append(slices.Clone(before), after...) {
		if role, _ := b["role"].(string); count[fmt.Sprint(b)] != 0 && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles
}
