package docs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/trust"
)

func TestReferenceOfPresets(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Presets\n\n" + generated)
	page.WriteString("`preset:` of an [issuer](access-files.md) says what a platform's tokens carry, so that nobody has to declare it. What it says is what the\n" +
		"platform's vendor documents; each section links there. An issuer may declare more `claims` than its preset has. Names of nested claims are\n" +
		"the keys that lead to them, joined by dots, and a dot is a character like any other: `principal.claims[\"google.compute_engine.zone\"]`.\n" +
		"`*` stands for any key, for claims that the issuer declares.\n\n" +
		"What a policy can rest on is for the claim's **nature** to say:\n\n| Nature | |\n|---|---|\n")
	natures := constComments(t, "../internal/access/preset.go", "Nature")
	for _, nature := range []access.Nature{access.Fixed, access.Mutable, access.OfRun, access.State, access.Chosen} {
		fmt.Fprintf(&page, "| %s | %s |\n", nature, natures[string(nature)])
	}
	page.WriteString("\nCompare an immutable claim beside each mutable one: `repository_id` beside `repository`. [`daypass check`](lint.md) finds where that is missing.\n\n" +
		"| Preset | Platform | Principals |\n|---|---|---|\n")
	for _, p := range access.Presets() {
		fmt.Fprintf(&page, "| [`%s`](#%s) | %s | `%s` |\n", p.Name, p.Name, p.Title, p.Type)
	}
	for _, p := range access.Presets() {
		presetSection(&page, p)
	}
	compare(t, "reference/presets.md", page.String())
}

// presetSection writes what is known of one preset.
func presetSection(page *strings.Builder, p access.Preset) {
	fmt.Fprintf(page, "\n## %s\n\n%s: [the vendor's page](%s).\n\n", p.Name, p.Title, p.Docs)
	if p.Kind != "" {
		fmt.Fprintf(page, "- Issuers of kind `%s` have this vocabulary by themselves.\n", p.Kind)
	}
	for _, form := range p.Forms {
		fmt.Fprintf(page, "- Issuer: `%s`\n", form.Like)
	}
	if p.Kind == "" {
		whose := "tokens can be for this server: " + p.Audience.How
		if !p.Audience.Ours {
			whose = "`audience` has to be given: " + p.Audience.How
		}
		fmt.Fprintf(page, "- Audience: %s by itself; %s\n", p.Audience.Usual, whose)
	}
	if len(p.Algorithms) > 0 {
		fmt.Fprintf(page, "- Signed with %s\n", strings.Join(p.Algorithms, " or "))
	}
	if p.Age > 0 {
		fmt.Fprintf(page, "- Tokens live %s unless somebody changes that\n", lives(p.Age))
	}
	if len(p.Shared) > 0 {
		page.WriteString("- **Signs for everybody**: a policy has to hold to one customer of the platform\n")
	}
	if p.Subject != "" {
		fmt.Fprintf(page, "- Subject: `%s`\n", strings.NewReplacer("<", "‹", ">", "›").Replace(p.Subject))
	}
	if p.Pull.Can != "" {
		fmt.Fprintf(page, "- Proposed changes: %s. Add `%s`\n", p.Pull.Can, p.Pull.Guard)
	}
	if len(p.Run) > 0 {
		fmt.Fprintf(page, "- The run is named by `%s`\n", strings.Join(p.Run, "`, `"))
	}
	for _, path := range p.Flatten {
		if strings.Contains(strings.Join(path, "."), "*") {
			fmt.Fprintf(page, "- For an issuer to declare: `%s`\n", strings.Join(path, "."))
		}
	}
	if len(p.Known) == 0 {
		return
	}
	page.WriteString("\n| Claim | Type | Nature | Means |\n|---|---|---|---|\n")
	for _, c := range p.Known {
		kind := string(c.Kind)
		if c.Optional {
			kind += "?"
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", c.Name, kind, c.Nature, c.Remark())
	}
}

func lives(d time.Duration) string { return api.Duration(d).String() }

func TestReferenceOfRulesOfTrust(t *testing.T) {
	var page strings.Builder
	page.WriteString("# What `daypass check` looks for\n\n" + generated)
	page.WriteString("Access files without mistakes can still trust more than their author meant. `daypass check` and `daypass apply` say where, why it matters\n" +
		"and what to write; nothing is refused for it. `daypass check --strict` exits with 9 on warnings and problems. [How to use it](../howto/lint.md).\n\n" +
		"| Severity | |\n|---|---|\n")
	severities := constComments(t, "../internal/trust/trust.go", "Severity")
	for _, severity := range []trust.Severity{trust.Note, trust.Warning, trust.Problem} {
		fmt.Fprintf(&page, "| %s | %s |\n", severity, severities[string(severity)])
	}
	page.WriteString("\n| Rule | At worst | Finds | Why |\n|---|---|---|---|\n")
	for _, r := range trust.Rules() {
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", r.Name, r.Severity, r.Looks, r.Why)
	}
	page.WriteString("\n## What it cannot see\n\n" +
		"- Conditions are read as alternatives of comparisons: `==`, `!=`, `like` and `contains` of a claim, the subject or the issuer's name with texts, numbers\n" +
		"  or the role's labels, joined by `&&`, `||`, `!` and `if`. Any other condition on the principal counts for none, and the finding says so.\n" +
		"- Conditions on the context (hour, address, country, posture) narrow a permit, but say nothing of whom it trusts: they count for none.\n" +
		"- A `forbid` on everything narrows every permit. One on some roles, targets or principals counts for none.\n" +
		"- Issuers on plain http are no finding but a mistake; loopback addresses alone may be that.\n" +
		"- Whether a branch is protected, who may push to it and who may change a workflow is for the platform to say.\n" +
		"- What claims mean that an issuer declares itself, its author knows: one comparison is enough.\n")
	compare(t, "reference/lint.md", page.String())
}

var fencedFile = regexp.MustCompile("(?ms)^```(cedar|yaml)\n(.*?)^```")

// The pages of how-tos on platforms hold an access file and a policy each. They parse, compile, and trust nobody that
// they need not.
func TestTheHowTosOfPlatformsAreRight(t *testing.T) {
	names, err := filepath.Glob("howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, name := range names {
		files := access.Files{}
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range fencedFile.FindAllStringSubmatch(string(page), -1) {
			switch kind, text := block[1], block[2]; {
			case kind == "cedar":
				files[fmt.Sprintf("p%d.cedar", i)] = text
			case strings.HasPrefix(text, "kind: "):
				files[fmt.Sprintf("a%d.yaml", i)] = text
			}
		}
		preset := presetIn(files)
		if preset == "" {
			continue
		}
		tried[preset] = true
		if !strings.Contains(strings.Join(slices.Collect(maps.Values(files)), ""), "kind: Role") {
			files["role.yaml"] = "kind: Target\nname: orders-db\npostgres: {url: \"postgres://daypass@db.example.com/orders?sslmode=verify-full\", password: {file: orders-db}}\n" +
				"---\nkind: Role\nname: orders-readonly\ntarget: orders-db\npostgres: {in_role: [readers]}\n"
		}
		if _, err := inspection.Check(files, inspection.Server{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
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
	for _, want := range []string{"github-actions", "gitlab", "circleci", "buildkite", "azure-devops", "terraform-cloud", "google", "entra"} {
		if !tried[want] {
			t.Errorf("no how-to shows preset %s", want)
		}
	}
}

func presetIn(files access.Files) string {
	for _, text := range files {
		for line := range strings.Lines(text) {
			if name, ok := strings.CutPrefix(line, "preset: "); ok {
				return strings.TrimSpace(name)
			}
		}
	}
	return ""
}
