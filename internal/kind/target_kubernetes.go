package kind

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/kubernetes"
)

// kubernetesTargets is the kind of targets that are Kubernetes clusters.
func kubernetesTargets() Target {
	return Target{
		Kind: access.Kind{
			Settings: decode[kubernetes.Settings],
			Client:   decode[kubernetes.Client],
			Rights:   decode[kubernetes.Rights],
		},
		open:  openKubernetes,
		files: kubernetesFiles,
	}
}

// kubernetesFiles are the certificates and the key. The token is read again for each request, so that one that was
// replaced makes no new target.
func kubernetesFiles(t access.Target) (named []reference, err error) {
	settings, client, err := readTarget[kubernetes.Settings, kubernetes.Client](t)
	for _, file := range []reference{{settings.CA.File, true}, {settings.Certificate.File, true}, {settings.Key.File, false}, {client.CA.File, true}} {
		if file.name != "" {
			named = append(named, file)
		}
	}
	return named, err
}

func openKubernetes(_ context.Context, order TargetOrder) (OpenTarget, error) {
	settings, client, err := readTarget[kubernetes.Settings, kubernetes.Client](order.Config)
	if err != nil {
		return OpenTarget{}, err
	}
	cfg := kubernetes.Config{
		Instance: order.Mark.Instance,
		Settings: settings,
		Client:   client,
		Mark:     order.Mark,
		Known:    order.Known,
		Log:      order.Log.With("target", order.Config.Name),
	}
	for _, file := range []struct {
		name string
		into *string
	}{{settings.CA.File, &cfg.CA}, {settings.Certificate.File, &cfg.Cert}, {client.CA.File, &cfg.ClientCA}} {
		if file.name == "" {
			continue
		}
		pem, err := order.Secrets.Certificates(file.name)
		if err != nil {
			return OpenTarget{}, err
		}
		*file.into = string(pem)
	}
	if settings.InCluster {
		ca, err := podFile("ca.crt")
		if err != nil {
			return OpenTarget{}, err
		}
		cfg.CA = string(ca)
	}
	if settings.Key.File != "" {
		if cfg.Key, err = order.Secrets.Text(settings.Key.File); err != nil {
			return OpenTarget{}, err
		}
	} else {
		cfg.Token = clusterToken(order.Secrets, settings.Token.File, settings.InCluster)
	}
	k, err := kubernetes.New(cfg)
	if err != nil {
		return OpenTarget{}, err
	}
	if order.Known {
		return OpenTarget{Target: settledKubernetes{k}, Close: k.Close}, nil
	}
	return OpenTarget{Target: k, Close: k.Close}, nil
}

// settledKubernetes is a cluster where credentials of ours may live. Its Mark adopts no cluster without our mark, for the
// reason that [settledPostgres] has.
type settledKubernetes struct{ *kubernetes.Kubernetes }

// Mark implements [target.Marker].
func (k settledKubernetes) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	if err := k.Meet(ctx); err != nil {
		return target.Mark{}, err
	}
	return k.Kubernetes.Mark(ctx, m)
}
