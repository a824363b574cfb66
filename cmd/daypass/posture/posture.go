package posture

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) postureCommand() *cobra.Command {
	c := &cobra.Command{Use: "posture", Short: "tell how devices, clusters and principals are doing, and see what is known", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.listPostureCommand(), a.showPostureCommand(), a.reportPostureCommand(), a.forgetPostureCommand())
	for _, sub := range c.Commands() {
		sub.ValidArgsFunction = a.completeSource
	}
	return c
}

// completeSource completes the name of a source of posture, where a server can be asked.
func (a *app) completeSource(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if client, err := a.Admin(); err == nil && len(args) == 0 {
		sources, _ := client.PostureSources(c.Context()) // where it does not answer there is nothing to complete
		for _, s := range sources {
			names = append(names, s.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) listPostureCommand() *cobra.Command {
	var limit int
	var stale bool
	c := &cobra.Command{
		Use: "list [SOURCE]", Short: "show the sources of posture, or the records of one", Args: command.AtMost("SOURCE"),
		Long: command.Wrap(`A record that is believed is one that policies see. To policies there is none that is stale (reported too long ago),
			unfit (its fields are not those that the active access files declare) or undeclared (they do not know its source);
			--stale shows these alone.`),
		Example: `daypass posture list
daypass posture list machine --stale`,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				sources, err := client.PostureSources(c.Context())
				if err != nil {
					return err
				}
				return a.Show(api.Page[api.PostureSource]{Items: sources}, func() { a.listSources(sources) })
			}
			wanted := func(yield func(api.PostureRecord, error) bool) {
				for r, err := range client.Postures(c.Context(), args[0]) {
					if err == nil && stale && r.Believed {
						continue
					}
					if !yield(r, err) {
						return
					}
				}
			}
			records, more, err := command.Collect(wanted, limit)
			if err != nil {
				return err
			}
			defer a.TellMore(more, limit)
			return a.Show(api.Page[api.PostureRecord]{Items: records}, func() { a.listPostures(records) })
		},
	}
	c.Flags().BoolVar(&stale, "stale", false, "only records that policies do not see")
	command.AddLimit(c, &limit)
	return c
}

func (a *app) listSources(sources []api.PostureSource) {
	if len(sources) == 0 {
		a.Printf("the access files declare no posture\n")
		return
	}
	var rows [][]string
	for _, s := range sources {
		from := "reports"
		if s.URL != "" {
			from = s.URL
		}
		rows = append(rows, []string{terminal.Clean(s.Name), terminal.Clean(pairs(s.Of, " by ")), terminal.Clean(pairs(s.Fields, ": ")), s.MaxAge.String(),
			terminal.Clean(from)})
	}
	a.Table([]string{"SOURCE", "SPEAKS OF", "FIELDS", "BELIEVED FOR", "FROM"}, rows)
}

// pairs writes a map for people.
func pairs(of map[string]string, between string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(of)) {
		all = append(all, key+between+of[key])
	}
	return strings.Join(all, ", ")
}

func (a *app) listPostures(records []api.PostureRecord) {
	if len(records) == 0 {
		a.Printf("no records\n")
		return
	}
	var rows [][]string
	for _, r := range records {
		until := ""
		if r.Until != nil {
			until = a.Distance(*r.Until)
		}
		rows = append(rows, []string{terminal.Clean(r.ID), terminal.Mood(a.standing(r)), terminal.Clean(string(r.Fields)), a.Distance(r.ReportedAt), until,
			terminal.Clean(r.ReportedBy)})
	}
	a.Table([]string{"ID", "STATE", "FIELDS", "REPORTED", "STALE", "BY"}, rows)
}

// standing is what a record counts for, in a word.
func (a *app) standing(r api.PostureRecord) string {
	switch {
	case r.Believed:
		return "believed"
	case r.Until == nil:
		return "undeclared"
	case r.Until.After(a.Now()):
		return "unfit"
	}
	return "stale"
}

func (a *app) showPostureCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show SOURCE ID", Short: "show a record of posture", Args: command.Exactly("SOURCE", "ID"),
		Example: "daypass posture show machine runner-7",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			record, err := client.Posture(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.Show(record, func() { a.showPosture(record) })
		},
	}
}

func (a *app) showPosture(r api.PostureRecord) {
	a.Facts([]terminal.Fact{{"source", terminal.Clean(r.Source)}, {"of", terminal.Clean(r.ID)}, {"state", terminal.Mood(a.standing(r))},
		{"fields", terminal.Clean(string(r.Fields))},
		{"reported", a.Stamp(r.ReportedAt)}, {"by", terminal.Clean(r.ReportedBy)}, {"believed until", a.StampOf(r.Until)}})
}

func (a *app) reportPostureCommand() *cobra.Command {
	var fields, at string
	var single []string
	c := &cobra.Command{
		Use: "report SOURCE ID", Short: "say how a device, a cluster or a principal is doing", Args: command.Exactly("SOURCE", "ID"),
		Long: command.Wrap(`For monitors. Report again before the source's max_age is over, also when nothing has changed: what is stale counts
			as missing. A report that is older than what is known changes nothing. Leases that hang on the record are decided again
			at once.

			A value of --field is what it looks like: true, 20260915 and ["a","b"] are no texts; '"7"' is one. --fields takes a whole
			JSON object, or with - reads it from standard input. Over the socket administrators may report; elsewhere the reporter shows its
			evidence, and a policy must permit it the action report.`),
		Example: `daypass posture report machine runner-7 --field healthy=true --field patch_level=20260915
check-machine | daypass posture report machine "$(hostname)" --fields -`,
		RunE: func(c *cobra.Command, args []string) error {
			report, err := a.postureReport(fields, single, at)
			if err != nil {
				return terminal.UsageOf(c.CommandPath(), err.Error())
			}
			client, err := a.Admin()
			if err != nil {
				return err
			}
			record, err := client.ReportPosture(c.Context(), args[0], args[1], report)
			if err != nil {
				return err
			}
			return a.Show(record, func() {
				a.Printf("%s %s is %s until %s\n", terminal.Clean(record.Source), terminal.Clean(record.ID), a.standing(record), a.StampOf(record.Until))
				if report.ReportedAt != nil && record.ReportedAt.After(report.ReportedAt.Time) {
					a.Hint("a later report was there already, and stays")
				}
			})
		},
	}
	c.Flags().StringArrayVar(&single, "field", nil, "`name=value`; may be repeated")
	c.Flags().StringVar(&fields, "fields", "", "all fields as a JSON `object`; - reads it from standard input")
	c.Flags().StringVar(&at, "at", "", "the `time` when it was so, such as 2026-09-15T08:00:00Z; now unless given")
	return c
}

// postureReport reads what was given of a report.
func (a *app) postureReport(fields string, single []string, at string) (r api.PostureReport, err error) {
	all := map[string]json.RawMessage{}
	if fields == "-" {
		text, err := io.ReadAll(io.LimitReader(a.Stdin, api.MaxBody))
		if err != nil {
			return r, fmt.Errorf("read the fields: %w", err)
		}
		fields = string(text)
	}
	if fields != "" && (json.Unmarshal([]byte(fields), &all) != nil || all == nil) {
		return r, fmt.Errorf(`--fields is a JSON object, such as '{"healthy": true}'`)
	}
	for _, one := range single {
		name, value, ok := strings.Cut(one, "=")
		if _, twice := all[name]; !ok || twice {
			return r, fmt.Errorf("a field is written name=value, each name once, not %s", terminal.Quote(one))
		}
		if all[name] = json.RawMessage(value); !json.Valid(all[name]) {
			all[name], _ = json.Marshal(value) // a text has JSON
		}
	}
	if len(all) == 0 {
		return r, fmt.Errorf("say how it is: --field healthy=true, or --fields with a JSON object")
	}
	if at != "" {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return r, fmt.Errorf("--at is a time such as 2026-09-15T08:00:00Z, not %s", terminal.Quote(at))
		}
		then := api.At(when)
		r.ReportedAt = &then
	}
	r.Fields, err = json.Marshal(all)
	return r, err
}

func (a *app) forgetPostureCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget SOURCE ID", Short: "take a record of posture back", Args: command.Exactly("SOURCE", "ID"),
		Long:    command.Wrap(`Policies find none from then on, and leases that need it end. A machine that is gone for good is forgotten so.`),
		Example: "daypass posture forget machine runner-7",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			record, err := client.WithdrawPosture(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return a.Show(record, func() { a.Printf("%s %s is forgotten\n", terminal.Clean(record.Source), terminal.Clean(record.ID)) })
		},
	}
}
