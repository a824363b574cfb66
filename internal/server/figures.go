package server

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/httpapi"
	"github.com/daypass/daypass/internal/store"
)

// figures are the metrics of what the server alone sees whole: issuers, the store's queue and its commits, the
// ledger, and how late the work of the revoker is.
type figures struct {
	server        *Server
	verifications *prometheus.HistogramVec
	commits       prometheus.Histogram
	oauth         *prometheus.CounterVec
	refusals      *prometheus.CounterVec
}

func newFigures(s *Server) *figures {
	f := &figures{
		server: s,
		verifications: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daypass_verify_seconds", Help: "Verifications of workload tokens, by issuer (none: not configured) and outcome (ok, rejected, unavailable).",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}, []string{"issuer", "outcome"}),
		oauth: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_oauth_answers_total", Help: "Answers of the OAuth endpoints, by endpoint (token, introspect, revoke) and outcome: ok, or the error of RFC 6749 and its successors."},
			[]string{"endpoint", "outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daypass_refusals_total", Help: "Requests that were answered with a problem, by its code: a word of the list of problems."}, []string{"code"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "daypass_store_commit_updates", Help: "Updates that shared one durable commit of the store.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
	}
	for _, code := range httpapi.Codes() {
		f.refusals.WithLabelValues(code) // each begins at zero
	}
	return f
}

// verifying begins to count a verification, which what it returns ends. The issuer is a name of the configuration or
// nothing: strangers cannot make label values.
func (f *figures) verifying() func(issuer string, err error) {
	begun := time.Now()
	return func(issuer string, err error) {
		f.verifications.WithLabelValues(issuer, outcomeOf(err)).Observe(time.Since(begun).Seconds())
	}
}

// outcomeOf is the word for how a verification ended.
func outcomeOf(err error) string {
	switch {
	case errors.Is(err, identity.ErrRejected):
		return "rejected"
	case err != nil:
		return "unavailable"
	}
	return "ok"
}

// oauthAnswered counts an answer of an OAuth endpoint. Both are words of ours.
func (f *figures) oauthAnswered(endpoint, outcome string) {
	f.oauth.WithLabelValues(endpoint, outcome).Inc()
}

// refused counts a problem by its code, which is a word of ours.
func (f *figures) refused(code string) { f.refusals.WithLabelValues(code).Inc() }

// committed counts a commit of the store.
func (f *figures) committed(updates int) { f.commits.Observe(float64(updates)) }

// The figures that are read at each scrape.
var (
	buildDesc   = prometheus.NewDesc("daypass_build_info", "1, with the version that runs.", []string{"version"}, nil)
	readyDesc   = prometheus.NewDesc("daypass_ready", "1 while leases can be acquired, as /readyz says.", nil, nil)
	locksDesc   = prometheus.NewDesc("daypass_locks", "Locks in force.", nil, nil)
	entriesDesc = prometheus.NewDesc("daypass_ledger_entries_total", "Entries of the ledger.", nil, nil)
	waitingDesc = prometheus.NewDesc("daypass_store_waiting_updates", "Updates that wait for the store's writer.", nil, nil)
	expiryDesc  = prometheus.NewDesc("daypass_expiry_lag_seconds", "How long the oldest active lease has outlived its expiry. Near 0 while all is well.", nil, nil)
	dueDesc     = prometheus.NewDesc("daypass_revocation_lag_seconds",
		"How long the oldest revocation that is due waits for its next attempt. It grows when a target is slower than its work.", []string{"target"}, nil)
	issuerDesc = prometheus.NewDesc("daypass_issuer_up", "0 while the issuer does not give its keys.", []string{"issuer"}, nil)
	keysDesc   = prometheus.NewDesc("daypass_issuer_keys", "Keys of the issuer that are usable now. 0: none of its tokens can be verified.", []string{"issuer"}, nil)
	keyAgeDesc = prometheus.NewDesc("daypass_issuer_keys_age_seconds", "Time since the keys in use were fetched.", []string{"issuer"}, nil)
	askedDesc  = prometheus.NewDesc("daypass_issuer_fetches_total", "Fetches of the issuer's keys, by outcome (ok, failed).", []string{"issuer", "outcome"}, nil)
)

// Describe implements [prometheus.Collector].
func (f *figures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildDesc, readyDesc, locksDesc, entriesDesc, waitingDesc, expiryDesc, dueDesc, issuerDesc, keysDesc, keyAgeDesc, askedDesc, locationDesc, placesDesc} {
		out <- d
	}
	f.verifications.Describe(out)
	f.oauth.Describe(out)
	f.refusals.Describe(out)
	f.commits.Describe(out)
}

// gauge sends a value that was read just now.
func gauge(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

// counter sends a count that somebody else keeps.
func counter(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
}

// Collect implements [prometheus.Collector].
func (f *figures) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f.verifications.Collect(out)
	f.oauth.Collect(out)
	f.refusals.Collect(out)
	f.commits.Collect(out)
	ready := 0.0
	if len(f.server.ready.reasons(ctx)) == 0 {
		ready = 1
	}
	gauge(out, buildDesc, 1, f.server.options.Version)
	gauge(out, readyDesc, ready)
	gauge(out, waitingDesc, float64(f.server.store.Waiting()))
	now := f.server.clock.Now()
	f.collectIssuers(out, now)
	f.collectLocation(out)
	if err := f.collectStore(ctx, out, now); err != nil {
		f.server.log.Warn("read the store for metrics", "err", err)
	}
}

func (f *figures) collectIssuers(out chan<- prometheus.Metric, now time.Time) {
	for name, state := range f.server.verifiers.Keys() {
		if state == nil {
			continue
		}
		up := 1.0
		if state.Failing {
			up = 0
		}
		gauge(out, issuerDesc, up, name)
		gauge(out, keysDesc, float64(state.Keys), name)
		if !state.KeysAt.IsZero() {
			gauge(out, keyAgeDesc, max(0, now.Sub(state.KeysAt).Seconds()), name)
		}
		counter(out, askedDesc, float64(state.Fetches-state.Failures), name, "ok")
		counter(out, askedDesc, float64(state.Failures), name, "failed")
	}
}

// collectStore reads what takes the same time however many leases there are.
func (f *figures) collectStore(ctx context.Context, out chan<- prometheus.Metric, now time.Time) error {
	return f.server.store.View(ctx, func(tx *store.Tx) error {
		size, err := tx.LedgerSize()
		if err != nil {
			return err
		}
		locks, err := tx.ActiveLocks(now)
		if err != nil {
			return err
		}
		expiry, some, err := tx.NextExpiry()
		if err != nil {
			return err
		}
		counter(out, entriesDesc, float64(size))
		gauge(out, locksDesc, float64(len(locks)))
		gauge(out, expiryDesc, lag(now, expiry, some))
		for _, m := range f.server.fleet.Members() {
			due, some, err := tx.NextDue(m.Name())
			if err != nil {
				return err
			}
			gauge(out, dueDesc, lag(now, due, some), m.Name())
		}
		return nil
	})
}

// lag is how long ago something was due, in seconds; 0 when nothing is.
func lag(now, due time.Time, some bool) float64 {
	if !some {
		return 0
	}
	return max(0, now.Sub(due).Seconds())
}
