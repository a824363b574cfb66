// Command daypass is the workload access broker, its agent and its administration in one binary.
//
// This package holds flags, output and exit codes, and nothing else: what a command does lives in client,
// internal/agent, ledger, internal/installation, internal/inspection and internal/server.
package main

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code.
func run(args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := newApp(env, stdin, stdout, stderr)
	root := a.root()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return a.code
	}
	a.fail(err)
	return exitCode(err)
}

// root returns the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "daypass",
		Short: "hand out credentials that exist only while they are needed",
		Long: wrap(`Daypass is a workload access broker. A workload proves who it is with the identity token of its
			platform, gets a credential that did not exist a moment ago, and loses it when its work is done.`),
		Example: `daypass run orders-readonly -- ./migrate      # a command with a credential
daypass leases                                # who holds what (administrators)
daypass lock --role orders-readonly --reason "key leaked"`,
		Args:              cobra.ArbitraryArgs,
		RunE:              a.group,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.checkOutput,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpFunc(a.help)
	root.SetUsageFunc(func(c *cobra.Command) error { a.help(c, nil); return nil })
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{err.Error(), c.CommandPath()}
	})
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "`URL` of the server (DAYPASS_URL)")
	flags.StringVar(&a.socket, "socket", "", "`path` of the administration socket (DAYPASS_SOCKET)")
	flags.StringVar(&a.tokenFile, "token-file", "", "`file` with the identity token (DAYPASS_TOKEN_FILE)")
	flags.StringVar(&a.certs.Certificate, "client-cert", "", "`file` with the certificate that proves who we are, in PEM (DAYPASS_CLIENT_CERT)")
	flags.StringVar(&a.certs.Key, "client-key", "", "`file` with its key, in PEM (DAYPASS_CLIENT_KEY)")
	flags.StringVar(&a.caFile, "ca-file", "", "`file` of PEM certificates to trust for the server (DAYPASS_CA_FILE)")
	flags.StringVarP(&a.output, "output", "o", "text", "`form` of the output: text or json")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and hints on standard error")
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	root.SetHelpCommand(a.helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	for _, part := range [][]*cobra.Command{a.workloadCommands(), a.adminCommands(), a.serverCommands(), a.otherCommands()} {
		root.AddCommand(part...)
	}
	root.InitDefaultHelpCmd()
	return root
}

// groups are the parts of the overview, in order.
var groups = []struct{ id, title string }{
	{"workload", "Workloads"}, {"admin", "Administration"}, {"server", "Server"}, {"other", "Other"},
}

// in puts commands into a part of the overview.
func in(group string, commands ...*cobra.Command) []*cobra.Command {
	for _, c := range commands {
		c.GroupID = group
	}
	return commands
}

// group is the command of a name that only has commands below it: it shows them, or what was meant.
func (a *app) group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		a.help(c, nil)
		if c.HasParent() {
			return usageError{"which of its commands?", c.CommandPath()}
		}
		return nil
	}
	unknown := unknownError{name: args[0], command: c.CommandPath()}
	c.SuggestionsMinimumDistance = 2
	unknown.meant = c.SuggestionsFor(args[0])
	return unknown
}

// wrap takes the line breaks and indents of Go source out of a text; blank lines part its paragraphs, and lines
// that begin with two more spaces than the others stay as they are.
func wrap(text string) string {
	var paragraphs []string
	for part := range strings.SplitSeq(text, "\n\n") {
		if strings.Contains(part, "\n\t\t\t  ") || strings.HasPrefix(part, "\t\t\t  ") {
			lines := strings.Split(strings.Trim(part, "\n"), "\n")
			for i := range lines {
				lines[i] = strings.TrimRight(strings.TrimPrefix(lines[i], "\t\t\t"), "\t ")
			}
			paragraphs = append(paragraphs, strings.Join(lines, "\n"))
			continue
		}
		paragraphs = append(paragraphs, fill(strings.Fields(part), 96))
	}
	return strings.Join(paragraphs, "\n\n")
}

// fill sets words into lines of at most width characters.
func fill(words []string, width int) string {
	var b strings.Builder
	column := 0
	for _, word := range words {
		switch n := len([]rune(word)); {
		case column == 0:
			column = n
		case column+1+n > width:
			b.WriteByte('\n')
			column = n
		default:
			b.WriteByte(' ')
			column += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}
