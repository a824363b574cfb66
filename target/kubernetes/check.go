package kubernetes

import (
	"context"
	"fmt"
	"slices"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/target"
)

// howto says what to apply.
const howto = "docs/howto/kubernetes.md has the rules to apply"

// need is something that the administrator's account must be able to do, or must not.
type need struct {
	access   kube.Access
	severity target.Severity
	message  string
}

// Check tells what the administrator's account lacks and what it has too much of.
func (k *Kubernetes) Check(ctx context.Context) ([]target.Finding, error) {
	var found []target.Finding
	ask := func(needs []need, bad bool, fix string) error {
		for _, n := range needs {
			may, err := k.api.May(ctx, n.access)
			if err != nil {
				return err
			}
			if may == bad {
				found = append(found, target.Finding{Severity: n.severity, Message: n.message, Fix: fix})
			}
		}
		return nil
	}
	err := ask(k.lacks(), false, howto)
	if err == nil {
		err = ask(k.excess(), true, "give Daypass no more than "+howto)
	}
	if err == nil && !slices.ContainsFunc(found, func(f target.Finding) bool { return f.Severity == target.Problem }) {
		err = k.Meet(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", k.title(), err)
	}
	return found, nil
}

// lacks are what nothing works without, and what accounts of leases need.
func (k *Kubernetes) lacks() []need {
	var all []need
	want := func(severity target.Severity, why, namespace, group, resource, subresource string, verbs ...string) {
		for _, verb := range verbs {
			what := resource
			if subresource != "" {
				what += "/" + subresource
			}
			all = append(all, need{
				kube.Access{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource}, severity,
				fmt.Sprintf("the administrator's account may not %s %s in namespace %s%s", verb, what, namespace, why),
			})
		}
	}
	want(target.Problem, "", k.space(), "coordination.k8s.io", "leases", "", "create", "get", "list", "update", "delete")
	for _, namespace := range k.cfg.Settings.Namespaces {
		want(target.Problem, "", namespace, "", "secrets", "", "create", "delete")
		const some = ": roles with accounts per lease will not work there"
		want(target.Note, some, namespace, "", "serviceaccounts", "", "create", "delete")
		want(target.Note, some, namespace, "rbac.authorization.k8s.io", "rolebindings", "", "create", "delete")
	}
	return all
}

// excess is what makes the administrator's account worth stealing.
func (k *Kubernetes) excess() []need {
	all := []need{
		{kube.Access{Verb: "*", Group: "*", Resource: "*"}, target.Warning, "the administrator's account may do everything in the cluster"},
		{kube.Access{Verb: "impersonate", Resource: "users"}, target.Warning, "the administrator's account may act as any user"},
		{kube.Access{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, target.Warning, "the administrator's account may write roles with rights that it lacks"},
		{kube.Access{Verb: "bind", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, target.Warning, "the administrator's account may bind every cluster role, cluster-admin among them; name those that roles need"},
	}
	for _, namespace := range k.cfg.Settings.Namespaces {
		all = append(all,
			need{kube.Access{Namespace: namespace, Verb: "get", Resource: "secrets"}, target.Warning, "the administrator's account may read the secrets in namespace " + namespace},
			need{kube.Access{Namespace: namespace, Verb: "list", Resource: "secrets"}, target.Warning, "the administrator's account may list, and so read, the secrets in namespace " + namespace})
	}
	return all
}
