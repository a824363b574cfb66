package command

import (
	"github.com/spf13/cobra"

	"github.com/daypass/daypass/internal/terminal"
)

// Run runs one of the commands, as the arguments say, and returns the exit code.
func (l *Line) Run(args []string, commands []*cobra.Command) int {
	root := l.root(commands)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return l.Code
	}
	l.Fail(err)
	return terminal.ExitCode(err)
}

// root returns the command that all others stand below.
func (l *Line) root(commands []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "daypass",
		Short: "hand out credentials that exist only while they are needed",
		Long: Wrap(`Daypass is a workload access broker. A workload proves who it is with the identity token of its
			platform, gets a credential that did not exist a moment ago, and loses it when its work is done.`),
		Example: `daypass run orders-readonly -- ./migrate      # a command with a credential
daypass leases                                # who holds what (administrators)
daypass lock --role orders-readonly --reason "key leaked"`,
		Args:              cobra.ArbitraryArgs,
		RunE:              l.Group,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: l.checkOutput,
	}
	root.SetIn(l.Stdin)
	root.SetOut(l.Stdout)
	root.SetErr(l.Stderr)
	root.SetHelpFunc(l.help)
	root.SetUsageFunc(func(c *cobra.Command) error { l.help(c, nil); return nil })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return terminal.UsageOf(c.CommandPath(), err.Error())
	})
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	flags := root.PersistentFlags()
	flags.StringVar(&l.Server, "server", "", "`URL` of the server (DAYPASS_URL)")
	flags.StringVar(&l.Socket, "socket", "", "`path` of the administration socket (DAYPASS_SOCKET)")
	flags.StringVar(&l.TokenFile, "token-file", "", "`file` with the identity token (DAYPASS_TOKEN_FILE)")
	flags.StringVar(&l.Certs.Certificate, "client-cert", "", "`file` with the certificate that proves who we are, in PEM (DAYPASS_CLIENT_CERT)")
	flags.StringVar(&l.Certs.Key, "client-key", "", "`file` with its key, in PEM (DAYPASS_CLIENT_KEY)")
	flags.StringVar(&l.CAFile, "ca-file", "", "`file` of PEM certificates to trust for the server (DAYPASS_CA_FILE)")
	flags.StringVarP(&l.Output, "output", "o", "text", "`form` of the output: text or json")
	flags.BoolVarP(&l.Quiet, "quiet", "q", false, "no progress and hints on standard error")
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	root.SetHelpCommand(l.helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(commands...)
	root.AddCommand(In("other", l.completionCommand())...)
	root.InitDefaultHelpCmd()
	return root
}
