package installation

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) alertsCommand() *cobra.Command {
	c := &cobra.Command{Use: "alerts", Short: "try whether alerts arrive", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.alertsTestCommand())
	return c
}

func (a *app) alertsTestCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "test", Short: "send a test through each sink and say what happened", Args: command.Exactly(),
		Long: command.Wrap(`Reads the sinks from the server's configuration and sends each one message, once, from this machine. No server
			needs to run. A webhook and Slack say whether they took it; syslog says nothing back, so look there. Exits with 8 when
			a sink did not take it. Open alerts are in daypass status.`),
		Example: `daypass alerts test --config /etc/daypass/daypass.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if len(cfg.Alerts.Sinks) == 0 {
				return terminal.Hinted(errors.New("the configuration has no sinks of alerts"), "see alerts.sinks: daypass.yaml")
			}
			return a.reportTests(server.TestAlerts(c.Context(), cfg))
		},
	}
	a.AddConfig(c, &path)
	return c
}

// sinkTest is a row of what came of a test.
type sinkTest struct {
	Sink  string `json:"sink"`
	Kind  string `json:"kind"`
	Sent  bool   `json:"sent"`
	Error string `json:"error,omitempty"`
}

// reportTests shows what came of a test of each sink.
func (a *app) reportTests(tests []server.SinkTest) error {
	var all []sinkTest
	var rows [][]string
	failed := 0
	for _, t := range tests {
		one, outcome := sinkTest{Sink: t.Sink, Kind: t.Kind, Sent: t.Err == nil}, terminal.Green("sent")
		if t.Err != nil {
			failed++
			one.Error, outcome = t.Err.Error(), terminal.Red("not sent")
		}
		all = append(all, one)
		rows = append(rows, []string{terminal.Clean(t.Sink), t.Kind, outcome, terminal.Clean(one.Error)})
	}
	if err := a.Show(all, func() { a.Table([]string{"SINK", "KIND", "TEST", "ERROR"}, rows) }); err != nil {
		return err
	}
	if failed > 0 {
		return terminal.Coded(fmt.Errorf("%d of %d sinks did not take the test", failed, len(tests)), terminal.ExitUnavailable)
	}
	return nil
}
