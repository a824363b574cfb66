package docs_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestReferenceOfOIDCTokens(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Tokens of our own issuer\n\n" + generated)
	page.WriteString("The sections `oidc-token` of [targets and roles](access-files.md). How a service comes to trust them: [the how-to](../howto/let-a-service-trust-daypass.md).\n" +
		"What signs them, and how its keys are published: [`issuer`](config.md#issuer) in daypass.yaml.\n\n" +
		"A credential of this type has `token`, and beside it `audience`, `subject`, `issuer` and `expires_at`. The token has `iss`, `sub`, `aud`, `exp`, `iat`,\n" +
		"`nbf` (a minute before `iat`), `jti` (`dp_<instance>_<lease>`, the way back from a service's log to the lease) and the role's claims. It lives as\n" +
		"long as the lease was given, 24 hours at most, and is not renewed: acquire another. Nobody can pull a token: its revocation is `bounded`, and a lease that\n" +
		"ends early stays `revoking` until the token has expired and the leeway has passed.\n")
	sections := structs(t, "../target/oidctoken/oidctoken.go")
	maps.Copy(sections, structs(t, "../target/oidctoken/rights.go"))
	for _, part := range []struct{ title, typeName string }{{"Target", "Settings"}, {"Role", "Rights"}} {
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Means |\n|---|---|\n", part.title)
		for _, f := range sections[part.typeName] {
			fmt.Fprintf(&page, "| `oidc-token.%s` | %s |\n", f.name, f.text)
		}
	}
	compare(t, "reference/oidc-token.md", page.String())
}
