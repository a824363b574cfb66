package command

import (
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/terminal"
)

// Collect takes at most limit items of a list (0: all) and tells whether there are more.
func Collect[T any](list iter.Seq2[T, error], limit int) (items []T, more bool, err error) {
	items = []T{}
	for item, err := range list {
		if err != nil {
			return items, false, err
		}
		if limit > 0 && len(items) == limit {
			return items, true, nil
		}
		items = append(items, item)
	}
	return items, false, nil
}

// AddLimit adds the flag of lists.
func AddLimit(c *cobra.Command, limit *int) {
	c.Flags().IntVarP(limit, "limit", "n", 100, "how many at most; 0: all")
}

// TellMore tells that a list goes on.
func (l *Line) TellMore(more bool, limit int) {
	if more {
		l.Hint("these are the first %d; --limit 0 shows all", limit)
	}
}

// Words completes a flag that takes one of a few words.
func Words(c *cobra.Command, flag string, all ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the command has no such flag, or it is completed twice
	}
}

// DefaultConfig is where a server's configuration is, unless it is said otherwise.
const DefaultConfig = "/etc/daypass/daypass.yaml"

// AddConfig adds the flag for the configuration file.
func (l *Line) AddConfig(c *cobra.Command, path *string) {
	otherwise := l.Getenv("DAYPASS_CONFIG")
	if otherwise == "" {
		otherwise = DefaultConfig
	}
	c.Flags().StringVarP(path, "config", "c", otherwise, "`file` with the server's configuration (DAYPASS_CONFIG)")
}

// Duration is a flag that holds a duration of the API, or none.
type Duration struct{ Value *api.Duration }

func (d *Duration) String() string {
	if d.Value == nil {
		return ""
	}
	return d.Value.String()
}

// Set reads the flag.
func (d *Duration) Set(text string) error {
	value, err := api.ParseDuration(text)
	d.Value = &value
	return err
}

// Type is what help shows.
func (d *Duration) Type() string { return "duration" }

// Or is the duration, or otherwise where the flag was not given.
func (d *Duration) Or(otherwise time.Duration) time.Duration {
	if d.Value == nil {
		return otherwise
	}
	return time.Duration(*d.Value)
}

// Exactly is for commands with these arguments.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return terminal.UsageOf(c.CommandPath(), fmt.Sprintf("%s needs %s", c.CommandPath(), names[len(args)]))
		}
		return AtMost(names...)(c, args)
	}
}

// AtMost is for commands with these arguments or fewer.
func AtMost(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return terminal.UsageOf(c.CommandPath(), fmt.Sprintf("%s has an argument too many: %s", c.CommandPath(), terminal.Quote(args[len(names)])))
		}
		return nil
	}
}
