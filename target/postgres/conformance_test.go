package postgres_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// session is an open connection of a workload.
type session struct{ conn *pgx.Conn }

func (s session) Use(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "select 1")
	return err
}
func (s session) Close() error { return s.conn.Close(context.Background()) }

func TestPostgresConforms(t *testing.T) {
	versions(t, func(t *testing.T, shared *rig) {
		targettest.Run(t, func(t *testing.T) targettest.Fixture {
			r := newRig(t, shared.server)
			p := r.open(t)
			return targettest.Fixture{
				Target: p,
				Rights: json.RawMessage(readers),
				Less:   json.RawMessage(`{"grants":[{"privileges":["select"],"on":"tables","schema":"public","names":["items"]}],"scram_iterations":1}`),
				Mark:   target.Mark{Instance: r.instance, Target: "orders-db", Boot: 1},
				Try: func(ctx context.Context, c target.Credential) error {
					return use(ctx, c, "select * from public.orders")
				},
				Exceed: func(ctx context.Context, c target.Credential) error {
					return use(ctx, c, "insert into public.orders values (2)")
				},
				Alive: func(_ context.Context, lease string) (bool, error) { return r.alive(t, lease), nil },
				Session: func(ctx context.Context, c target.Credential) (targettest.Session, error) {
					conn, err := login(ctx, c)
					return session{conn}, err
				},
				Name:   func(c target.Credential) string { return c.Attributes["username"].(string) },
				Logs:   r.log.String,
				Faulty: func() targettest.Faulty { return faulty(t, r, p.Close) },
			}
		})
	})
}

// faulty reaches the server through a proxy. The target of the fixture makes way for it: two brokers of one
// instance do not work side by side.
func faulty(t *testing.T, r *rig, makeWay func()) targettest.Faulty {
	makeWay()
	proxy := testbed.StartProxy(t, r.server.Address())
	return targettest.Faulty{
		Target:      r.openConfig(t, r.config(proxy.Address())),
		LoseAnswers: func() { proxy.Set(testbed.DropAnswers) },
		Hold:        func() { proxy.Set(testbed.Hold) },
		Heal: func() {
			proxy.Heal()
			// What was held has arrived when the server is done with it; a moment is enough on a loopback.
			<-time.After(300 * time.Millisecond)
		},
		Successor: func() target.Target {
			r.boot.Add(1)
			return r.open(t)
		},
	}
}
