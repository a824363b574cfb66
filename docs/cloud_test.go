package docs_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/trust"
)

func TestReferenceOfClouds(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Google Cloud and Azure\n\n" + generated)
	page.WriteString("The sections `gcp` and `azure` of [targets and roles](access-files.md): short-lived access tokens that a cloud gives for a token of ours, so that\n" +
		"no key of the cloud is held anywhere. How a cloud comes to trust us: [the how-to](../howto/reach-a-cloud.md). Written by the clouds' documentation and\n" +
		"tried with stand-ins that verify our tokens: **not verified against the real services**.\n\n" +
		"A role names a principal that exists, or has one made for each lease. Of a principal that exists whoever has the role is one subject,\n" +
		"`role:<name>`, whatever their claims; nobody can pull its tokens, the revocation is `bounded`, and a lease that ends early stays `revoking` until\n" +
		"the token has expired. A principal per lease is taken away with its lease, the revocation is `assisted`, and the lease stays `revoking` for `settle`.\n")
	for _, cloud := range []struct{ title, section, fields, variables, binding string }{
		{"Google Cloud", "gcp", "`access_token`, `service_account` and `expires_at`", "`CLOUDSDK_AUTH_ACCESS_TOKEN` and `GOOGLE_OAUTH_ACCESS_TOKEN`", "Binding"},
		{"Azure", "azure", "`access_token`, `tenant`, `client_id` and `expires_at`", "`AZURE_ACCESS_TOKEN`", "Assignment"},
	} {
		fmt.Fprintf(&page, "\n## %s\n\nA credential has %s; `daypass run` sets %s.\n\n| Field | Means |\n|---|---|\n", cloud.title, cloud.fields, cloud.variables)
		sections := maps.Clone(structs(t, "../target/"+cloud.section+"/settings.go"))
		maps.Copy(sections, structs(t, "../target/"+cloud.section+"/rights.go"))
		for _, part := range []struct{ path, typeName string }{
			{"target `" + cloud.section + ".", "Settings"}, {"target `" + cloud.section + ".manage.", "Manage"},
			{"role `" + cloud.section + ".", "Rights"}, {"role `" + cloud.section + "." + strings.ToLower(cloud.binding) + "s[].", cloud.binding},
		} {
			for _, f := range sections[part.typeName] {
				fmt.Fprintf(&page, "| %s%s` | %s |\n", part.path, f.name, f.text)
			}
		}
	}
	compare(t, "reference/cloud-tokens.md", page.String())
}

// What the how-tos show is taken, and what the manager needs can be rendered of it.
func TestTheHowTosOfPrincipalsPerLeaseAreRight(t *testing.T) {
	for _, c := range []struct{ page, platform, role, subject string }{
		{"google-target.md", "gcp", "publish", "daypass:target:acme-google"},
		{"azure-target.md", "azure", "read-orders", "daypass:target:acme-azure"},
	} {
		page, err := os.ReadFile("howto/" + c.page)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for i, block := range fencedFile.FindAllStringSubmatch(string(page), -1) {
			if block[1] == "yaml" {
				files[fmt.Sprintf("a%d.yaml", i)] = block[2]
			}
		}
		if len(files) != 1 {
			t.Errorf("%s shows %d access files, want 1", c.page, len(files))
		}
		if _, err := inspection.Check(files, inspection.Server{}); err != nil {
			t.Errorf("%s: %v", c.page, err)
		}
		f, err := inspection.FederationOf(files, c.role, "https://daypass.example.com", "RS256")
		if err != nil || f.Subject != c.subject || f.Manager == nil {
			t.Fatalf("%s: what the cloud has to trust: %+v, %v", c.page, f, err)
		}
		for _, format := range trust.Formats() {
			if text, err := trust.Render(c.platform, format, f); err != nil || !strings.Contains(text, f.Manager.Principal) {
				t.Errorf("%s, %s: %v: %s", c.page, format, err, text)
			}
		}
	}
}
