package kind

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
)

// postgresTargets is the kind of targets that are PostgreSQL servers. Roles of access files may be members of the
// allowed ones although they have power.
func postgresTargets(allowed []string) Target {
	return Target{
		Kind: access.Kind{
			Settings: decode[postgres.Settings],
			Client:   decode[postgres.Client],
			Rights:   decode[postgres.Rights],
		},
		open: func(ctx context.Context, order TargetOrder) (OpenTarget, error) {
			return openPostgres(ctx, order, allowed)
		},
		files: postgresFiles,
	}
}

func postgresFiles(t access.Target) (named []reference, err error) {
	settings, client, err := readTarget[postgres.Settings, postgres.Client](t)
	for _, file := range []reference{{settings.Password.File, false}, {settings.CA.File, true}, {client.CA.File, true}} {
		if file.name != "" {
			named = append(named, file)
		}
	}
	return named, err
}

func openPostgres(ctx context.Context, order TargetOrder, allowed []string) (OpenTarget, error) {
	settings, client, err := readTarget[postgres.Settings, postgres.Client](order.Config)
	if err != nil {
		return OpenTarget{}, err
	}
	cfg := postgres.Config{
		Instance: order.Mark.Instance,
		Settings: settings,
		Client:   client,
		Mark:     order.Mark,
		Boot:     order.Boot,
		Peers:    order.Peers,
		Known:    order.Known,
		Log:      order.Log.With("target", order.Config.Name),

		AllowRoles: allowed,
	}
	if settings.Password.File != "" {
		if cfg.Password, err = order.Secrets.Text(settings.Password.File); err != nil {
			return OpenTarget{}, err
		}
	}
	for _, ca := range []struct {
		file string
		into *string
	}{{settings.CA.File, &cfg.CA}, {client.CA.File, &cfg.ClientCA}} {
		if ca.file == "" {
			continue
		}
		pem, err := order.Secrets.Certificates(ca.file)
		if err != nil {
			return OpenTarget{}, err
		}
		*ca.into = string(pem)
	}
	p, err := postgres.New(ctx, cfg)
	if err != nil {
		return OpenTarget{}, err
	}
	if order.Known {
		return OpenTarget{Target: settledPostgres{p}, Close: p.Close}, nil
	}
	return OpenTarget{Target: p, Close: p.Close}, nil
}

// settledPostgres is a target where credentials of ours may live. Its Mark adopts no server without our mark: an
// empty server in the place of ours would prove the death of credentials that live on elsewhere.
type settledPostgres struct{ *postgres.Postgres }

// Mark implements [target.Marker].
func (p settledPostgres) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	if _, err := p.Now(ctx); err != nil { // looks at the mark before anything else
		return target.Mark{}, err
	}
	return p.Postgres.Mark(ctx, m)
}
