package lease

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain DECISION", Short: "tell why a decision fell as it did", Args: command.Exactly("DECISION"),
		Long: command.Wrap(`Shows the policies that took part and everything they saw. A denied workload is told the decision's ID
			and nothing else.`),
		Example: "daypass explain 7q2mzk5vbn",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			decision, err := client.Explain(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Show(decision, func() { a.showDecision(decision) })
		},
	}
}

// showDecision prints one in full.
func (a *app) showDecision(d api.Decision) {
	times := ""
	if d.Count > 1 {
		times = fmt.Sprintf("stands for %d equal ones", d.Count)
	}
	a.Facts([]terminal.Fact{{"decision", d.ID}, {"outcome", terminal.Mood(d.Outcome)}, {"count", times}, {"at", a.Stamp(d.At)},
		{"principal", terminal.Clean(d.Principal)}, {"acting", terminal.Clean(strings.Join(d.Actors, ", "))}, {"action",
			terminal.Clean(d.Action)}, {"resource", terminal.Clean(d.Resource)},
		{"lease", d.Lease}, {"revision", terminal.Clean(d.Revision)}})
	if len(d.Reasons) > 0 {
		var rows [][]string
		for _, r := range d.Reasons {
			rows = append(rows, []string{terminal.Clean(r.Effect), terminal.Clean(r.Policy), terminal.Clean(r.Message)})
		}
		a.Printf("\n")
		a.Table([]string{"EFFECT", "POLICY", "WHY"}, rows)
	}
	var input bytes.Buffer
	if json.Indent(&input, d.Input, "", "  ") == nil && input.Len() > 0 {
		a.Printf("\n%s\n%s\n", terminal.Bold("INPUT"), terminal.CleanLines(input.String()))
	}
}
