package watch

import "github.com/prometheus/client_golang/prometheus"

// The figures of the watch.
var (
	openDesc    = prometheus.NewDesc("daypass_alerts_open", "Alerts of the issuer watch that are open, by kind.", []string{"alert"}, nil)
	openedDesc  = prometheus.NewDesc("daypass_alerts_total", "Alerts of the issuer watch that this server opened, by kind.", []string{"alert"}, nil)
	aheadDesc   = prometheus.NewDesc("daypass_issuer_clock_ahead_seconds", "How far the issuer's clock is ahead of ours at least, by the tokens of the last minutes.", []string{"issuer"}, nil)
	knocksDesc  = prometheus.NewDesc("daypass_unknown_issuer_tokens_total", "Tokens that named an issuer that is not configured.", nil, nil)
	droppedDesc = prometheus.NewDesc("daypass_watch_dropped_total", "Observations that the issuer watch could not take up in time.", nil, nil)
	sentDesc    = prometheus.NewDesc("daypass_alert_deliveries_total", "Alerts for each sink, by outcome (sent, dropped: too many waited, abandoned: it was tried for an hour).", []string{"sink", "outcome"}, nil)
	sinkDesc    = prometheus.NewDesc("daypass_alert_sink_up", "0 while the last attempt to send to the sink failed.", []string{"sink"}, nil)
	waitingDesc = prometheus.NewDesc("daypass_alert_sink_waiting", "Alerts that wait for the sink.", []string{"sink"}, nil)
)

// Describe implements [prometheus.Collector].
func (w *Watcher) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, openedDesc, aheadDesc, knocksDesc, droppedDesc, sentDesc, sinkDesc, waitingDesc} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (w *Watcher) Collect(out chan<- prometheus.Metric) {
	value := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
	}
	w.mu.Lock()
	for _, kind := range Kinds() {
		value(openDesc, prometheus.GaugeValue, float64(w.book.count(kind)), string(kind))
		value(openedDesc, prometheus.CounterValue, float64(w.book.opened[kind]), string(kind))
	}
	for issuer, ahead := range w.ahead {
		value(aheadDesc, prometheus.GaugeValue, ahead.Seconds(), issuer)
	}
	value(knocksDesc, prometheus.CounterValue, float64(w.asked))
	w.mu.Unlock()
	value(droppedDesc, prometheus.CounterValue, float64(w.dropped.Load()))
	for _, o := range w.Outlets() {
		up := 1.0
		if o.Failing {
			up = 0
		}
		value(sinkDesc, prometheus.GaugeValue, up, o.Name)
		value(waitingDesc, prometheus.GaugeValue, float64(o.Waiting), o.Name)
		value(sentDesc, prometheus.CounterValue, float64(o.Sent), o.Name, "sent")
		value(sentDesc, prometheus.CounterValue, float64(o.Dropped), o.Name, "dropped")
		value(sentDesc, prometheus.CounterValue, float64(o.Abandons), o.Name, "abandoned")
	}
}
