package kind

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target/cloudtoken"
)

// googleTokens is the kind of targets at Google Cloud.
func googleTokens() Target {
	return Target{
		Kind: access.Kind{Settings: decode[cloudtoken.GoogleSettings], Rights: decode[cloudtoken.GoogleRights]},
		open: func(_ context.Context, order TargetOrder) (OpenTarget, error) {
			return openCloud(order, cloudtoken.NewGoogle)
		},
	}
}

// azureTokens is the kind of targets at Azure.
func azureTokens() Target {
	return Target{
		Kind: access.Kind{Settings: decode[cloudtoken.AzureSettings], Rights: decode[cloudtoken.AzureRights]},
		open: func(_ context.Context, order TargetOrder) (OpenTarget, error) {
			return openCloud(order, cloudtoken.NewAzure)
		},
	}
}

func openCloud[S any](order TargetOrder, made func(cloudtoken.Config, S) (*cloudtoken.Target, error)) (OpenTarget, error) {
	settings, err := readSettings[S](order.Config)
	if err != nil {
		return OpenTarget{}, err
	}
	t, err := made(cloudtoken.Config{
		Instance: order.Mark.Instance, Until: order.Until, Now: order.Now,
		Sign: func(ctx context.Context, o cloudtoken.Order) (secret.Text, error) {
			return order.Issuer.Sign(ctx, issuer.Token{
				Algorithm: issuer.RS256, ID: o.ID, Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL,
			})
		},
	}, settings)
	return OpenTarget{Target: t}, err
}
