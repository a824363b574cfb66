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
	renewed      prometheus.Counter
}

func newFigures() *figures {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 14)
	return &figures{
		acquisitions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_acquire_seconds", Help: "Acquisitions from evidence to credential, by target and outcome.", Buckets: buckets},
			[]string{"target", "outcome"}),
		grants: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_grant_seconds", Help: "The part of an acquisition that a target took.", Buckets: buckets},
			[]string{"target", "outcome"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_leases_ended_by_request_total", Help: "Leases ended by a request, by reason."}, []string{"reason"}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_renewals_total", Help: "Leases renewed."}),
	}
}

// acquired counts an acquisition. A target is named only once the principal was allowed it, so that strangers
// cannot make label values.
func (f *figures) acquired(targetName string, err error, took time.Duration) {
	f.acquisitions.WithLabelValues(targetName, fault.Outcome(err)).Observe(took.Seconds())
}

func (f *figures) granted(targetName string, err error, took time.Duration) {
	f.grants.WithLabelValues(targetName, fault.Outcome(err)).Observe(took.Seconds())
}

// Describe implements [prometheus.Collector].
func (b *Broker) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, out) }

// Collect implements [prometheus.Collector].
func (b *Broker) Collect(out chan<- prometheus.Metric) {
	f := b.figures
	for _, c := range []prometheus.Collector{f.acquisitions, f.grants, f.ended, f.renewed} {
		c.Collect(out)
	}
}
