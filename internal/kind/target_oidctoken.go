package kind

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target/oidctoken"
)

// oidcTokens is the kind of targets whose credentials are tokens of our own issuer.
func oidcTokens() Target {
	return Target{
		Kind: access.Kind{Settings: decode[oidctoken.Settings], Rights: decode[oidctoken.Rights]},
		open: openOIDCToken,
	}
}

func openOIDCToken(_ context.Context, order TargetOrder) (OpenTarget, error) {
	settings, err := readSettings[oidctoken.Settings](order.Config)
	if err != nil {
		return OpenTarget{}, err
	}
	cfg := oidctoken.Config{Instance: order.Mark.Instance, Issuer: order.Issuer.URL(), Settings: settings, Until: order.Until, Now: order.Now}
	cfg.Sign = func(ctx context.Context, o oidctoken.Order) (secret.Text, error) {
		return order.Issuer.Sign(ctx, issuer.Token{
			Algorithm: issuer.Algorithm(o.Algorithm),
			ID:        o.ID,
			Subject:   o.Subject,
			Audience:  []string{o.Audience},
			TTL:       o.TTL,
			Claims:    o.Claims,
		})
	}
	t, err := oidctoken.New(cfg)
	return OpenTarget{Target: t}, err
}
