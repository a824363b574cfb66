package kind

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/azure"
	"github.com/daypass/daypass/target/cloud"
	"github.com/daypass/daypass/target/gcp"
)

// googleTargets is the kind of targets at Google Cloud.
func googleTargets() Target {
	return Target{
		Kind: access.Kind{Settings: decode[gcp.Settings], Rights: decode[gcp.Rights]},
		open: func(_ context.Context, order TargetOrder) (OpenTarget, error) {
			settings, err := readSettings[gcp.Settings](order.Config)
			if err != nil {
				return OpenTarget{}, err
			}
			return openCloud(order, settings, settings.Manage != nil, gcp.NewTokens, gcp.NewPrincipals)
		},
	}
}

// azureTargets is the kind of targets at Azure.
func azureTargets() Target {
	return Target{
		Kind: access.Kind{Settings: decode[azure.Settings], Rights: decode[azure.Rights]},
		open: func(_ context.Context, order TargetOrder) (OpenTarget, error) {
			settings, err := readSettings[azure.Settings](order.Config)
			if err != nil {
				return OpenTarget{}, err
			}
			return openCloud(order, settings, settings.Manage != nil, azure.NewTokens, azure.NewPrincipals)
		},
	}
}

// openCloud makes a target that gives tokens of principals that exist, or one that manages its own.
func openCloud[S any](order TargetOrder, settings S, manages bool,
	tokens func(cloud.Config, S) (*cloud.Tokens, error), principals func(cloud.Config, S) (*cloud.Principals, error),
) (OpenTarget, error) {
	cfg := cloud.Config{
		Instance: order.Mark.Instance, Name: order.Config.Name, Issuer: order.Issuer.URL(), Until: order.Until, Roles: order.Roles, Now: order.Now,
		Known: order.Known, Log: order.Log.With("target", order.Config.Name),
		Lease: func(ctx context.Context, lease string) (cloud.Held, error) {
			held, err := order.Lease(ctx, lease)
			return cloud.Held{Rights: held.Rights, HandedOut: held.HandedOut, Until: held.Until}, err
		},
		Sign: func(ctx context.Context, o cloud.Order) (secret.Text, error) {
			return order.Issuer.Sign(ctx, issuer.Token{
				Algorithm: issuer.RS256, ID: o.ID, Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL,
			})
		},
	}
	var t target.Target
	var err error
	if manages {
		t, err = principals(cfg, settings)
	} else {
		t, err = tokens(cfg, settings)
	}
	return OpenTarget{Target: t}, err
}
