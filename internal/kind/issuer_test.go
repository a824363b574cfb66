package kind_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/target"
)

func TestMistakesOfAKubernetesIssuerAreShownAtTheirFields(t *testing.T) {
	file := kind.FileName{File: "f"}
	for what, c := range map[string]struct {
		section kind.KubernetesIssuer
		field   string // empty: no mistake
	}{
		"an issuer":            {kind.KubernetesIssuer{Issuer: "https://cluster.example.com"}, ""},
		"no URL":               {kind.KubernetesIssuer{}, "url"},
		"plain http":           {kind.KubernetesIssuer{Issuer: "http://cluster.example.com"}, "url"},
		"a URL with a user":    {kind.KubernetesIssuer{Issuer: "https://a@cluster.example.com"}, "url"},
		"a long audience":      {kind.KubernetesIssuer{Issuer: "https://c.example.com", Audience: strings.Repeat("a", 513)}, "audience"},
		"two ways to its keys": {kind.KubernetesIssuer{Issuer: "https://c.example.com", CA: file, API: &kind.KubernetesAPI{InCluster: true}}, "ca"},
		"a pod elsewhere":      {kind.KubernetesIssuer{Issuer: "https://c.example.com", API: &kind.KubernetesAPI{InCluster: true, URL: "https://d:6443"}}, "api.in_cluster"},
		"a bad API server":     {kind.KubernetesIssuer{Issuer: "https://c.example.com", API: &kind.KubernetesAPI{URL: "d", Token: file}}, "api.url"},
		"no token":             {kind.KubernetesIssuer{Issuer: "https://c.example.com", API: &kind.KubernetesAPI{URL: "https://d:6443"}}, "api.token"},
		"a connection":         {kind.KubernetesIssuer{Issuer: "https://c.example.com", API: &kind.KubernetesAPI{URL: "https://d:6443", Token: file}}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			err := c.section.Validate()
			if c.field == "" {
				if err != nil {
					t.Errorf("it is refused: %v", err)
				}
				return
			}
			for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
				if wrong, ok := one.(*target.FieldError); !ok || wrong.Field() != c.field {
					t.Errorf("%v, want a mistake at %s", one, c.field)
				}
			}
		})
	}
}

func TestEveryKindWhoseEvidenceHasAnIDMayHaveItGoodOnce(t *testing.T) {
	kinds := kind.All(kind.Allowed{}).Access()
	for name, section := range map[string]string{
		"oidc":       `oidc: {url: "https://issuer.example.com", %s}`,
		"aws":        `aws: {accounts: ["123456789012"], %s}`,
		"spiffe":     `spiffe: {trust_domain: example.org, bundle: {file: b}, %s}`,
		"kubernetes": `kubernetes: {url: "https://cluster.example.com", %s}`,
		"devices":    `devices: {term: 1h, %s}`,
	} {
		for text, want := range map[string]bool{"single_use: true": true, "single_use: false": false, "": false} {
			file := "kind: Issuer\nname: i\n" + strings.ReplaceAll(fmt.Sprintf(section, text), ", }", "}") + "\n"
			cfg, err := access.Parse(access.Files{"a.yaml": file}, kinds)
			if err != nil || cfg.Issuers["i"].SingleUse != want {
				t.Errorf("%s with %q: %v", name, text, err)
			}
		}
	}
	_, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\nmtls: {ca: {file: c}, subject: cn, single_use: true}\n"}, kinds)
	if err == nil || !strings.Contains(err.Error(), "single_use") {
		t.Errorf("a certificate, which a handshake shows anew each time: %v", err)
	}
}

func TestClaimsAreDeclaredWhereEvidenceMayHaveMore(t *testing.T) {
	kinds := kind.All(kind.Allowed{}).Access()
	const mesh = "spiffe: {trust_domain: example.org, bundle: {file: b}}\n"
	cfg, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\n" + mesh + "claims: {env: string?}\n---\nkind: Issuer\nname: j\nspiffe: {trust_domain: example.com, bundle: {file: b}}\n"}, kinds)
	if err != nil || cfg.Issuers["i"].Claims["env"].Kind != access.String || cfg.Issuers["i"].Claims["spiffe_id"].Kind != access.String {
		t.Fatalf("%+v, %v", cfg, err)
	}
	if _, there := cfg.Issuers["j"].Claims["env"]; there {
		t.Error("what one issuer declares another has too")
	}
	for file, want := range map[string]string{
		mesh + "claims: {env: string}":                                       "write `string?`",
		mesh + "claims: {path: string?}":                                     `claim "path" already`,
		mesh + "claims: {__entity: string?}":                                 "reserved",
		"mtls: {ca: {file: c}, subject: cn}\nclaims: {env: string?}":         "extensions are not read",
		"aws: {accounts: [\"123456789012\"]}\nclaims: {env: string?}":        "AWS says who the caller is",
		"devices: {term: 1h}\nclaims: {env: string?}":                        "labels",
		"kubernetes: {url: \"https://c.example.com\"}\nclaims: {a: string?}": "labels and annotations",
	} {
		if _, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\n" + file + "\n"}, kinds); err == nil || !strings.Contains(fmt.Sprintf("%+v", err), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", file, err, want)
		}
	}
}
