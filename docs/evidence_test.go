package docs_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
)

// ownFiles begins the access files of a page that has them.
const ownFiles = "```yaml\nkind: Issuer"

func TestTheHowTosOfEvidenceAreRight(t *testing.T) {
	for _, name := range []string{"aws", "spiffe", "mutual-tls", "devices"} {
		page, err := os.ReadFile("howto/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{"role.yaml": "kind: Target\nname: orders-db\npostgres: {url: \"postgres://daypass@db.example.com/orders?sslmode=verify-full\", password: {file: orders-db}}\n" +
			"---\nkind: Role\nname: orders-readonly\ntarget: orders-db\npostgres: {in_role: [readers]}\n"}
		for i, block := range fencedFile.FindAllStringSubmatch(string(page), -1) {
			switch kind, text := block[1], block[2]; {
			case kind == "cedar":
				files[fmt.Sprintf("p%d.cedar", i)] = text
			case strings.HasPrefix(text, "kind: "):
				files[fmt.Sprintf("a%d.yaml", i)] = text
			}
		}
		if len(files) < 3 {
			t.Errorf("%s shows no access files", name)
		}
		if _, err := inspection.Check(files, inspection.Server{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found, err := inspection.Lint(files)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Strict() {
				t.Errorf("%s: %s: %s: %s", name, f.Place, f.Rule, f.Why)
			}
		}
	}
}
