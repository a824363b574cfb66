package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/fault"
)

// figures are the broker's metrics.
type figures struct {
	acquisitions *prometheus.HistogramVec
	grants       *prometheus.HistogramVec
	ended        *prometheus.CounterVec
	rejected     prometheus.Counter
	denied       prometheus.Counter
	renewed      prometheus.Counter
	reviews      *prometheus.CounterVec
	reports      prometheus.Counter
	enrolments   *prometheus.CounterVec
}

func newFigures() *figures {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 14)
	f := &figures{
		acquisitions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_acquire_seconds", Help: "Acquisitions from evidence to credential, by target and outcome.", Buckets: buckets},
			[]string{"target", "outcome"}),
		grants: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_grant_seconds", Help: "The part of an acquisition that a target took.", Buckets: buckets},
			[]string{"target", "outcome"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_leases_ended_by_request_total", Help: "Leases ended by a request, by reason."}, []string{"reason"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_evidence_rejected_total", Help: "Evidence that was not accepted."}),
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_denials_total", Help: "Requests that policies, locks or a missing role denied."}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_renewals_total", Help: "Leases renewed."}),
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_reviews_total", Help: "Live leases decided again because posture, the access configuration or the time changed, by outcome (holds, ended, unknown)."},
			[]string{"outcome"}),
		reports: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_posture_reports_total", Help: "Posture records that were taken."}),
		enrolments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_enrolments_total", Help: "Devices that enrolled or renewed their term, or tried to, by step (enrol, renew) and outcome."},
			[]string{"step", "outcome"}),
	}
	// What seldom happens is there from the beginning, so that alarms have something to compare with.
	for _, outcome := range []string{holds, fails, unknown} {
		f.reviews.WithLabelValues(outcome)
	}
	for _, step := range []string{"enrol", "renew"} {
		f.enrolments.WithLabelValues(step, outcome(nil))
	}
	return f
}

// outcome is "ok" or the kind of the error.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(fault.KindOf(err))
}

// acquired counts an acquisition. A target is named only once the principal was allowed it, so that strangers
// cannot make label values.
func (f *figures) acquired(targetName string, err error, took time.Duration) {
	f.acquisitions.WithLabelValues(targetName, outcome(err)).Observe(took.Seconds())
}

func (f *figures) granted(targetName string, err error, took time.Duration) {
	f.grants.WithLabelValues(targetName, outcome(err)).Observe(took.Seconds())
}

// Describe implements [prometheus.Collector].
func (b *Broker) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, out) }

// Collect implements [prometheus.Collector].
func (b *Broker) Collect(out chan<- prometheus.Metric) {
	f := b.figures
	for _, c := range []prometheus.Collector{f.acquisitions, f.grants, f.ended, f.rejected, f.denied, f.renewed, f.reviews, f.reports, f.enrolments} {
		c.Collect(out)
	}
}
