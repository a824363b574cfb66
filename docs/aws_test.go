package docs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
)

func TestReferenceOfAWS(t *testing.T) {
	var page strings.Builder
	page.WriteString("# AWS\n\n" + generated)
	page.WriteString("The sections `aws` of [targets and roles](access-files.md). [How to use them](../howto/aws-target.md). **Not verified against the real AWS.**\n\n" +
		"A credential of this type has `secret_access_key` and, of a session, `session_token`, which are secret, and `access_key_id`, `region`, `principal` (the ARN of the\n" +
		"session or user), `expires_at` and, where the target says one, `endpoint`. It is not renewed: acquire another. Its revocation is `bounded` for sessions, `assisted`\n" +
		"where the target has `manage`, and `instant` for users and roles per lease.\n")
	sections := structs(t, "../target/aws/settings.go")
	maps.Copy(sections, structs(t, "../target/aws/rights.go"))
	for _, part := range []struct{ title, path, typeName string }{
		{"Target", "aws.", "Settings"}, {"The role that manages", "aws.manage.", "Manage"}, {"Client", "client.", "Client"}, {"Role", "aws.", "Rights"},
	} {
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Means |\n|---|---|\n", part.title)
		for _, f := range sections[part.typeName] {
			fmt.Fprintf(&page, "| `%s%s` | %s |\n", part.path, f.name, f.text)
		}
	}
	compare(t, "reference/aws.md", page.String())
}

func TestTheHowToOfAWSIsRight(t *testing.T) {
	page, err := os.ReadFile("howto/aws-target.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for i, block := range fencedFile.FindAllStringSubmatch(string(page), -1) {
		if kind, text := block[1], block[2]; kind == "yaml" && strings.HasPrefix(text, "kind: ") {
			files[fmt.Sprintf("a%d.yaml", i)] = text
		}
	}
	if len(files) != 4 {
		t.Errorf("it shows %d access files, want 4", len(files))
	}
	if _, err := inspection.Check(files, inspection.Server{}); err != nil {
		t.Error(err)
	}
	for _, role := range []string{"read-orders", "backup"} {
		if f, err := inspection.FederationOf(files, role, "https://daypass.example.com", "RS256"); err != nil || f.Audience != "sts.amazonaws.com" {
			t.Errorf("what AWS has to trust for %s: %+v, %v", role, f, err)
		}
	}
	policies := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for _, policy := range policies {
		if !json.Valid([]byte(policy[1])) {
			t.Errorf("it shows a policy that is not JSON: %.60s", policy[1])
		}
	}
	if len(policies) != 2 {
		t.Errorf("it shows %d policies, want 2", len(policies))
	}
}
