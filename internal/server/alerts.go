package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

// checkAlerts checks the section alerts.
func (c *Config) checkAlerts(wrong report) {
	a := c.Alerts
	if a.Quiet < 0 || a.Quiet > 0 && a.Quiet < Period(time.Minute) {
		wrong("alerts.quiet", "a thing is over after a minute at least", "write a period such as 10m")
	}
	if a.Failures < 0 {
		wrong("alerts.failures", "a number of attempts cannot be negative", "")
	}
	names := map[string]bool{}
	for i, sink := range a.Sinks {
		field := fmt.Sprintf("alerts.sinks[%d]", i)
		if !access.ValidName(sink.Name) {
			wrong(field, fmt.Sprintf("%q cannot be the name of a sink", sink.Name), "names have 1 to 40 of a-z, 0-9 and -")
		}
		if names[sink.Name] {
			wrong(field, fmt.Sprintf("two sinks are called %q", sink.Name), "")
		}
		names[sink.Name] = true
		if err := sink.check(); err != nil {
			wrong(field, fmt.Sprintf("sink %q: %v", sink.Name, err), "write webhook, slack or syslog")
		}
	}
}

// check returns what keeps a sink from being one.
func (s AlertSink) check() error {
	given := 0
	for _, kind := range []string{s.Webhook, s.Slack, s.Syslog} {
		if kind != "" {
			given++
		}
	}
	if given != 1 {
		return fmt.Errorf("it has %d of webhook, slack and syslog: one is wanted", given)
	}
	if s.Key != "" && s.Webhook == "" {
		return errors.New("a key signs webhooks alone")
	}
	for _, reference := range []string{s.Key, s.CA} {
		if reference == "" {
			continue
		}
		if _, err := keyring.Path(reference); err != nil {
			return err
		}
	}
	if s.Syslog != "" {
		_, err := watch.NewSyslog(watch.Syslog{Address: s.Syslog})
		return err
	}
	where := cmp.Or(s.Webhook, s.Slack)
	if isFile(where) {
		_, err := keyring.Path(where)
		return err
	}
	if err := watch.CheckURL(where); err != nil {
		return fmt.Errorf("its URL: %w", err)
	}
	return nil
}

func isFile(reference string) bool { return strings.HasPrefix(reference, "file:") }

// open makes a sink. It connects to nothing.
func (s AlertSink) open(dialer egress.Dialer) (sink watch.Sink, err error) {
	sink = watch.Sink{Name: s.Name, Rate: float64(s.Rate)}
	var ca []byte
	if s.CA != "" {
		if ca, err = readReference("ca", s.CA); err != nil {
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
	if isFile(text) {
		return func() (secret.Text, error) {
			held, err := readReference(field, text)
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

// egress is how connections are made that others choose the other end of.
func (c Config) egress() egress.Dialer { return egress.Dialer{Allow: c.ConnectTo} }

// openSinks makes the sinks.
func (c Config) openSinks() ([]watch.Sink, error) {
	var all []watch.Sink
	for _, s := range c.Alerts.Sinks {
		sink, err := s.open(c.egress())
		if err != nil {
			return nil, err
		}
		all = append(all, sink)
	}
	return all, nil
}

// newWatcher makes the watcher. It asks how issuers are doing once it runs.
func (s *Server) newWatcher() (*watch.Watcher, error) {
	sinks, err := s.cfg.openSinks()
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
func TestAlerts(ctx context.Context, cfg Config) []SinkTest {
	var all []SinkTest
	for _, s := range cfg.Alerts.Sinks {
		kind := "webhook"
		switch {
		case s.Slack != "":
			kind = "slack"
		case s.Syslog != "":
			kind = "syslog"
		}
		sink, err := s.open(cfg.egress())
		if err == nil {
			err = watch.Try(ctx, sink, watch.TestMessage("test", processName(), time.Now()))
		}
		all = append(all, SinkTest{Sink: s.Name, Kind: kind, Err: err})
	}
	return all
}
