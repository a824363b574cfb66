package kind

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
)

// awsTargets is the kind of targets that are AWS accounts.
func awsTargets() Target {
	return Target{
		Kind: access.Kind{Settings: decode[aws.Settings], Client: decode[aws.Client], Rights: decode[aws.Rights]},
		open: openAWS,
	}
}

func openAWS(_ context.Context, order TargetOrder) (OpenTarget, error) {
	settings, client, err := readTarget[aws.Settings, aws.Client](order.Config)
	if err != nil {
		return OpenTarget{}, err
	}
	cfg := aws.Config{
		Instance: order.Mark.Instance,
		Name:     order.Config.Name,
		Issuer:   order.Issuer.URL(),
		Settings: settings,
		Client:   client,
		Lease: func(ctx context.Context, lease string) (aws.Held, error) {
			held, err := order.Lease(ctx, lease)
			return aws.Held(held), err
		},
		Roles: func(ctx context.Context) (map[string]string, error) { return awsRoles(order.Roles(ctx)) },
		Now:   order.Now,
		Log:   order.Log.With("target", order.Config.Name),
	}
	cfg.Sign = func(ctx context.Context, t aws.Token) (secret.Text, error) {
		return order.Issuer.Sign(ctx, issuer.Token{ID: t.ID, Subject: t.Subject, Audience: []string{t.Audience}, TTL: t.TTL, Claims: t.Claims})
	}
	var t target.Target
	if settings.Manage != nil && settings.Manage.PerLease {
		t, err = aws.NewPrincipals(cfg)
	} else {
		t, err = aws.NewSessions(cfg)
	}
	return OpenTarget{Target: t}, err
}

// awsRoles are the roles of ours that name a role at AWS, with its ARN.
func awsRoles(rights map[string]json.RawMessage, err error) (map[string]string, error) {
	arns := map[string]string{}
	for name, text := range rights {
		var r aws.Rights
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("read the rights of role %q: %w", name, err)
		}
		if r.RoleARN != "" {
			arns[name] = r.RoleARN
		}
	}
	return arns, err
}
