package server

import (
	"context"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/kubernetes"
)

// kubernetesTargets is the kind of targets that are Kubernetes clusters.
func kubernetesTargets() kind {
	return kind{
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

func openKubernetes(_ context.Context, order targetOrder) (openTarget, error) {
	settings, client, err := readTarget[kubernetes.Settings, kubernetes.Client](order.config)
	if err != nil {
		return openTarget{}, err
	}
	cfg := kubernetes.Config{
		Instance: order.mark.Instance,
		Settings: settings,
		Client:   client,
		Mark:     order.mark,
		Known:    order.known,
		Log:      order.log.With("target", order.config.Name),
	}
	for _, file := range []struct {
		name string
		into *string
	}{{settings.CA.File, &cfg.CA}, {settings.Certificate.File, &cfg.Cert}, {client.CA.File, &cfg.ClientCA}} {
		if file.name == "" {
			continue
		}
		pem, err := order.secrets.certificates(file.name)
		if err != nil {
			return openTarget{}, err
		}
		*file.into = string(pem)
	}
	if settings.InCluster {
		ca, err := podFile("ca.crt")
		if err != nil {
			return openTarget{}, err
		}
		cfg.CA = string(ca)
	}
	if settings.Key.File != "" {
		if cfg.Key, err = order.secrets.text(settings.Key.File); err != nil {
			return openTarget{}, err
		}
	} else {
		cfg.Token = clusterToken(order.secrets, settings.Token.File, settings.InCluster)
	}
	k, err := kubernetes.New(cfg)
	if err != nil {
		return openTarget{}, err
	}
	if order.known {
		return openTarget{settledKubernetes{k}, k.Close}, nil
	}
	return openTarget{k, k.Close}, nil
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
