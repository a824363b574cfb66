package trust_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/daypass/daypass/internal/trust"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

func deploy() trust.Federation {
	return trust.Federation{
		Role: "deploy-prod", Issuer: "https://daypass.example.com", Audience: "sts.amazonaws.com", Subject: "role:deploy-prod", Algorithm: "RS256",
		Tags: []string{"lease", "principal"}, SourceIdentity: true,
	}
}

func TestWhatIsRenderedIsWhatWasReviewed(t *testing.T) {
	for _, platform := range trust.Platforms() {
		for _, format := range trust.Formats() {
			got, err := trust.Render(platform, format, deploy())
			if err != nil {
				t.Errorf("%s, %s: %v", platform, format, err)
				continue
			}
			reviewed(t, platform+"."+format, got)
		}
	}
}

// reviewed compares what is rendered with a golden file, and sees that it is of its language.
func reviewed(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "render", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if got != string(want) {
		t.Errorf("not what %s holds:\n%s", file, got)
	}
	if strings.HasSuffix(name, ".terraform") {
		if _, diagnostics := hclsyntax.ParseConfig([]byte(got), name, hcl.InitialPos); diagnostics.HasErrors() {
			t.Errorf("%s: no Terraform: %v", name, diagnostics)
		}
	} else if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", got).CombinedOutput(); err != nil {
		t.Errorf("%s: no shell: %v: %s", name, err, out)
	}
}

// What several roles share stands there once, and no resource has the name of another.
func TestSeveralRolesShareOneProvider(t *testing.T) {
	second := deploy()
	second.Role, second.Subject = "read", "role:read"
	for _, platform := range trust.Platforms() {
		for _, format := range trust.Formats() {
			got, err := trust.Render(platform, format, deploy(), second)
			if err != nil {
				t.Errorf("%s, %s: %v", platform, format, err)
				continue
			}
			reviewed(t, platform+"-two."+format, got)
			if !strings.Contains(got, "role:deploy-prod") || !strings.Contains(got, "role:read") {
				t.Errorf("%s, %s: a subject is missing:\n%s", platform, format, got)
			}
			if format != "terraform" {
				continue
			}
			file, _ := hclsyntax.ParseConfig([]byte(got), platform, hcl.InitialPos)
			seen := map[string]bool{}
			for _, block := range file.Body.(*hclsyntax.Body).Blocks {
				name := block.Type + " " + strings.Join(block.Labels, " ")
				if seen[name] && block.Type != "locals" {
					t.Errorf("%s: %s is there twice", platform, name)
				}
				seen[name] = true
			}
		}
	}
}

// Where a side has one condition for the whole issuer, what is rendered for one role lets the others in that it let in before.
func TestOneRoleDoesNotLockOutAnother(t *testing.T) {
	f := deploy()
	f.Others = []string{"role:read", "role:write"}
	for _, platform := range []string{"gcp", "kubernetes"} {
		for _, format := range trust.Formats() {
			got, err := trust.Render(platform, format, f)
			if err != nil || !strings.Contains(got, "in ['role:deploy-prod', 'role:read', 'role:write']") {
				if !strings.Contains(got, `in ['\''role:deploy-prod'\'', '\''role:read'\'', '\''role:write'\'']`) {
					t.Errorf("%s, %s: %v\n%s", platform, format, err, got)
				}
			}
		}
	}
	f.Others = nil
	for i := range 200 {
		f.Others = append(f.Others, "role:"+strings.Repeat("x", 20)+strconv.Itoa(i))
	}
	if _, err := trust.Render("gcp", "cli", f); err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("a condition that Google does not take: %v", err)
	}
}

func TestRolesThatCannotBeRenderedTogetherAreRefused(t *testing.T) {
	elsewhere, google, other := deploy(), perLease("gcp"), perLease("gcp")
	elsewhere.Role, elsewhere.Issuer = "b", "https://other.example.com"
	other.Role, other.Manager = "b", &trust.Manager{Platform: "gcp", Target: "b", Subject: "daypass:target:b"}
	for name, c := range map[string]struct {
		platform string
		roles    []trust.Federation
	}{
		"none": {"aws", nil}, "one twice": {"aws", []trust.Federation{deploy(), deploy()}}, "two issuers": {"aws", []trust.Federation{deploy(), elsewhere}},
		"two managers": {"gcp", []trust.Federation{google, other}}, "a manager of another cloud": {"vault", []trust.Federation{google}},
	} {
		if text, err := trust.Render(c.platform, "cli", c.roles...); err == nil {
			t.Errorf("%s: rendered\n%s", name, text)
		}
	}
}

// perLease is a role that makes a principal per lease at a cloud.
func perLease(platform string) trust.Federation {
	f := deploy()
	f.Target, f.Subject, f.Tags, f.SourceIdentity = "acme", "daypass:target:acme", nil, false
	f.Manager = &trust.Manager{Platform: "gcp", Target: "acme", Subject: f.Subject, Principal: "daypass-manage@acme-leases.iam.gserviceaccount.com", Home: "acme-leases", Grants: map[string][]string{
		"projects/acme-prod": {"roles/storage.objectViewer", "roles/run.invoker"}, "buckets/artifacts": {"roles/storage.objectUser"},
	}}
	if platform == "azure" {
		const orders = "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/orders"
		f.Manager = &trust.Manager{Platform: "azure", Target: "acme", Subject: f.Subject, Principal: "99999999-8888-7777-6666-555555555555", Grants: map[string][]string{
			orders: {"acdd72a7-3385-48ef-bd42-f606fba81ae7", "b24988ac-6180-42a0-ab88-20f7382dd24c"},
		}}
	}
	return f
}

// What the manager of principals per lease needs is rendered with the role: it may give the role's rights and no others.
func TestTheManagersRightsAreRendered(t *testing.T) {
	for _, platform := range []string{"gcp", "azure"} {
		for _, format := range trust.Formats() {
			got, err := trust.Render(platform, format, perLease(platform))
			if err != nil {
				t.Errorf("%s, %s: %v", platform, format, err)
				continue
			}
			reviewed(t, platform+"-per-lease."+format, got)
		}
	}
}

// hostile are texts that mean something in one of the languages.
func hostile() []string {
	return []string{
		`role:deploy`, `${var.x}`, `%{if true}x%{endif}`, `a"b`, `a'b`, `a\b`, "a`b`", `a$(id)b`, `a;b`, `a"}\n}`, `<<EOF`, `JSON`, `YAML`, `a # b`, `a: b`,
		`{{.Role}}`, `é`, `a\'b`, `$${x}`, `AWS_ACCOUNT_ID`, `::AWS_ACCOUNT_ID:oidc-provider`, `- x`, `"`, `'`, `\`,
	}
}

func TestTextsStayTextsInTerraform(t *testing.T) {
	for _, text := range hostile() {
		for _, platform := range trust.Platforms() {
			f := deploy()
			f.Subject = text
			rendered, err := trust.Render(platform, "terraform", f)
			if platform == "aws" && strings.ContainsAny(text, "*?$") {
				if err == nil {
					t.Errorf("AWS would read %q as something else, and it was rendered", text)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s with %q: %v", platform, text, err)
				continue
			}
			file, diagnostics := hclsyntax.ParseConfig([]byte(rendered), platform+".tf", hcl.InitialPos)
			if diagnostics.HasErrors() {
				t.Errorf("%s with %q: %v in\n%s", platform, text, diagnostics, rendered)
				continue
			}
			if !holds(file.Body.(*hclsyntax.Body), text) {
				t.Errorf("%s: no constant of it is %q, or ends with it:\n%s", platform, text, rendered)
			}
		}
	}
}

// holds reports whether a constant of a body is text, or holds it as a string of CEL or behind a prefix.
func holds(body *hclsyntax.Body, text string) bool {
	found := false
	_ = hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
		expression, ok := node.(hclsyntax.Expression)
		if !ok {
			return nil
		}
		if value, diagnostics := expression.Value(nil); !diagnostics.HasErrors() && value.Type() == cty.String && !value.IsNull() {
			cel := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
			found = found || value.AsString() == text || strings.HasSuffix(value.AsString(), ":"+text) || strings.HasSuffix(value.AsString(), " in ["+cel+"]")
		}
		return nil
	})
	return found
}

var heredoc = regexp.MustCompile(`(?ms)<<'(JSON|YAML)'\n(.*?)^(?:JSON|YAML)\n`)

func TestTextsStayTextsInCommands(t *testing.T) {
	for _, text := range hostile() {
		for _, platform := range trust.Platforms() {
			f := deploy()
			f.Subject = text
			rendered, err := trust.Render(platform, "cli", f)
			if err != nil {
				continue // told apart above
			}
			check := exec.Command("sh", "-n")
			check.Stdin = strings.NewReader(rendered)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s with %q: %v: %s in\n%s", platform, text, err, out, rendered)
			}
			for _, match := range heredoc.FindAllStringSubmatch(rendered, -1) {
				var document any
				var err error
				if match[1] == "JSON" {
					err = json.Unmarshal([]byte(match[2]), &document)
				} else {
					err = yaml.Unmarshal([]byte(match[2]), &document)
				}
				if err != nil || !within(document, text) {
					t.Errorf("%s with %q: %v, or the text is not in it:\n%s", platform, text, err, match[2])
				}
			}
		}
	}
}

// within reports whether a string of a document is text, or has it as a string of CEL.
func within(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return v == text || strings.HasSuffix(v, " in ['"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text)+"']")
	case []any:
		for _, element := range v {
			if within(element, text) {
				return true
			}
		}
	case map[string]any:
		for _, element := range v {
			if within(element, text) {
				return true
			}
		}
	}
	return false
}

// A shell that runs the commands hands the texts to the tools as they are.
func TestTheShellHandsTextsOn(t *testing.T) {
	for _, text := range hostile() {
		f := deploy()
		f.Subject = text
		rendered, err := trust.Render("vault", "cli", f)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		recorder := "#!/bin/sh\nfor a; do printf '%s\\n' \"$a\"; done >> " + filepath.Join(dir, "seen") + "\n"
		if err := os.WriteFile(filepath.Join(dir, "vault"), []byte(recorder), 0o755); err != nil {
			t.Fatal(err)
		}
		command := exec.Command("sh")
		command.Stdin, command.Dir = strings.NewReader(rendered), dir
		command.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "POLICIES_deploy_prod=read"}
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", text, err, out)
		}
		seen, _ := os.ReadFile(filepath.Join(dir, "seen"))
		if !strings.Contains(string(seen), "\nbound_subject="+text+"\n") {
			t.Errorf("%q reached the tool as\n%s", text, seen)
		}
	}
}

func TestTheTrustPolicyNamesEveryConditionAndAction(t *testing.T) {
	rendered, err := trust.Render("aws", "cli", deploy())
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Statement []struct {
			Action    []string
			Principal struct{ Federated string }
			Condition map[string]map[string]any
		}
	}
	if err := json.Unmarshal([]byte(heredoc.FindStringSubmatch(rendered)[2]), &policy); err != nil || len(policy.Statement) != 1 {
		t.Fatal(err, rendered)
	}
	s := policy.Statement[0]
	if got := strings.Join(s.Action, " "); got != "sts:AssumeRoleWithWebIdentity sts:TagSession sts:SetSourceIdentity" {
		t.Errorf("actions %s", got)
	}
	if s.Condition["StringEquals"]["daypass.example.com:sub"] != "role:deploy-prod" || s.Condition["StringEquals"]["daypass.example.com:aud"] != "sts.amazonaws.com" {
		t.Errorf("conditions %v", s.Condition)
	}
	plain := deploy()
	plain.Tags, plain.SourceIdentity = nil, false
	rendered, _ = trust.Render("aws", "cli", plain)
	if strings.Contains(rendered, `"sts:TagSession"`) || strings.Contains(rendered, `"sts:SetSourceIdentity"`) {
		t.Error("actions that no token of the role needs are allowed")
	}
}

func TestWhatThePlatformWouldRefuseIsNotRendered(t *testing.T) {
	for name, c := range map[string]struct {
		platform string
		change   func(*trust.Federation)
	}{
		"plain http":               {"aws", func(f *trust.Federation) { f.Issuer = "http://daypass.example.com" }},
		"a slash at the end":       {"gcp", func(f *trust.Federation) { f.Issuer += "/" }},
		"a query":                  {"gcp", func(f *trust.Federation) { f.Issuer += "?a=b" }},
		"no audience":              {"vault", func(f *trust.Federation) { f.Audience = "" }},
		"no subject":               {"vault", func(f *trust.Federation) { f.Subject = "" }},
		"ES256 for Entra":          {"azure", func(f *trust.Federation) { f.Algorithm = "ES256" }},
		"a long subject at Google": {"gcp", func(f *trust.Federation) { f.Subject = strings.Repeat("s", 128) }},
		"a variable at AWS":        {"aws", func(f *trust.Federation) { f.Subject = "${aws:username}" }},
		"a wildcard at AWS":        {"aws", func(f *trust.Federation) { f.Subject = "role:*" }},
		"a line break":             {"kubernetes", func(f *trust.Federation) { f.Subject = "a\nJSON\nrm -rf" }},
		"what does not show":       {"kubernetes", func(f *trust.Federation) { f.Subject = "a\u202eb" }},
		"a list of audiences":      {"vault", func(f *trust.Federation) { f.Audience = "a,b" }},
		"a file":                   {"vault", func(f *trust.Federation) { f.Subject = "@/etc/passwd" }},
		"a role of another name":   {"vault", func(f *trust.Federation) { f.Role = "a b" }},
		"another platform":         {"oracle", func(*trust.Federation) {}},
	} {
		f := deploy()
		c.change(&f)
		if text, err := trust.Render(c.platform, "cli", f); err == nil {
			t.Errorf("%s: rendered\n%s", name, text)
		}
	}
}

// What the manager at AWS needs is rendered: per lease below the instance's paths, and for sessions on the roles by name.
func TestTheManagersRightsAtAWSAreRendered(t *testing.T) {
	const arn = "arn:aws:iam::123456789012:role/"
	sessions, made := deploy(), deploy()
	sessions.Manager = &trust.Manager{Platform: "aws", Target: "acme", Subject: "daypass:target:acme", Principal: arn + "ops/manage", Sessions: []string{arn + "deploy"}}
	made.Subject = "daypass:target:acme"
	made.Manager = &trust.Manager{Platform: "aws", Target: "acme", Subject: made.Subject, Principal: arn + "manage",
		Making: &trust.Making{Kinds: []string{"role", "user"}, Policies: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, Boundaries: []string{"arn:aws:iam::123456789012:policy/leases"}}}
	for _, format := range trust.Formats() {
		for name, c := range map[string]struct {
			f    trust.Federation
			want []string
		}{
			"aws-sessions":  {sessions, []string{`"` + arn + `deploy"`, "/ops/", "role:deploy-prod", "daypass:target:acme"}},
			"aws-per-lease": {made, []string{"iam:PermissionsBoundary", "policy/leases", "iam:PolicyARN", "/live/*", "daypass:target:acme"}},
		} {
			got, err := trust.Render("aws", format, c.f)
			if err != nil {
				t.Errorf("%s, %s: %v", name, format, err)
				continue
			}
			reviewed(t, name+"."+format, got)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("%s, %s: no %s", name, format, want)
				}
			}
		}
	}
	sessions.Manager.Principal = "arn:aws:iam::123456789012:role/$(id)"
	if _, err := trust.Render("aws", "cli", sessions); err == nil {
		t.Error("a manager that a shell would run is rendered")
	}
}
