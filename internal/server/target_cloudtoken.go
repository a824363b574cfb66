package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target/cloudtoken"
)

// googleTokens is the kind of targets at Google Cloud.
func googleTokens() kind {
	return kind{
		Kind: access.Kind{Settings: decode[cloudtoken.GoogleSettings], Rights: decode[cloudtoken.GoogleRights]},
		open: func(_ context.Context, order targetOrder) (openTarget, error) {
			return openCloud(order, cloudtoken.NewGoogle)
		},
		files: func(access.Target) ([]reference, error) { return nil, nil },
	}
}

// azureTokens is the kind of targets at Azure.
func azureTokens() kind {
	return kind{
		Kind: access.Kind{Settings: decode[cloudtoken.AzureSettings], Rights: decode[cloudtoken.AzureRights]},
		open: func(_ context.Context, order targetOrder) (openTarget, error) {
			return openCloud(order, cloudtoken.NewAzure)
		},
		files: func(access.Target) ([]reference, error) { return nil, nil },
	}
}

func openCloud[S any](order targetOrder, made func(cloudtoken.Config, S) (*cloudtoken.Target, error)) (openTarget, error) {
	var settings S
	if err := json.Unmarshal(order.config.Settings, &settings); err != nil {
		return openTarget{}, fmt.Errorf("read the settings of target %q: %w", order.config.Name, err)
	}
	t, err := made(cloudtoken.Config{
		Instance: order.mark.Instance, Until: order.until, Now: order.now,
		Sign: func(ctx context.Context, o cloudtoken.Order) (secret.Text, error) {
			return order.issuer.Sign(ctx, issuer.Token{
				Algorithm: issuer.RS256, ID: o.ID, Subject: o.Subject, Audience: []string{o.Audience}, TTL: o.TTL,
			})
		},
	}, settings)
	return openTarget{t, func() {}}, err
}
