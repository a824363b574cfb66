// Package kubernetes makes and destroys credentials of a Kubernetes cluster: tokens of service accounts.
//
// It owns, in one namespace of its own, a coordination.k8s.io Lease for each lease (the record) and one as the mark of
// the target; in the namespaces where roles act, whatever is called dp-<instance>-<lease>: the anchor, an empty Secret
// that a token is bound to and dies with, and for roles with an account per lease that account and its bindings.
//
// It promises what [target.Target] asks. A token is bound to the UID of an anchor, so that deleting the anchor ends it
// and a request that arrives late makes nothing that works. API servers remember for ten seconds that a token was good
// (a constant of theirs): Revoke waits that out before it returns nil, and what a lease's own bindings gave is gone
// before. See docs/howto/kubernetes.md for what the administrator's account needs.
//
// The package imports target, secret and internal/kube, and nothing that decides or records.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/daypass/daypass/internal/kube"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Kind is the type of the credentials, and the name of this kind of target in access files.
const Kind = "kubernetes"

const (
	// settle is how long after its end a token may still be taken: an API server remembers for 10 seconds that it was
	// good, and hears of a deletion a moment after it.
	settle = 12 * time.Second
	// spread is how long API servers take to hear of a binding that was deleted. It takes them milliseconds.
	spread = 2 * time.Second
)

// Config is everything that [New] needs. Files are read already.
type Config struct {
	Instance string                      // the installation, 4 to 6 characters of lowercase base32
	Settings Settings                    // the target's section
	CA       string                      // PEM; empty: the system's authorities
	Token    func() (secret.Text, error) // of the administrator's account, asked for each request; nil where it has a certificate
	Cert     string                      // PEM, the administrator's client certificate
	Key      secret.Text                 // PEM, of Cert
	Client   Client                      // what workloads are told
	ClientCA string                      // PEM for workloads; empty: CA
	Mark     target.Mark                 // which target and boot this is; Mark.Instance is set from Instance when it is empty
	// Known says that the store has met this target before. A cluster without our mark is then another cluster, and
	// nothing is granted or called revoked there until Mark is called on purpose.
	Known bool
	Log   *slog.Logger // nil: nothing is logged
}

// Kubernetes is one cluster as a target. Its methods may be called concurrently.
type Kubernetes struct {
	names names
	cfg   Config
	api   *kube.Client
	log   *slog.Logger
	keep  time.Duration // [keepTombs], unless a test says otherwise

	meeting chan struct{} // has room for one, who may use the fields below
	mark    target.Mark
	known   bool
	met     bool
}

var (
	_ target.Target   = (*Kubernetes)(nil)
	_ target.Lister   = (*Kubernetes)(nil)
	_ target.Narrower = (*Kubernetes)(nil)
	_ target.Marker   = (*Kubernetes)(nil)
	_ target.Expirer  = (*Kubernetes)(nil)
	_ target.Checker  = (*Kubernetes)(nil)
	_ target.Clock    = (*Kubernetes)(nil)
	_ target.Cleaner  = (*Kubernetes)(nil)
)

// New makes a target of cfg and connects to nothing.
func New(cfg Config) (*Kubernetes, error) {
	n, err := newNames(cfg.Instance)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cfg.Settings.Validate(), cfg.Client.Validate()); err != nil {
		return nil, err
	}
	if cfg.Mark.Instance == "" {
		cfg.Mark.Instance = cfg.Instance
	}
	if cfg.Mark.Target == "" || cfg.Mark.Instance != cfg.Instance {
		return nil, errors.New("mark: want the instance and the random name of the target")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	api, err := kube.New(kube.Config{URL: cfg.Settings.Address(), CA: []byte(cfg.CA), Token: cfg.Token, Certificate: []byte(cfg.Cert), Key: cfg.Key})
	if err != nil {
		return nil, err
	}
	return &Kubernetes{
		names: n, cfg: cfg, api: api, log: cfg.Log.With("cluster", api.URL()), keep: keepTombs,
		meeting: make(chan struct{}, 1), mark: cfg.Mark, known: cfg.Known,
	}, nil
}

// Close gives up idle connections.
func (k *Kubernetes) Close() { k.api.Close() }

// Now tells the cluster's time, in whole seconds.
func (k *Kubernetes) Now(ctx context.Context) (time.Time, error) {
	now, err := k.api.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock of %s: %w", k.title(), err)
	}
	return now, nil
}

// title names the cluster in errors.
func (k *Kubernetes) title() string { return "the cluster at " + k.api.URL() }

// space is the namespace of records and of the mark.
func (k *Kubernetes) space() string { return k.cfg.Settings.space() }

// pause waits for d, or as long as ctx allows.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
