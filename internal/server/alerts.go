package server

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

// openSink makes a sink. It connects to nothing.
func openSink(s config.AlertSink, dialer egress.Dialer) (sink watch.Sink, err error) {
	sink = watch.Sink{Name: s.Name, Rate: float64(s.Rate)}
	var ca []byte
	if s.CA != "" {
		if ca, err = config.ReadFile("ca", s.CA); err != nil {
			return sink, fmt.Errorf("sink %q: %w", s.Name, err)
		}
	}
	switch web := (watch.Web{CA: ca, Egress: dialer, Now: time.Now}); {
	case s.Syslog != "":
		sink.Sender, err = watch.NewSyslog(watch.Syslog{Address: s.Syslog, CA: ca, Egress: dialer, Host: hostName(), Process: os.Getpid()})
	case s.Slack != "":
		web.URL = textOrFile("slack", s.Slack)
		sink.Sender, err = watch.NewSlack(web)
	default:
		web.URL = textOrFile("webhook", s.Webhook)
		if s.Key != "" {
			web.Key = textOrFile("key", s.Key)
		}
		sink.Sender, err = watch.NewWebhook(web)
	}
	if err != nil {
		return sink, fmt.Errorf("sink %q: %w", s.Name, err)
	}
	return sink, nil
}

// textOrFile returns a text, or what the file holds now that it refers to.
func textOrFile(field, text string) func() (secret.Text, error) {
	if config.IsFile(text) {
		return func() (secret.Text, error) {
			held, err := config.ReadFile(field, text)
			return secret.New(strings.TrimSpace(string(held))), err
		}
	}
	return func() (secret.Text, error) { return secret.New(text), nil }
}

func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "unnamed"
	}
	return host
}

// openSinks makes the sinks.
func openSinks(c config.Config) ([]watch.Sink, error) {
	var all []watch.Sink
	for _, s := range c.Alerts.Sinks {
		sink, err := openSink(s, c.Egress())
		if err != nil {
			return nil, err
		}
		all = append(all, sink)
	}
	return all, nil
}

// newWatcher makes the watcher. It asks how issuers are doing once it runs.
func (s *Server) newWatcher() (*watch.Watcher, error) {
	sinks, err := openSinks(s.cfg)
	if err != nil {
		return nil, err
	}
	a := s.cfg.Alerts
	cfg := watch.Config{
		Limits: watch.Limits{
			Quiet: time.Duration(a.Quiet), Failures: int64(a.Failures), Skew: time.Duration(a.Skew),
			Unreachable: time.Duration(a.Unreachable), KeysEnding: time.Duration(a.KeysEnding),
		},
		Sinks: sinks, Instance: s.store.Instance(), Server: processName(), Issuers: s.issuerHealth, Now: s.clock.Now, Log: s.log,
	}
	if s.store.Shared() {
		cfg.Claim = s.claimAlert
	}
	return watch.New(cfg), nil
}

// claimAlert reports whether this server tells of what all servers of the store see.
func (s *Server) claimAlert(ctx context.Context, what string, during time.Duration) (ours bool, err error) {
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.Keep("(alert "+what+")", during)
		return err
	})
	return ours, err
}

// issuerHealth returns how the active issuers are doing.
func (s *Server) issuerHealth() []watch.Health {
	var all []watch.Health
	for name, state := range s.verifiers.Keys() {
		h := watch.Health{Issuer: name}
		if state != nil {
			h.FailingSince, h.LastError, h.Keys, h.KeysUntil = state.FailingSince, state.LastError, state.Keys, state.KeysUntil
		}
		all = append(all, h)
	}
	return all
}

// addAlerts adds the open alerts, and warns of sinks that do not take any.
func (s *Server) addAlerts(out *api.Status) {
	for _, a := range s.watch.Open() {
		out.Alerts = append(out.Alerts, api.AlertStatus{
			Kind: string(a.Kind), Subject: a.Subject, Summary: a.Summary, Advice: a.Advice, Count: a.Count, Since: api.At(a.Since), Last: api.At(a.Last),
		})
	}
	for _, o := range s.watch.Outlets() {
		if o.Failing {
			out.Warnings = append(out.Warnings, fmt.Sprintf("sink %q takes no alerts, and %d wait for it: %s", o.Name, o.Waiting, o.LastError))
		}
	}
}

// SinkTest is what came of a test of one sink.
type SinkTest struct {
	Sink string
	Kind string // webhook, slack or syslog
	Err  error  // nil: it was handed over
}

// TestAlerts sends a test through each sink of a configuration. It needs no server that runs, and asks each sink once.
func TestAlerts(ctx context.Context, cfg config.Config) []SinkTest {
	var all []SinkTest
	for _, s := range cfg.Alerts.Sinks {
		kind := "webhook"
		switch {
		case s.Slack != "":
			kind = "slack"
		case s.Syslog != "":
			kind = "syslog"
		}
		sink, err := openSink(s, cfg.Egress())
		if err == nil {
			err = watch.Try(ctx, sink, watch.TestMessage("test", processName(), time.Now()))
		}
		all = append(all, SinkTest{Sink: s.Name, Kind: kind, Err: err})
	}
	return all
}
