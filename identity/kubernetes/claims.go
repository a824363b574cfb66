package kubernetes

import (
	"fmt"
	"maps"

	"github.com/daypass/daypass/identity"
)

// nested is the claim that holds all that Kubernetes says.
const nested = "kubernetes.io"

// workload is what the nested claim says.
type workload struct {
	namespace           string
	account, accountUID string
	pod, podUID         string // empty for tokens of no pod
	node, nodeUID       string // empty where the pod has none, and before Kubernetes 1.32
	credential          string
}

// read holds the claim to its form, and to the subject. Tokens that live for ever, which clusters made before 1.24, lack
// it.
func read(p identity.Principal) (workload, error) {
	var w workload
	all, ok := p.Claims[nested].(map[string]any)
	if !ok {
		return w, rejected("it has no claim %s", nested)
	}
	for _, name := range names() {
		if _, taken := p.Claims[name]; taken {
			return w, rejected("it has a claim %q, which Kubernetes writes in no token", name)
		}
	}
	if w.namespace, ok = all["namespace"].(string); !ok || w.namespace == "" {
		return w, rejected("%w", errForm)
	}
	for member, into := range map[string][2]*string{
		"serviceaccount": {&w.account, &w.accountUID}, "pod": {&w.pod, &w.podUID}, "node": {&w.node, &w.nodeUID},
	} {
		if err := reference(all[member], into); err != nil {
			return w, err
		}
	}
	if w.account == "" || w.accountUID == "" || w.pod != "" && w.podUID == "" {
		return w, rejected("%w", errForm)
	}
	if want := fmt.Sprintf("system:serviceaccount:%s:%s", w.namespace, w.account); p.Subject != want {
		return w, rejected("its subject is not that of the account in its claim %s", nested)
	}
	w.credential = p.TokenID
	return w, nil
}

// reference reads a name and a UID.
func reference(value any, into [2]*string) error {
	if value == nil {
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return rejected("%w", errForm)
	}
	for i, member := range []string{"name", "uid"} {
		text, present := object[member]
		if *into[i], ok = text.(string); !ok && present {
			return rejected("%w", errForm)
		}
	}
	return nil
}

// names are those of the claims that policies see.
func names() []string {
	return []string{"namespace", "service_account", "service_account_uid", "pod", "pod_uid", "node", "node_uid", "credential_id"}
}

// claims returns the token's claims with what the nested one says at the top.
func (w workload) claims(all map[string]any) map[string]any {
	flat := maps.Clone(all)
	values := []string{w.namespace, w.account, w.accountUID, w.pod, w.podUID, w.node, w.nodeUID, w.credential}
	for i, name := range names() {
		if values[i] != "" {
			flat[name] = values[i]
		}
	}
	return flat
}
