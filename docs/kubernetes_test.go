package docs_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
)

func TestReferenceOfKubernetes(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Kubernetes\n\n" + generated)
	page.WriteString("The sections `kubernetes` of [issuers, targets and roles](access-files.md). [How to use them](../howto/kubernetes.md).\n\n" +
		"A credential of this type has `token` and `kubeconfig`, which are secret, and `server`, `ca`, `namespace`, `username`, `expires_at` and `record`, the name of\n" +
		"the lease's record in the cluster. A token lives as long as the lease was given, ten minutes at least, and is not renewed: acquire another.\n")
	issuer := structs(t, "../internal/kind/issuer_kubernetes.go")
	target := structs(t, "../target/kubernetes/settings.go")
	maps.Copy(target, structs(t, "../target/kubernetes/rights.go"))
	for _, part := range []struct {
		title, path, typeName string
		sections              map[string][]field
	}{
		{"Issuer", "kubernetes.", "KubernetesIssuer", issuer}, {"The connection of an issuer", "kubernetes.api.", "KubernetesAPI", issuer},
		{"Target", "kubernetes.", "Settings", target}, {"Client", "client.", "Client", target}, {"Role", "kubernetes.", "Rights", target},
		{"An account that exists", "kubernetes.service_account.", "ServiceAccount", target},
		{"An account per lease", "kubernetes.per_lease.", "PerLease", target}, {"Bindings", "kubernetes.per_lease.bind[].", "Bind", target},
	} {
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Means |\n|---|---|\n", part.title)
		for _, f := range part.sections[part.typeName] {
			name := f.name
			if f.typeName == "File" || f.typeName == "FileName" {
				name += ".file"
			}
			fmt.Fprintf(&page, "| `%s%s` | %s |\n", part.path, name, f.text)
		}
	}
	compare(t, "reference/kubernetes.md", page.String())
}

func TestTheHowToOfKubernetesIsRight(t *testing.T) {
	page, err := os.ReadFile("howto/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"role.yaml": "kind: Role\nname: orders-readonly\ntarget: cluster\nkubernetes: {service_account: {namespace: orders, name: robot}}\n"}
	for i, block := range fencedFile.FindAllStringSubmatch(string(page), -1) {
		switch kind, text := block[1], block[2]; {
		case kind == "cedar":
			files[fmt.Sprintf("p%d.cedar", i)] = text
		case strings.HasPrefix(text, "kind: "):
			files[fmt.Sprintf("a%d.yaml", i)] = text
		}
	}
	if len(files) < 4 {
		t.Error("it shows no access files")
	}
	if _, err := inspection.Check(files, inspection.Server{}); err != nil {
		t.Error(err)
	}
	found, err := inspection.Lint(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("%s: %s: %s", f.Place, f.Rule, f.Why)
	}
}
