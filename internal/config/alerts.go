package config

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/keyring"
	"github.com/daypass/daypass/internal/watch"
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
	if IsFile(where) {
		_, err := keyring.Path(where)
		return err
	}
	if err := watch.CheckURL(where); err != nil {
		return fmt.Errorf("its URL: %w", err)
	}
	return nil
}
