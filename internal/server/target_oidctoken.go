package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target/oidctoken"
)

// oidcTokens is the kind of targets whose credentials are tokens of our own issuer.
func oidcTokens() kind {
	return kind{
		Kind:  access.Kind{Settings: decode[oidctoken.Settings], Rights: decode[oidctoken.Rights]},
		open:  openOIDCToken,
		files: func(access.Target) ([]reference, error) { return nil, nil },
	}
}

func openOIDCToken(_ context.Context, order targetOrder) (openTarget, error) {
	cfg := oidctoken.Config{Instance: order.mark.Instance, Issuer: order.issuer.URL(), Until: order.until, Now: order.now}
	if err := json.Unmarshal(order.config.Settings, &cfg.Settings); err != nil {
		return openTarget{}, fmt.Errorf("read the settings of target %q: %w", order.config.Name, err)
	}
	cfg.Sign = func(ctx context.Context, o oidctoken.Order) (secret.Text, error) {
		return order.issuer.Sign(ctx, issuer.Token{
			Algorithm: issuer.Algorithm(o.Algorithm),
			ID:        o.ID,
			Subject:   o.Subject,
			Audience:  []string{o.Audience},
			TTL:       o.TTL,
			Claims:    o.Claims,
		})
	}
	t, err := oidctoken.New(cfg)
	return openTarget{t, func() {}}, err
}
