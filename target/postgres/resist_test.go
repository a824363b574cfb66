package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/target/targettest"
)

// soon is how long one revocation may take when somebody resists.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// crowd are rights with which a lease may open hundreds of sessions.
const crowd = `{"grants":[{"privileges":["select"],"on":"tables","schema":"public"}],"connection_limit":1000,"scram_iterations":1}`

// squat is what takes, or queues for, every advisory lock of daypass that it sees.
const squat = `select pg_advisory_lock(c.key, o.key) from pg_locks l,
	lateral (select (case when classid::int8 > 2147483647 then classid::int8 - 4294967296 else classid::int8 end)::int as key) c,
	lateral (select (case when objid::int8 > 2147483647 then objid::int8 - 4294967296 else objid::int8 end)::int as key) o
	where l.locktype = 'advisory' and l.objsubid = 2 and l.granted`

// The lock of the instance is an advisory lock: any login may take any, and everybody sees the keys of all.
func TestALeaseThatHoldsAndQueuesForTheLockOfTheInstanceStopsNobody(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		lease, credential := r.grant(t, p, crowd)
		for range 120 {
			conn, err := login(t.Context(), credential)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(context.Background()) })
			if _, err := conn.Exec(t.Context(), fmt.Sprintf("set application_name = 'daypass/%s/999999'", r.instance)); err != nil {
				t.Fatal(err)
			}
			go conn.Exec(context.Background(), squat)
		}
		eventually(t, "the lease queues for the lock", func() bool {
			return ask[int](t, r, "select count(*) from pg_locks where locktype = 'advisory' and not granted") >= 120
		})
		p.Close() // a restart of the broker
		r.boot.Add(1)
		next := r.open(t)
		if _, err := next.Grant(soon(t, 10*time.Second), order(targettest.Lease(), readers)); err != nil {
			t.Errorf("a lease that holds the lock stops others: %v", err)
		}
		if err := next.Revoke(soon(t, 20*time.Second), lease); err != nil {
			t.Errorf("a lease that holds the lock cannot be ended: %v", err)
		}
	})
}

// stubborn is a statement that looks at no signal for a long time: each product takes a while in which the server does
// not look, nor does it between the products of one row.
func stubborn() string {
	return "select length((" + strings.Repeat("n*n+", 600) + "0)::text) from (select repeat('7', 65000)::numeric as n offset 0) x"
}

func TestASessionThatHearsNoSignalDelaysNoOtherLease(t *testing.T) {
	versions(t, func(t *testing.T, r *rig) {
		p := r.open(t)
		bad, conn := entered(t, r, p, readers)
		go func() {
			begun := time.Now()
			_, err := conn.Exec(context.Background(), stubborn())
			t.Logf("the session ended after %v: %v", time.Since(begun), err)
		}()
		eventually(t, "the session is busy", func() bool {
			return ask[bool](t, r, "select exists (select from pg_stat_activity where usename = $1 and state = 'active')", r.name(bad))
		})
		var leases []string
		for range 6 {
			lease, _ := r.grant(t, p, readers)
			leases = append(leases, lease)
		}
		var all sync.WaitGroup
		begun := time.Now()
		all.Go(func() { p.Revoke(soon(t, 30*time.Second), bad); t.Logf("the stubborn one took %v", time.Since(begun)) })
		for _, lease := range leases {
			all.Go(func() {
				if err := p.Revoke(soon(t, 10*time.Second), lease); err != nil {
					t.Errorf("a neighbour of a stubborn session: after %v: %v", time.Since(begun), err)
				}
			})
		}
		all.Wait()
	})
}
