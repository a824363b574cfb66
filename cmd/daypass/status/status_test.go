package status

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
)

func TestStatusSaysWhatToTypeWhereSomethingIsIll(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *api.Time { at := api.At(now.Add(-d)); return &at }
	for _, c := range []struct {
		what   string
		change func(*api.Status)
		want   []string
	}{
		{"all is well", func(*api.Status) {}, nil},
		{"nothing is configured", func(s *api.Status) { s.Ready, s.Revision = false, "" }, []string{"daypass apply"}},
		{"the store cannot be written", func(s *api.Status) { s.Ready = false }, []string{"df -h"}},
		{"the store is slow", func(s *api.Status) { s.Queues.Store = 2000 }, []string{"iostat"}},
		{"an update waits", func(s *api.Status) { s.Queues.Store = 1 }, nil},
		{"leases outlive their expiry", func(s *api.Status) { s.Queues.ExpiredFrom = ago(time.Minute) }, []string{"iostat"}},
		{"a lease has just expired", func(s *api.Status) { s.Queues.ExpiredFrom = ago(time.Second) }, nil},
		{"a target fails", func(s *api.Status) { s.Targets[0].Health = "failing" }, []string{"daypass target check orders-db"}},
		{"a target is not in service", func(s *api.Status) { s.Targets[0].Kind, s.Targets[0].Health = "", "failing" }, []string{"SIGHUP"}},
		{"a revocation is stuck", func(s *api.Status) { s.Targets[0].OldestRevoking = ago(time.Hour) }, []string{"daypass leases --target orders-db --state revoking"}},
		{"a revocation is late", func(s *api.Status) { s.Targets[0].DueFrom = ago(time.Minute) }, []string{"daypass leases --target orders-db --state revoking"}},
		{"a revocation has just begun", func(s *api.Status) {
			s.Targets[0].OldestRevoking, s.Targets[0].DueFrom = ago(time.Second), ago(time.Second)
		}, nil},
		{"leases at a target that nobody names", func(s *api.Status) { s.Targets[0].Kind, s.Targets[0].Leases.Active = "", 1 }, []string{"daypass access revisions"}},
		{"an issuer fails", func(s *api.Status) { s.Issuers[0].Health = "failing" }, []string{"curl -sS https://issuer.example/.well-known/openid-configuration"}},
		{"a target and an issuer fail", func(s *api.Status) { s.Targets[0].Health, s.Issuers[0].Health = "failing", "failing" }, []string{"target check", "curl"}},
	} {
		status := api.Status{Now: api.At(now), Ready: true, Revision: "r1",
			Targets: []api.TargetStatus{{Name: "orders-db", Kind: "postgres", Health: "ok"}},
			Issuers: []api.IssuerStatus{{Name: "github", URL: "https://issuer.example", Health: "ok", Keys: 2}}}
		c.change(&status)
		got := statusHints(status)
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.what, got)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q does not say %q", c.what, got[i], want)
			}
		}
	}
}
