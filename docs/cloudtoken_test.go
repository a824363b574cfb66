package docs_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestReferenceOfCloudTokens(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Tokens of clouds\n\n" + generated)
	page.WriteString("The sections `gcp` and `azure` of [targets and roles](access-files.md): short-lived access tokens that a cloud gives for a token of ours, so that\n" +
		"no key of the cloud is held anywhere. How a cloud comes to trust us: [the how-to](../howto/reach-a-cloud.md). Written by the clouds' documentation and\n" +
		"tried with stand-ins that verify our tokens: **not verified against the real services**.\n\n" +
		"Whoever has the role is one subject there, `role:<name>`, whatever their claims. Nobody can pull such a token: its revocation is `bounded`, and a lease\n" +
		"that ends early stays `revoking` until the token has expired.\n")
	for _, cloud := range []struct{ title, file, section, prefix, fields, variables string }{
		{"Google Cloud", "google.go", "gcp", "Google", "`access_token`, `service_account` and `expires_at`", "`CLOUDSDK_AUTH_ACCESS_TOKEN` and `GOOGLE_OAUTH_ACCESS_TOKEN`"},
		{"Azure", "entra.go", "azure", "Azure", "`access_token`, `tenant`, `client_id` and `expires_at`", "`AZURE_ACCESS_TOKEN`"},
	} {
		fmt.Fprintf(&page, "\n## %s\n\nA credential has %s; `daypass run` sets %s.\n\n| Field | Means |\n|---|---|\n", cloud.title, cloud.fields, cloud.variables)
		sections := maps.Clone(structs(t, "../target/cloudtoken/"+cloud.file))
		for _, part := range []struct{ of, typeName string }{{"target", cloud.prefix + "Settings"}, {"role", cloud.prefix + "Rights"}} {
			for _, f := range sections[part.typeName] {
				fmt.Fprintf(&page, "| %s `%s.%s` | %s |\n", part.of, cloud.section, f.name, f.text)
			}
		}
	}
	compare(t, "reference/cloud-tokens.md", page.String())
}
