package revoker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/store"
)

// figures are the revoker's metrics.
type figures struct {
	ended         *prometheus.CounterVec
	revocations   *prometheus.CounterVec
	revocationAge *prometheus.HistogramVec
	attempts      *prometheus.HistogramVec
	strays        *prometheus.CounterVec
	missing       *prometheus.GaugeVec
	residue       *prometheus.GaugeVec
	clockHeld     prometheus.Gauge
}

func newFigures() *figures {
	return &figures{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_leases_ended_total", Help: "Leases ended by the revoker, by reason."}, []string{"reason"}),
		revocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_revocations_total", Help: "Attempts to revoke a credential, by target and outcome."}, []string{"target", "outcome"}),
		revocationAge: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_revocation_seconds", Help: "Time from the end of a lease to the proof of its credential's death.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 10)}, []string{"target"}),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_revoke_seconds", Help: "The part of a revocation that a target took, for each attempt.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"target"}),
		strays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_strays_destroyed_total", Help: "Credentials found at a target that no live lease covered."}, []string{"target"}),
		missing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "daypass_leases_missing", Help: "Active leases without a credential at their target, at the last sweep."}, []string{"target"}),
		residue: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "daypass_residue_objects", Help: "Objects that dead leases left at a target."}, []string{"target"}),
		clockHeld: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "daypass_clock_held", Help: "1 while expiries are held back because the wall clock jumped."}),
	}
}

// touch makes the counters of a target, at 0 where they have not counted yet: an alarm sees the step from 0 to 1 and
// not the appearance of a 1.
func (f *figures) touch(target string) {
	f.strays.WithLabelValues(target)
	for _, outcome := range []string{"proved", "failed"} {
		f.revocations.WithLabelValues(target, outcome)
	}
}

func boolFigure(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// The figures that are read from the store and the fleet at each scrape.
var (
	leasesDesc = prometheus.NewDesc("daypass_leases", "Leases by target and state.", []string{"target", "state"}, nil)
	oldestDesc = prometheus.NewDesc("daypass_revoking_oldest_seconds",
		"Age of the oldest lease that waits for the proof of its death. Alarm on it.", []string{"target"}, nil)
	reachableDesc = prometheus.NewDesc("daypass_target_up", "0 while the target's circuit breaker is open.", []string{"target"}, nil)
	narrowedDesc  = prometheus.NewDesc("daypass_target_narrowed",
		"0 while leases that live may hold more than their roles do by now.", []string{"target"}, nil)
)

// Describe implements [prometheus.Collector].
func (r *Revoker) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(r, out)
}

// Collect implements [prometheus.Collector].
func (r *Revoker) Collect(out chan<- prometheus.Metric) {
	f := r.figures
	for _, m := range r.fleet.Members() {
		f.touch(m.name)
	}
	for _, c := range []prometheus.Collector{f.ended, f.revocations, f.revocationAge, f.attempts, f.strays, f.missing, f.residue, f.clockHeld} {
		c.Collect(out)
	}
	now := r.clock.Now()
	for _, m := range r.fleet.Members() {
		out <- prometheus.MustNewConstMetric(reachableDesc, prometheus.GaugeValue, boolFigure(!m.Health(now).Unreachable), m.name)
		if m.narrower != nil {
			out <- prometheus.MustNewConstMetric(narrowedDesc, prometheus.GaugeValue, boolFigure(m.Narrowed()), m.name)
		}
	}
	r.collectTallies(out, now)
}

func (r *Revoker) collectTallies(out chan<- prometheus.Metric, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var tallies []store.TargetTally
	err := r.store.View(ctx, func(tx *store.Tx) (err error) {
		tallies, err = tx.Targets()
		return err
	})
	if err != nil {
		r.log.Warn("read the tallies for metrics", "err", err)
		return
	}
	for _, t := range tallies {
		for state, n := range map[string]int{"pending": t.Pending, "active": t.Active, "revoking": t.Revoking} {
			out <- prometheus.MustNewConstMetric(leasesDesc, prometheus.GaugeValue, float64(n), t.Target, state)
		}
		age := 0.0
		if !t.OldestRevoking.IsZero() {
			age = now.Sub(t.OldestRevoking).Seconds()
		}
		out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age, t.Target)
	}
}
