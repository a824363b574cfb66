package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/cloudtoken"
	"github.com/daypass/daypass/target/kubernetes"
	"github.com/daypass/daypass/target/oidctoken"
	"github.com/daypass/daypass/target/postgres"
)

// kind is a kind of target: how access files write it, and how one is made.
type kind struct {
	access.Kind
	// open makes a target from its settings. It connects to nothing.
	open func(ctx context.Context, order targetOrder) (openTarget, error)
	// files are the references of its settings to files below secrets_dir.
	files func(access.Target) ([]reference, error)
}

// reference is a file below secrets_dir that settings name.
type reference struct {
	name        string
	certificate bool // it must hold certificates and nothing else
}

// read returns the file's bytes.
func (r reference) read(s secrets) ([]byte, error) {
	if r.certificate {
		return s.certificates(r.name)
	}
	return s.read(r.name)
}

// targetOrder is what a target is made from.
type targetOrder struct {
	config  access.Target
	mark    target.Mark
	boot    int64 // of this process
	peers   func(context.Context) ([]int64, error)
	known   bool // credentials of ours were made there: a server without our mark is another one
	secrets secrets
	log     *slog.Logger

	issuer  *issuer.Issuer                                             // signs tokens for those who trust us
	until   func(ctx context.Context, lease string) (time.Time, error) // until when what was handed out lives; zero: nothing was
	granted *granted                                                   // what leases were granted as
	now     func() time.Time
}

// openTarget is a target and what ends it.
type openTarget struct {
	target.Target
	close func()
}

// kinds are the kinds of target that there are, within what the server's configuration allows. This is the one place
// that names them.
func kinds(cfg Config) map[string]kind {
	return map[string]kind{
		postgres.Kind: {
			Kind: access.Kind{
				Settings: decode[postgres.Settings],
				Client:   decode[postgres.Client],
				Rights:   decode[postgres.Rights],
			},
			open: func(ctx context.Context, order targetOrder) (openTarget, error) {
				return openPostgres(ctx, order, cfg.Postgres)
			},
			files: postgresFiles,
		},
		aws.Kind:        awsTargets(),
		kubernetes.Kind: kubernetesTargets(),
		oidctoken.Kind:  oidcTokens(),

		cloudtoken.KindGoogle: googleTokens(),
		cloudtoken.KindAzure:  azureTokens(),
	}
}

// withTestKinds adds kinds that stand for one target each.
func withTestKinds(all map[string]kind, targets map[string]target.Target) map[string]kind {
	for name, t := range targets {
		all[name] = kind{
			Kind:  access.Kind{Settings: decode[map[string]any], Rights: decode[map[string]any]},
			open:  func(context.Context, targetOrder) (openTarget, error) { return openTarget{t, func() {}}, nil },
			files: func(access.Target) ([]reference, error) { return nil, nil },
		}
	}
	return all
}

func accessKinds(targets map[string]kind, issuers map[string]issuerKind) access.Kinds {
	out := access.Kinds{Targets: map[string]access.Kind{}, Issuers: map[string]access.IssuerKind{}}
	for name, k := range targets {
		out.Targets[name] = k.Kind
	}
	for name, k := range issuers {
		out.Issuers[name] = k.IssuerKind
	}
	return out
}

// decode reads a section strictly into a T.
func decode[T any](section access.Section) (any, error) {
	var value T
	err := section.Decode(&value)
	return value, err
}

// readTarget reads the sections of a target back from the form in which the configuration keeps them.
func readTarget[S, C any](t access.Target) (settings S, client C, err error) {
	if err = json.Unmarshal(t.Settings, &settings); err != nil {
		return settings, client, fmt.Errorf("read the settings of target %q: %w", t.Name, err)
	}
	if t.Client != nil {
		err = json.Unmarshal(t.Client, &client)
	}
	if err != nil {
		err = fmt.Errorf("read the client section of target %q: %w", t.Name, err)
	}
	return settings, client, err
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

func openPostgres(ctx context.Context, order targetOrder, allowed Postgres) (openTarget, error) {
	settings, client, err := readTarget[postgres.Settings, postgres.Client](order.config)
	if err != nil {
		return openTarget{}, err
	}
	cfg := postgres.Config{
		Instance: order.mark.Instance,
		Settings: settings,
		Client:   client,
		Mark:     order.mark,
		Boot:     order.boot,
		Peers:    order.peers,
		Known:    order.known,
		Log:      order.log.With("target", order.config.Name),

		AllowRoles: allowed.AllowRoles,
	}
	if settings.Password.File != "" {
		if cfg.Password, err = order.secrets.text(settings.Password.File); err != nil {
			return openTarget{}, err
		}
	}
	for _, ca := range []struct {
		file string
		into *string
	}{{settings.CA.File, &cfg.CA}, {client.CA.File, &cfg.ClientCA}} {
		if ca.file == "" {
			continue
		}
		pem, err := order.secrets.certificates(ca.file)
		if err != nil {
			return openTarget{}, err
		}
		*ca.into = string(pem)
	}
	p, err := postgres.New(ctx, cfg)
	if err != nil {
		return openTarget{}, err
	}
	if order.known {
		return openTarget{settledPostgres{p}, p.Close}, nil
	}
	return openTarget{p, p.Close}, nil
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

// fingerprint is a hash of all that a target is made from, its files included.
func fingerprint(t access.Target, k kind, s secrets) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q", t.Name, t.Kind, t.Settings, t.Client)
	files, err := k.files(t)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		data, err := file.read(s)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, " %q %x", file.name, sha256.Sum256(data))
	}
	return string(h.Sum(nil)), nil
}
