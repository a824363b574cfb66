package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
	"github.com/daypass/daypass/target/targettest"
)

// benchServer syncs to disk as a real one does.
func benchServer(b *testing.B, version int) *rig {
	server := testbed.OwnPostgres(b, testbed.PostgresOptions{Version: version, Fsync: true, Settings: map[string]string{"max_connections": "200"}})
	return newRig(b, server)
}

// hammer runs do from many callers at once until d has passed, and returns how many came through per second and
// the median time of one.
func hammer(b *testing.B, callers int, d time.Duration, do func(caller int) error) (perSecond float64, median time.Duration) {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	times := make([][]time.Duration, callers)
	start := time.Now()
	for caller := range callers {
		all.Go(func() {
			for time.Since(start) < d {
				begun := time.Now()
				if err := do(caller); err != nil {
					b.Error(err)
					return
				}
				times[caller] = append(times[caller], time.Since(begun))
				done.Add(1)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	return float64(done.Load()) / elapsed.Seconds(), middle(times)
}

func middle(times [][]time.Duration) time.Duration {
	buckets := map[time.Duration]int{}
	total := 0
	var most time.Duration
	for _, list := range times {
		for _, d := range list {
			d = d.Round(50 * time.Microsecond)
			buckets[d]++
			total++
			most = max(most, d)
		}
	}
	seen := 0
	for d := time.Duration(0); d <= most; d += 50 * time.Microsecond {
		if seen += buckets[d]; 2*seen >= total {
			return d
		}
	}
	return most
}

// byHand creates logins as a person with the same verifier would: one statement each, a connection per caller.
func byHand(b *testing.B, r *rig, callers int, d time.Duration, verifier string) (float64, time.Duration) {
	conns := make([]*pgx.Conn, callers)
	for i := range conns {
		conn, err := pgx.Connect(b.Context(), r.server.URL(r.admin, adminPassword, r.database))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(context.Background())
		conns[i] = conn
	}
	return hammer(b, callers, d, func(caller int) error {
		_, err := conns[caller].Exec(b.Context(), fmt.Sprintf("create role hand_%s login password '%s' valid until '2040-01-01' in role %s",
			targettest.Lease(), verifier, r.reader), pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// clear drops what byHand and grants made, as the superuser.
func (r *rig) clear(b *testing.B) {
	for ask[bool](b, r, "select exists (select from pg_roles where rolname ~ '^(hand|dp)_')") {
		r.must(b, `do $$ declare names text; begin
			select string_agg(quote_ident(rolname), ', ') into names from (select rolname from pg_roles where rolname ~ '^(hand|dp)_' limit 2000) few;
			execute 'drop role ' || names; end $$`)
	}
}

// BenchmarkGrant compares grants with the same SQL by hand in the same run. Run it with -benchtime 1x.
func BenchmarkGrant(b *testing.B) {
	const each = 3 * time.Second
	for _, version := range []int{15, 18} {
		r := benchServer(b, version)
		p := r.open(b)
		for _, rounds := range []int{4096, 1} {
			verifier, err := postgres.Verifier(rounds)
			if err != nil {
				b.Fatal(err)
			}
			rights := fmt.Sprintf(`{"in_role":[%q],"scram_iterations":%d}`, r.reader, rounds)
			for _, callers := range []int{1, 16, 64} {
				b.Run(fmt.Sprintf("pg%d/rounds%d/callers%d", version, rounds, callers), func(b *testing.B) {
					if _, err := p.Grant(b.Context(), order(targettest.Lease(), rights)); err != nil {
						b.Fatal(err)
					}
					for b.Loop() {
						hand, handMedian := byHand(b, r, callers, each, verifier)
						r.clear(b)
						ours, median := hammer(b, callers, each, func(int) error {
							_, err := p.Grant(b.Context(), order(targettest.Lease(), rights))
							return err
						})
						r.clear(b)
						b.ReportMetric(hand, "hand/s")
						b.ReportMetric(ours, "grants/s")
						b.ReportMetric(ours/hand, "ratio")
						b.ReportMetric(float64(handMedian.Microseconds())/1000, "hand-p50-ms")
						b.ReportMetric(float64(median.Microseconds())/1000, "p50-ms")
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// BenchmarkTenThousand fills a server with 10,000 live logins through grants on tables, looks whether one more is
// as cheap as the first, and revokes them all. Run it with -benchtime 1x.
func BenchmarkTenThousand(b *testing.B) {
	const many = 10_000
	for _, version := range []int{15, 18} {
		b.Run(fmt.Sprintf("pg%d", version), func(b *testing.B) {
			r := benchServer(b, version)
			for i := range 10 {
				r.must(b, fmt.Sprintf("set role %s; create table public.table_%d (id int)", r.owner, i))
			}
			p := r.open(b)
			grant := func() (string, error) {
				lease := targettest.Lease()
				_, err := p.Grant(b.Context(), order(lease, readers))
				return lease, err
			}
			for b.Loop() {
				rate := func() float64 {
					perSecond, _ := hammer(b, 16, 2*time.Second, func(int) error { _, err := grant(); return err })
					return perSecond
				}
				empty := rate()
				start := time.Now()
				fill(b, p, many-int(ask[int64](b, r, "select count(*) from pg_roles where rolname like 'dp\\_%'")))
				filled := time.Since(start)
				full := rate()
				leases := live(b, p)
				start = time.Now()
				var all sync.WaitGroup
				for _, lease := range leases {
					all.Go(func() {
						if err := p.Revoke(b.Context(), lease); err != nil {
							b.Error(err)
						}
					})
				}
				all.Wait()
				b.ReportMetric(empty, "grants/s-empty")
				b.ReportMetric(full, "grants/s-at-10000")
				b.ReportMetric(filled.Seconds(), "fill-s")
				b.ReportMetric(float64(len(leases)), "revoked")
				b.ReportMetric(time.Since(start).Seconds(), "revoke-s")
				if left := live(b, p); len(left) > 0 {
					b.Errorf("%d leases live", len(left))
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fill makes many logins.
func fill(b *testing.B, p target.Target, many int) {
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			for i := caller; i < many; i += 64 {
				if _, err := p.Grant(b.Context(), order(targettest.Lease(), readers)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func live(b *testing.B, p target.Lister) []string {
	var leases []string
	for lease, err := range p.Leases(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		leases = append(leases, lease)
	}
	return leases
}
