package kind

import (
	"cmp"
	"fmt"

	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
)

// oidcIssuers is the kind of issuers of OpenID Connect tokens.
func oidcIssuers() Issuer { return Issuer{open: openOIDC, files: oidcFiles} }

// openOIDC makes the verifier of an issuer of OpenID Connect tokens.
func openOIDC(order IssuerOrder) (OpenIssuer, error) {
	issuer := order.Config
	cfg := oidc.Config{
		Name:     issuer.Name,
		URL:      issuer.URL,
		Audience: cmp.Or(issuer.OIDC.Audience, order.Audience),
		Keys:     order.Keys,
		Egress:   order.Egress,
		Observer: order.Observer,
		Now:      order.Now,
		Log:      order.Log,
	}
	preset, _ := access.PresetOf(issuer.Preset)
	cfg.Flatten, cfg.MaxAge = preset.Flatten, preset.MaxAge
	cfg.Algorithms, cfg.Types = preset.Habits(issuer.URL)
	if issuer.OIDC.CAFile != "" {
		var err error
		if cfg.CA, err = order.Secrets.Certificates(issuer.OIDC.CAFile); err != nil {
			return OpenIssuer{}, fmt.Errorf("ca_file of issuer %q: %w", issuer.Name, err)
		}
	}
	v, err := oidc.New(cfg)
	if err != nil {
		return OpenIssuer{}, err
	}
	return OpenIssuer{Tokens: v, Run: v.Run, Status: v.Status}, nil
}

func oidcFiles(issuer access.Issuer) ([]reference, error) {
	if issuer.OIDC.CAFile == "" {
		return nil, nil
	}
	return []reference{{issuer.OIDC.CAFile, true}}, nil
}
