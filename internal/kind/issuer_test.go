package kind_test

import (
	"strings"
	"testing"

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
