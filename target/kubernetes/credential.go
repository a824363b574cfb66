package kubernetes

import (
	"cmp"
	"encoding/json"
	"errors"
	"time"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// credential is what a workload gets: the token and where it counts, and the same once more as a kubeconfig.
func (k *Kubernetes) credential(r record, token kube.Token) (target.Credential, error) {
	server := cmp.Or(k.cfg.Client.URL, k.cfg.Settings.Address())
	ca := cmp.Or(k.cfg.ClientCA, k.cfg.CA)
	namespace, account := r.rights.home(), k.names.of(r.lease)
	if r.rights.ServiceAccount != nil {
		account = r.rights.ServiceAccount.Name
	}
	if all := r.rights.bindings(); len(all) > 0 && all[0].namespace != "" {
		namespace = all[0].namespace // where the work is, rather than where the account is kept
	}
	config, err := kubeconfig(server, ca, namespace, token.Text)
	if err != nil {
		return target.Credential{}, err
	}
	return target.Credential{
		Type: Kind,
		Attributes: map[string]any{
			"server": server, "ca": ca, "namespace": namespace,
			"username":   "system:serviceaccount:" + r.rights.home() + ":" + account,
			"record":     k.names.of(r.lease),
			"expires_at": token.ExpiresAt.UTC().Format(time.RFC3339),
		},
		Secrets:    map[string]secret.Text{"token": token.Text, "kubeconfig": config},
		Revocation: target.Instant,
	}, nil
}

// kubeconfig is the file that Kubernetes clients read, as JSON, which is YAML as well.
func kubeconfig(server, ca, namespace string, token secret.Text) (secret.Text, error) {
	const name = "daypass"
	cluster := map[string]any{"server": server}
	if ca != "" {
		cluster["certificate-authority-data"] = []byte(ca)
	}
	text, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": cluster}},
		"users":    []any{map[string]any{"name": name, "user": map[string]any{"token": token.Reveal()}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name, "namespace": namespace}}},
	}, "", "  ")
	if err != nil {
		return secret.Text{}, errors.New("the kubeconfig has no JSON form") // the cause may quote the token
	}
	return secret.New(string(text) + "\n"), nil
}
