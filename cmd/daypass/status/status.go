package status

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "show how the server and its parts are doing", Args: command.Exactly(),
		Long: command.Wrap(`Shows the server, its queues, its targets and its issuers, and says what to type next where something is ill.
			Exits with 8 when the server answers but cannot give leases now.`),
		Example: `daypass status
daypass status --output json | jq .targets`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			status, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			if err := a.Show(status, func() { a.showStatus(status) }); err != nil {
				return err
			}
			hints := statusHints(status)
			if !status.Ready {
				return terminal.Coded(terminal.Hinted(errors.New("the server cannot give leases now"), hints...), terminal.ExitUnavailable)
			}
			for _, hint := range hints {
				a.Hint("%s", hint)
			}
			return nil
		},
	}
}

// showStatus prints the server, then each kind of part in a table.
func (a *app) showStatus(s api.Status) {
	ready := terminal.Green("ready")
	if !s.Ready {
		ready = terminal.Red("not ready")
	}
	a.Facts([]terminal.Fact{{"server", ready + ", version " + terminal.Clean(s.Version)},
		{"up since", a.Stamp(s.StartedAt)},
		{"instance", fmt.Sprintf("%s, boot %d, epoch %d", terminal.Clean(s.Instance), s.Boot, s.Epoch)},
		{"revision", terminal.Clean(s.Revision)},
		{"leases", fmt.Sprintf("%d active, %d pending, %d revoking", s.Leases.Active, s.Leases.Pending, s.Leases.Revoking)},
		{"queues", a.queuesText(s.Queues)},
		{"locks", strconv.Itoa(s.Locks)},
		{"ledger", fmt.Sprintf("%d entries", s.Ledger.Size)},
		{"ledger key", terminal.Clean(s.Ledger.Key)}})
	a.showServers(s.Servers)
	a.showTargets(s.Targets)
	a.showIssuers(s.Issuers)
	a.showAlerts(s.Alerts)
	for _, warning := range s.Warnings {
		a.Printf("%s %s\n", terminal.Yellow("warning:"), terminal.Clean(warning))
	}
}

// showServers prints a table, where several servers can share the store.
func (a *app) showServers(servers []api.ServerStatus) {
	var rows [][]string
	for _, s := range servers {
		name := terminal.Clean(s.Name)
		if s.Self {
			name += " (this one)"
		}
		rows = append(rows, []string{name, strconv.FormatInt(s.Boot, 10), a.Distance(s.SeenAt), terminal.Clean(strings.Join(s.Keeps, " "))})
	}
	if len(rows) > 0 {
		a.Printf("\n")
		a.Table([]string{"SERVER", "BOOT", "SEEN", "WORKS FOR"}, rows)
	}
}

// queuesText tells what waits.
func (a *app) queuesText(q api.QueueStatus) string {
	text := "nothing waits for the store"
	if q.Store > 0 {
		text = terminal.Count(q.Store, "update") + " for the store"
	}
	if late(q.ExpiredFrom, a.Now()) {
		text += ", " + terminal.Yellow("the oldest lease to end expired "+a.Distance(*q.ExpiredFrom))
	}
	return text
}

// showTargets prints a table.
func (a *app) showTargets(targets []api.TargetStatus) {
	var rows [][]string
	for _, t := range targets {
		health, oldest, due, retry := terminal.Mood(t.Health), "", "", ""
		if t.Draining {
			health += ", " + terminal.Mood("draining")
		}
		if t.OldestRevoking != nil {
			oldest = a.Distance(*t.OldestRevoking)
		}
		if t.DueFrom != nil {
			due = a.Distance(*t.DueFrom)
		}
		if t.RetryAt != nil {
			retry = a.Distance(*t.RetryAt)
		}
		rows = append(rows, []string{terminal.Clean(t.Name), terminal.Clean(t.Kind), health, strconv.Itoa(t.Leases.Active), strconv.Itoa(t.Leases.Revoking),
			oldest, due, retry, terminal.Clean(t.Error)})
	}
	if len(rows) > 0 {
		a.Printf("\n")
		a.Table([]string{"TARGET", "KIND", "HEALTH", "ACTIVE", "REVOKING", "OLDEST", "DUE", "RETRY", "ERROR"}, rows)
	}
}

// showIssuers prints a table.
func (a *app) showIssuers(issuers []api.IssuerStatus) {
	var rows [][]string
	for _, i := range issuers {
		fetched := "never"
		if i.FetchedAt != nil {
			fetched = a.Distance(*i.FetchedAt)
		}
		rows = append(rows, []string{terminal.Clean(i.Name), terminal.Mood(i.Health), strconv.Itoa(i.Keys), fetched, terminal.Clean(i.URL), terminal.Clean(i.Error)})
	}
	if len(rows) > 0 {
		a.Printf("\n")
		a.Table([]string{"ISSUER", "HEALTH", "KEYS", "FETCHED", "URL", "ERROR"}, rows)
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
		rows = append(rows, []string{terminal.Yellow(terminal.Clean(alert.Kind)), terminal.Clean(alert.Subject), a.Distance(alert.Since), seen,
			terminal.Clean(alert.Summary)})
	}
	if len(rows) > 0 {
		a.Printf("\n")
		a.Table([]string{"ALERT", "ABOUT", "SINCE", "SEEN", "WHAT"}, rows)
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
			hints = append(hints, fmt.Sprintf("see what the issuer %s answers, on the server's machine: curl -sS %s/.well-known/openid-configuration",
				terminal.Clean(i.Name), terminal.Clean(i.URL)))
		}
	}
	for _, alert := range s.Alerts {
		hints = append(hints, fmt.Sprintf("%s %s: %s", terminal.Clean(alert.Kind), terminal.Clean(alert.Subject), terminal.Clean(alert.Advice)))
	}
	return slices.Compact(hints)
}

// targetHints says what to type next about one target.
func targetHints(t api.TargetStatus, now time.Time) []string {
	var hints []string
	switch {
	case t.Health != "failing":
	case t.Kind == "": // it is not in service: nobody could try it
		hints = append(hints, fmt.Sprintf("mend what the error of %s says: it is tried again by itself, and at once when the server gets SIGHUP", terminal.Clean(t.Name)))
	default:
		hints = append(hints, "see what is wrong there, and what to type at the target: daypass target check "+terminal.Clean(t.Name))
	}
	if t.OldestRevoking != nil && now.Sub(t.OldestRevoking.Time) > patience || late(t.DueFrom, now) {
		hints = append(hints, fmt.Sprintf("see the leases that wait for the proof of their end: daypass leases --target %s --state revoking", terminal.Clean(t.Name)))
	}
	if t.Kind == "" && t.Leases.Active+t.Leases.Pending+t.Leases.Revoking > 0 {
		hints = append(hints, fmt.Sprintf("nothing can end the leases at %s until it is back in the access files: daypass access revisions", terminal.Clean(t.Name)))
	}
	return hints
}
