package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "show how the server and its parts are doing", Args: exactly(),
		Long: wrap(`Shows the server, its queues, its targets and its issuers, and says what to type next where something is ill.
			Exits with 8 when the server answers but cannot give leases now.`),
		Example: `daypass status
daypass status --output json | jq .targets`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			status, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if err := a.show(status, func() { a.showStatus(status) }); err != nil {
				return err
			}
			hints := statusHints(status)
			if !status.Ready {
				return codedError{hinted(errors.New("the server cannot give leases now"), hints...), exitUnavailable}
			}
			for _, hint := range hints {
				a.hint("%s", hint)
			}
			return nil
		},
	}
}

// showStatus prints the server, then each kind of part in a table.
func (a *app) showStatus(s api.Status) {
	ready := green("ready")
	if !s.Ready {
		ready = red("not ready")
	}
	a.facts(fact{"server", ready + ", version " + clean(s.Version)},
		fact{"up since", a.stamp(s.StartedAt)},
		fact{"instance", fmt.Sprintf("%s, boot %d, epoch %d", clean(s.Instance), s.Boot, s.Epoch)},
		fact{"revision", clean(s.Revision)},
		fact{"leases", fmt.Sprintf("%d active, %d pending, %d revoking", s.Leases.Active, s.Leases.Pending, s.Leases.Revoking)},
		fact{"queues", a.queuesText(s.Queues)},
		fact{"locks", strconv.Itoa(s.Locks)},
		fact{"ledger", fmt.Sprintf("%d entries", s.Ledger.Size)},
		fact{"ledger key", clean(s.Ledger.Key)})
	a.showServers(s.Servers)
	a.showTargets(s.Targets)
	a.showIssuers(s.Issuers)
	a.showAlerts(s.Alerts)
	for _, warning := range s.Warnings {
		a.printf("%s %s\n", yellow("warning:"), clean(warning))
	}
}

// showServers prints a table, where several servers can share the store.
func (a *app) showServers(servers []api.ServerStatus) {
	var rows [][]string
	for _, s := range servers {
		name := clean(s.Name)
		if s.Self {
			name += " (this one)"
		}
		rows = append(rows, []string{name, strconv.FormatInt(s.Boot, 10), a.distance(s.SeenAt), clean(strings.Join(s.Keeps, " "))})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"SERVER", "BOOT", "SEEN", "WORKS FOR"}, rows)
	}
}

// queuesText tells what waits.
func (a *app) queuesText(q api.QueueStatus) string {
	text := "nothing waits for the store"
	if q.Store > 0 {
		text = count(q.Store, "update") + " for the store"
	}
	if late(q.ExpiredFrom, a.now()) {
		text += ", " + yellow("the oldest lease to end expired "+a.distance(*q.ExpiredFrom))
	}
	return text
}

// showTargets prints a table.
func (a *app) showTargets(targets []api.TargetStatus) {
	var rows [][]string
	for _, t := range targets {
		health, oldest, due, retry := mood(t.Health), "", "", ""
		if t.Draining {
			health += ", " + mood("draining")
		}
		if t.OldestRevoking != nil {
			oldest = a.distance(*t.OldestRevoking)
		}
		if t.DueFrom != nil {
			due = a.distance(*t.DueFrom)
		}
		if t.RetryAt != nil {
			retry = a.distance(*t.RetryAt)
		}
		rows = append(rows, []string{clean(t.Name), clean(t.Kind), health, strconv.Itoa(t.Leases.Active), strconv.Itoa(t.Leases.Revoking),
			oldest, due, retry, clean(t.Error)})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"TARGET", "KIND", "HEALTH", "ACTIVE", "REVOKING", "OLDEST", "DUE", "RETRY", "ERROR"}, rows)
	}
}

// showIssuers prints a table.
func (a *app) showIssuers(issuers []api.IssuerStatus) {
	var rows [][]string
	for _, i := range issuers {
		fetched := "never"
		if i.FetchedAt != nil {
			fetched = a.distance(*i.FetchedAt)
		}
		rows = append(rows, []string{clean(i.Name), mood(i.Health), strconv.Itoa(i.Keys), fetched, clean(i.URL), clean(i.Error)})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"ISSUER", "HEALTH", "KEYS", "FETCHED", "URL", "ERROR"}, rows)
	}
}

// showAlerts prints a table.
func (a *app) showAlerts(alerts []api.AlertStatus) {
	var rows [][]string
	for _, alert := range alerts {
		seen := ""
		if alert.Count > 0 {
			seen = strconv.FormatInt(alert.Count, 10)
		}
		rows = append(rows, []string{yellow(clean(alert.Kind)), clean(alert.Subject), a.distance(alert.Since), seen, clean(alert.Summary)})
	}
	if len(rows) > 0 {
		a.printf("\n")
		a.table([]string{"ALERT", "ABOUT", "SINCE", "SEEN", "WHAT"}, rows)
	}
}

const (
	patience = 5 * time.Minute // how long the proof of an end may take before somebody should look
	tardy    = 30 * time.Second
	crowded  = 1000 // updates that wait for the store
)

// late reports whether something has been due for so long that somebody should look.
func late(since *api.Time, now time.Time) bool { return since != nil && now.Sub(since.Time) > tardy }

// statusHints says what to type next where something is ill; nothing while all is well.
func statusHints(s api.Status) []string {
	var hints []string
	now := s.Now.Time
	switch {
	case s.Revision == "":
		hints = append(hints, "no access configuration is active: daypass apply DIR")
	case !s.Ready:
		hints = append(hints, "on the server's machine, look for a full disk or one that cannot be written: df -h; journalctl -u daypass -p warning")
	case s.Queues.Store > crowded || late(s.Queues.ExpiredFrom, now):
		hints = append(hints, "the store is slower than its work: on the server's machine, see whether its disk is busy: iostat -x 1")
	}
	for _, t := range s.Targets {
		hints = append(hints, targetHints(t, now)...)
	}
	for _, i := range s.Issuers {
		if i.Health == "failing" {
			hints = append(hints, fmt.Sprintf("see what the issuer %s answers, on the server's machine: curl -sS %s/.well-known/openid-configuration", clean(i.Name), clean(i.URL)))
		}
	}
	for _, alert := range s.Alerts {
		hints = append(hints, fmt.Sprintf("%s %s: %s", clean(alert.Kind), clean(alert.Subject), clean(alert.Advice)))
	}
	return slices.Compact(hints)
}

// targetHints says what to type next about one target.
func targetHints(t api.TargetStatus, now time.Time) []string {
	var hints []string
	switch {
	case t.Health != "failing":
	case t.Kind == "": // it is not in service: nobody could try it
		hints = append(hints, fmt.Sprintf("mend what the error of %s says: it is tried again by itself, and at once when the server gets SIGHUP", clean(t.Name)))
	default:
		hints = append(hints, "see what is wrong there, and what to type at the target: daypass target check "+clean(t.Name))
	}
	if t.OldestRevoking != nil && now.Sub(t.OldestRevoking.Time) > patience || late(t.DueFrom, now) {
		hints = append(hints, fmt.Sprintf("see the leases that wait for the proof of their end: daypass leases --target %s --state revoking", clean(t.Name)))
	}
	if t.Kind == "" && t.Leases.Active+t.Leases.Pending+t.Leases.Revoking > 0 {
		hints = append(hints, fmt.Sprintf("nothing can end the leases at %s until it is back in the access files: daypass access revisions", clean(t.Name)))
	}
	return hints
}
