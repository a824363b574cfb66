package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

// moment is enough for an answer to get lost on a loopback.
const moment = 300 * time.Millisecond

// The limits of operations are for honest slowness, and far too long for an answer that never comes.
func TestALostAnswerIsNoticedInSeconds(t *testing.T) {
	cases := map[string]struct {
		request string // whose answer is lost
		call    func(ctx context.Context, p *postgres.Postgres, lease string) error
	}{
		"begin of a grant": {"begin;", func(ctx context.Context, p *postgres.Postgres, _ string) error {
			_, err := p.Grant(ctx, order(targettest.Lease(), readers))
			return err
		}},
		"commit of a grant": {";commit", func(ctx context.Context, p *postgres.Postgres, _ string) error {
			_, err := p.Grant(ctx, order(targettest.Lease(), readers))
			return err
		}},
		"revocation": {"nologin", func(ctx context.Context, p *postgres.Postgres, lease string) error { return p.Revoke(ctx, lease) }},
		"renewal": {"valid until", func(ctx context.Context, p *postgres.Postgres, lease string) error {
			return p.Renew(ctx, lease, time.Hour)
		}},
		"listing": {"rolcanlogin", func(ctx context.Context, p *postgres.Postgres, _ string) error {
			for _, err := range p.Leases(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
	}
	versions(t, func(t *testing.T, r *rig) {
		for name, c := range cases {
			proxy := testbed.StartProxy(t, r.server.Address())
			r.boot.Add(1)
			p := r.openConfig(t, r.config(proxy.Address()))
			first, _ := r.grant(t, p, readers)
			revoke(t, p, first) // so that there are connections to lose answers on
			lease, _ := r.grant(t, p, readers)
			proxy.After(c.request, testbed.DropAnswers)
			go func() {
				eventually(t, "the fault strikes", func() bool { return proxy.Struck() > 0 })
				<-time.After(moment)
				proxy.Heal()
			}()
			begun := time.Now()
			err := c.call(soon(t, 25*time.Second), p, lease)
			if took := time.Since(begun); took > 10*time.Second || proxy.Struck() == 0 {
				t.Errorf("%s: noticed after %v: %v", name, took, err)
			}
			// Some come again by themselves, others say that it must be tried again.
			if err != nil && !errors.Is(err, target.ErrUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
			if err := c.call(soon(t, 5*time.Second), p, lease); err != nil {
				t.Errorf("%s, again: %v", name, err)
			}
			p.Close()
		}
	})
}

func TestAnAnswerThatIsLostWhileConnectingIsNoticedInSeconds(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		proxy := testbed.StartProxy(t, r.server.Address())
		p := r.openConfig(t, r.config(proxy.Address()))
		proxy.Set(testbed.DropAnswers)
		time.AfterFunc(moment, proxy.Heal)
		begun := time.Now()
		r.grant(t, p, readers)
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("noticed after %v", took)
		}
	})
}

func TestAnAnswerThatTakesItsTimeIsWaitedFor(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		r.grant(t, p, readers)
		held, err := pgx.Connect(t.Context(), r.server.Superuser(r.database))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close(context.WithoutCancel(t.Context()))
		if _, err := held.Exec(t.Context(), "begin; lock table pg_authid in share row exclusive mode"); err != nil {
			t.Fatal(err)
		}
		const slow = 3500 * time.Millisecond // the server is asked, and is not yet tired of waiting for the lock
		released := make(chan struct{})
		time.AfterFunc(slow, func() {
			held.Exec(context.WithoutCancel(t.Context()), "rollback")
			close(released)
		})
		begun := time.Now()
		r.grant(t, p, readers)
		if took := time.Since(begun); took < slow {
			t.Errorf("the grant waited for nothing: %v", took)
		}
		<-released
		if strings.Contains(r.log.String(), "lost") {
			t.Errorf("the answer was given up:\n%s", r.log)
		}
	})
}
