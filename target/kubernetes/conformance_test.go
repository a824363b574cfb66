package kubernetes_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestKubernetesConforms(t *testing.T) {
	t.Run("an account per lease", func(t *testing.T) {
		t.Parallel()
		targettest.RunTogether(t, func(t *testing.T) targettest.Fixture {
			r := newRig(t)
			return fixture(t, r, r.perLease("reader"), r.perLease("lister"))
		})
	})
	t.Run("a token of an account that exists", func(t *testing.T) {
		t.Parallel()
		targettest.RunTogether(t, func(t *testing.T) targettest.Fixture {
			r := newRig(t)
			return fixture(t, r, r.account(), r.perLease("lister"))
		})
	})
}

func fixture(t *testing.T, r *rig, rights, less json.RawMessage) targettest.Fixture {
	return targettest.Fixture{
		Target:  r.open(t, r.Address()),
		Rights:  rights,
		Less:    less,
		Mark:    target.Mark{Instance: r.instance, Target: "cluster-a", Boot: 1},
		Try:     func(ctx context.Context, c target.Credential) error { return r.try(ctx, c, r.configmaps()) },
		Exceed:  func(ctx context.Context, c target.Credential) error { return r.try(ctx, c, r.pods()) },
		Alive:   r.alive,
		Name:    func(c target.Credential) string { return c.Attributes["record"].(string) },
		Logs:    r.log.String,
		Forward: waiting,
		Faulty: func() targettest.Faulty {
			proxy := testbed.StartProxy(t, r.Address())
			return targettest.Faulty{
				Target:      r.open(t, proxy.Address()),
				LoseAnswers: func() { proxy.Set(testbed.DropAnswers) },
				Hold:        func() { proxy.Set(testbed.Hold) },
				Heal: func() {
					proxy.Heal()
					// What was held has arrived when the server is done with it; a moment is enough on a loopback.
					<-time.After(500 * time.Millisecond)
				},
				Successor: func() target.Target { return r.open(t, r.Address()) },
			}
		},
		Skips: map[targettest.Capability]string{
			targettest.Sessions: "the API server checks a token when a request begins: a watch, exec or port-forward that is open goes on",
			targettest.Expiry:   "the shortest token of the API server lives ten minutes",
			targettest.Renewal:  "a token cannot be prolonged",
		},
	}
}
