package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help prints the page of a command: what it does, how it is called, examples, flags.
func (a *app) help(c *cobra.Command, _ []string) {
	w := a.out
	fmt.Fprintf(w, "%s: %s\n", bold(c.CommandPath()), c.Short)
	if c.IsAdditionalHelpTopicCommand() {
		fmt.Fprintf(w, "\n%s\n", c.Long)
		return
	}
	fmt.Fprintf(w, "\n%s\n", bold("Usage"))
	switch {
	case c.HasAvailableSubCommands():
		fmt.Fprintf(w, "  %s COMMAND\n", c.CommandPath())
	default:
		fmt.Fprintf(w, "  %s\n", useLine(c))
	}
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", c.Long)
	}
	if c.HasAvailableSubCommands() {
		a.overview(c)
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\n%s\n  %s\n", bold("Examples"), strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
	a.flags("Flags", c.LocalNonPersistentFlags())
	if !c.HasParent() {
		a.flags("Flags of every command", c.PersistentFlags())
		fmt.Fprintf(w, "\nMore: daypass help COMMAND, daypass help exit-codes, daypass help environment\n")
	} else {
		fmt.Fprintf(w, "\nFlags of every command: daypass help. Exit codes: daypass help exit-codes\n")
	}
}

// useLine is the line of a command with flags where it has any.
func useLine(c *cobra.Command) string {
	parent := ""
	if c.HasParent() {
		parent = c.Parent().CommandPath() + " "
	}
	name, rest, _ := strings.Cut(c.Use, " ")
	flags := ""
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if isShown(f) {
			flags = " [FLAGS]"
		}
	})
	return strings.TrimRight(parent+name+flags+" "+rest, " ")
}

// overview lists the commands below c, in parts where it has some.
func (a *app) overview(c *cobra.Command) {
	parts := []struct{ id, title string }{{"", "Commands"}}
	if len(c.Groups()) > 0 {
		parts = groups
	}
	for _, part := range parts {
		var rows [][]string
		for _, sub := range c.Commands() {
			if sub.GroupID == part.id && (sub.IsAvailableCommand() || sub.Name() == "help") {
				rows = append(rows, []string{"  " + sub.Name(), sub.Short})
			}
		}
		if len(rows) > 0 {
			fmt.Fprintf(a.out, "\n%s\n", bold(part.title))
			columns(a.out, rows)
		}
	}
}

// isShown reports whether help tells of a flag; that there is --help, whoever reads it knows.
func isShown(f *pflag.Flag) bool { return !f.Hidden && f.Name != "help" }

// flags lists flags.
func (a *app) flags(title string, set *pflag.FlagSet) {
	var rows [][]string
	set.VisitAll(func(f *pflag.Flag) {
		if !isShown(f) {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		if kind != "" {
			name += " " + strings.ToUpper(kind)
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += " (default " + f.DefValue + ")"
		}
		rows = append(rows, []string{name, usage})
	})
	if len(rows) > 0 {
		fmt.Fprintf(a.out, "\n%s\n", bold(title))
		columns(a.out, rows)
	}
}

// otherCommands are version and the topics of help.
func (a *app) otherCommands() []*cobra.Command {
	topics := []*cobra.Command{
		{Use: "exit-codes", Short: "what the exit codes mean", Long: exitCodesHelp},
		{Use: "environment", Short: "variables that are read and set", Long: environmentHelp},
	}
	return append(in("other", a.versionCommand(), a.completionCommand()), topics...)
}

// helpCommand shows the page of a command or of a topic. What is neither is a mistake, and not a reason to show all.
func (a *app) helpCommand() *cobra.Command {
	return in("other", &cobra.Command{
		Use: "help [COMMAND…]", Short: "tell about a command or a topic",
		Example:     "daypass help run\ndaypass help exit-codes",
		Annotations: map[string]string{outputs: "text"},
		RunE: func(c *cobra.Command, args []string) error {
			of := c.Root()
			for _, name := range args {
				next, _, err := of.Find([]string{name})
				if err != nil || next == of {
					return a.group(of, []string{name})
				}
				of = next
			}
			a.help(of, nil)
			return nil
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, start string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
			of, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range of.Commands() {
				if strings.HasPrefix(sub.Name(), start) && (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) {
					words = append(words, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	})[0]
}

// completionCommand prints what a shell reads.
func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "print a script that completes commands in a shell", Args: exactly("SHELL"),
		Long: wrap(`For bash (with the package bash-completion), fish, powershell and zsh. The script asks this binary what fits, so
			that it is made once. The first example is for this shell alone, the others are for each new one.`),
		Example: `source <(daypass completion bash)
daypass completion bash > /etc/bash_completion.d/daypass
daypass completion zsh > "${fpath[1]}/_daypass"
daypass completion fish > ~/.config/fish/completions/daypass.fish`,
		Annotations: map[string]string{outputs: "text"},
		ValidArgs:   shells,
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(a.stdout, true)
			case "fish":
				return c.Root().GenFishCompletion(a.stdout, true)
			case "powershell":
				return c.Root().GenPowerShellCompletionWithDesc(a.stdout)
			case "zsh":
				return c.Root().GenZshCompletion(a.stdout)
			}
			return usageError{"SHELL is one of " + strings.Join(shells, ", ") + ", not " + quote(args[0]), c.CommandPath()}
		},
	}
}

// words completes a flag that takes one of a few words.
func words(c *cobra.Command, flag string, all ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the command has no such flag, or it is completed twice
	}
}

const exitCodesHelp = `    0  done
    1  something else went wrong; the message says what
    2  usage: the command line, or what it was given, is wrong
    3  unauthenticated: there is no identity token, or it is not accepted
    4  denied: the policies say no, or a lock does
    5  not found, or not for you to know of
    6  conflict: its present state does not allow it
    7  too many: a limit was reached
    8  unavailable: the server, its store or the target cannot be reached
    9  findings: nothing is wrong, and a strict check found what it should not

daypass run gives the exit code of its command, 128 plus the number of the signal that killed it, or

  125  daypass itself could not do its part before the command started; the message says why
  126  the command was found and cannot be run
  127  the command was not found`

const environmentHelp = `Read:

  DAYPASS_URL             the server, where --server does not say
  DAYPASS_SOCKET          the administration socket, where --socket does not say; else ` + defaultSocket + `
                          when there is one
  DAYPASS_CONFIG          the server's configuration, where --config does not say; else
                          ` + defaultConfig + `
  DAYPASS_CA_FILE         PEM certificates to trust for the server, where --ca-file does not say
  DAYPASS_AUDIENCE        the audience of tokens that are asked for, where it is not the server's URL
  DAYPASS_LEASE           the lease of renew and release, where it is not named
  DAYPASS_LEASE_TOKEN     its lease token
  NO_COLOR                no colours, also on terminals

What says who we are is looked for in this order; the first place that has something is used:

  --token-file            a file with an identity token, read anew for each call
  --client-cert           a file with a certificate for TLS, and those between it and its authority, in PEM;
                          --client-key names the file with its key. Both are read anew for each call, so that
                          a certificate that is renewed counts at once. Shown beside a --token-file, too
  DAYPASS_TOKEN_FILE      the same as --token-file
  DAYPASS_CLIENT_CERT     the same as --client-cert, and DAYPASS_CLIENT_KEY as --client-key
  DAYPASS_SPIFFE          jwt or x509: that SVID of the Workload API at SPIFFE_ENDPOINT_SOCKET, before what
                          follows here. DAYPASS_SPIFFE_ID names one of several identities of the workload
  DAYPASS_DEVICE          the state file of a device that daypass device enrol enrolled; it names the server, too
  DAYPASS_ID_TOKEN        the token itself. In GitLab CI:
                            id_tokens: {DAYPASS_ID_TOKEN: {aud: https://daypass.example.com}}
  GitHub Actions          by ACTIONS_ID_TOKEN_REQUEST_URL, which a job has with
                            permissions: {id-token: write}
  Kubernetes              a projected token at /var/run/secrets/tokens/daypass
  SPIFFE_ENDPOINT_SOCKET  a JWT-SVID of the Workload API there, without DAYPASS_SPIFFE, too
  AWS                     credentials of AWS: of the environment, of the container, or of the EC2 instance

Set for the command of daypass run, and printed by daypass acquire --output env:

  postgres                PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSSLMODE DATABASE_URL, and
                          PGSSLROOTCERT, a file, where the target has certificates of its own.
                          Inherited variables that could lead the tool elsewhere, such as PGHOSTADDR
                          and PGSERVICE, are taken out.
  oidc-token              OIDC_TOKEN
  aws                     AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION
                          AWS_DEFAULT_REGION, and AWS_ENDPOINT_URL where the target has one. Inherited
                          AWS_PROFILE and other variables that name other keys are taken out.
  gcp                     CLOUDSDK_AUTH_ACCESS_TOKEN GOOGLE_OAUTH_ACCESS_TOKEN
  azure                   AZURE_ACCESS_TOKEN
  kubernetes              KUBECONFIG, a file

Set for the command of daypass run alone:

  DAYPASS_LEASES          the leases that runs inside the command may share, of roles that say share: run.
                          No secret, and of no use without the variables above

A role written NAME=ROLE sets the same variables with NAME_ before each: REPORTS=reports-readonly sets
REPORTS_PGHOST, REPORTS_DATABASE_URL and so on.`

// versionCommand tells what this binary is.
func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "daypass version --output json",
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			facts := map[string]string{"version": version()}
			if info != nil {
				facts["go"] = info.GoVersion
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						facts["commit"] = s.Value
					}
				}
			}
			return a.show(facts, func() { a.printf("daypass %s\n", version()) })
		},
	}
}

// version is the version that the build recorded.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
