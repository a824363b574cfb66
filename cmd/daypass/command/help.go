package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/daypass/daypass/internal/terminal"
)

// help prints the page of a command: what it does, how it is called, examples, flags.
func (l *Line) help(c *cobra.Command, _ []string) {
	w := l.Out
	fmt.Fprintf(w, "%s: %s\n", terminal.Bold(c.CommandPath()), c.Short)
	if c.IsAdditionalHelpTopicCommand() {
		fmt.Fprintf(w, "\n%s\n", c.Long)
		return
	}
	fmt.Fprintf(w, "\n%s\n", terminal.Bold("Usage"))
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
		l.overview(c)
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\n%s\n  %s\n", terminal.Bold("Examples"), strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
	l.flags("Flags", c.LocalNonPersistentFlags())
	if !c.HasParent() {
		l.flags("Flags of every command", c.PersistentFlags())
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
func (l *Line) overview(c *cobra.Command) {
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
			fmt.Fprintf(l.Out, "\n%s\n", terminal.Bold(part.title))
			terminal.Columns(l.Out, rows)
		}
	}
}

// isShown reports whether help tells of a flag; that there is --help, whoever reads it knows.
func isShown(f *pflag.Flag) bool { return !f.Hidden && f.Name != "help" }

// flags lists flags.
func (l *Line) flags(title string, set *pflag.FlagSet) {
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
		fmt.Fprintf(l.Out, "\n%s\n", terminal.Bold(title))
		terminal.Columns(l.Out, rows)
	}
}

// helpCommand shows the page of a command or of a topic. What is neither is a mistake, and not a reason to show all.
func (l *Line) helpCommand() *cobra.Command {
	return In("other", &cobra.Command{
		Use: "help [COMMAND…]", Short: "tell about a command or a topic",
		Example:     "daypass help run\ndaypass help exit-codes",
		Annotations: map[string]string{Outputs: "text"},
		RunE: func(c *cobra.Command, args []string) error {
			of := c.Root()
			for _, name := range args {
				next, _, err := of.Find([]string{name})
				if err != nil || next == of {
					return l.Group(of, []string{name})
				}
				of = next
			}
			l.help(of, nil)
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
func (l *Line) completionCommand() *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "print a script that completes commands in a shell", Args: Exactly("SHELL"),
		Long: Wrap(`For bash (with the package bash-completion), fish, powershell and zsh. The script asks this binary what fits, so
			that it is made once. The first example is for this shell alone, the others are for each new one.`),
		Example: `source <(daypass completion bash)
daypass completion bash > /etc/bash_completion.d/daypass
daypass completion zsh > "${fpath[1]}/_daypass"
daypass completion fish > ~/.config/fish/completions/daypass.fish`,
		Annotations: map[string]string{Outputs: "text"},
		ValidArgs:   shells,
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(l.Stdout, true)
			case "fish":
				return c.Root().GenFishCompletion(l.Stdout, true)
			case "powershell":
				return c.Root().GenPowerShellCompletionWithDesc(l.Stdout)
			case "zsh":
				return c.Root().GenZshCompletion(l.Stdout)
			}
			return terminal.UsageOf(c.CommandPath(), "SHELL is one of "+strings.Join(shells, ", ")+", not "+terminal.Quote(args[0]))
		},
	}
}

// groups are the parts of the overview, in order.
var groups = []struct{ id, title string }{
	{"workload", "Workloads"}, {"admin", "Administration"}, {"server", "Server"}, {"other", "Other"},
}

// In puts commands into a part of the overview.
func In(group string, commands ...*cobra.Command) []*cobra.Command {
	for _, c := range commands {
		c.GroupID = group
	}
	return commands
}

// Group is the command of a name that only has commands below it: it shows them, or what was meant.
func (l *Line) Group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		l.help(c, nil)
		if c.HasParent() {
			return terminal.UsageOf(c.CommandPath(), "which of its commands?")
		}
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	return terminal.Unknown(args[0], c.CommandPath(), c.SuggestionsFor(args[0]))
}

// Wrap takes the line breaks and indents of Go source out of a text; blank lines part its paragraphs, and lines
// that begin with two more spaces than the others stay as they are.
func Wrap(text string) string {
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
