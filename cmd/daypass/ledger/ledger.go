package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/terminal"
	"github.com/daypass/daypass/ledger"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "read the ledger and check it", RunE: a.Group, Args: cobra.ArbitraryArgs,
		Example: `daypass ledger tail --follow
daypass ledger export ledger.jsonl && daypass ledger verify ledger.jsonl --key ledger.vkey`}
	c.AddCommand(a.verifyCommand(), a.tailCommand(), a.exportCommand())
	return c
}

func (a *app) verifyCommand() *cobra.Command {
	var keys, against []string
	var at string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "check an exported ledger, offline",
		Long: command.Wrap(`Checks that the entries are those that the key signed, all of them, in that order. FILE is what daypass
			ledger export wrote; - reads standard input. No server is asked.

			--key names a file with the ledger's verifier key, which daypass status shows: keep it where the server cannot
			reach. --against names files with receipts and checkpoints that others kept: whoever has the signing key can sign
			a shorter or another history, and only these tell.

			Exits with 1 when something does not fit, and says what and where.`),
		Example: `daypass ledger verify ledger.jsonl --key ledger.vkey
daypass ledger verify ledger.jsonl --key ledger.vkey --against receipts.txt --against checkpoint.txt`,
		Args: command.Exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			now := a.Now()
			if at != "" {
				t, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return terminal.UsageOf(c.CommandPath(), "--at is a time such as 2026-01-02T15:04:05Z")
				}
				now = t
			}
			return a.verify(args[0], keys, against, now)
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "`file` with a verifier key to trust; may be repeated")
	c.Flags().StringArrayVar(&against, "against", nil, "`file` with receipts or checkpoints that others kept; may be repeated")
	c.Flags().StringVar(&at, "at", "", "`time` of the export, by which receipts are due; now unless given")
	return c
}

// verify checks an export and tells what that proved.
func (a *app) verify(file string, keyFiles, againstFiles []string, now time.Time) error {
	if len(keyFiles) == 0 {
		return terminal.Hinted(terminal.Usage("name a file with the ledger's verifier key: --key FILE"),
			"the key is in the output of daypass status; keep it in a file of your own")
	}
	keys, err := readTexts(keyFiles, func(text string) []string { return nonEmpty(strings.Split(text, "\n")) })
	if err != nil {
		return err
	}
	held, err := readTexts(againstFiles, splitNotes)
	if err != nil {
		return err
	}
	input := a.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return terminal.Usage(err.Error())
		}
		defer f.Close()
		input = f
	}
	report, err := ledger.VerifyExport(input, keys, held, now)
	if err != nil {
		return fmt.Errorf("the ledger does not verify: %w", err)
	}
	return a.Show(report, func() { a.showReport(report) })
}

// showReport tells what a verified export proved, and what it did not.
func (a *app) showReport(r ledger.Report) {
	a.Facts([]terminal.Fact{{"ledger", terminal.Clean(r.Checkpoint.Origin) + " " + terminal.Green("verifies")},
		{"entries", strconv.FormatInt(r.Checkpoint.Size, 10)},
		{"root", r.Checkpoint.Root.String()},
		{"first", a.Stamp(api.At(r.First))}, {"last", a.Stamp(api.At(r.Last))},
		{"signed by", strings.Join(r.Checkpoint.Keys, "\n")},
		{"rotations", nonZero(len(r.Rotations))},
		{"held outside", nonZero(r.Held)}, {"not due yet", nonZero(r.Pending)}})
	if r.Held == 0 {
		a.Hint("who has the signing key can still cut or rewrite it; --against receipts or checkpoints that others kept would tell")
	}
}

// nonZero is a number, or nothing for 0.
func nonZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// readTexts reads files and splits what they hold.
func readTexts(files []string, split func(string) []string) ([]string, error) {
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, terminal.Usage(err.Error())
		}
		parts := split(string(text))
		if len(parts) == 0 {
			return nil, terminal.Usage(fmt.Sprintf("%s holds nothing to check with", terminal.Quote(file)))
		}
		all = append(all, parts...)
	}
	return all, nil
}

// nonEmpty drops empty lines and comments.
func nonEmpty(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return kept
}

// splitNotes parts signed notes that stand one after another, as --receipts appends them: a note ends with its
// signature lines. An answer of the API is taken for the receipt in it.
func splitNotes(text string) []string {
	var answer api.Acquired
	if json.Unmarshal([]byte(text), &answer) == nil && answer.Receipt != "" {
		return []string{answer.Receipt}
	}
	var notes []string
	var note strings.Builder
	signed := false
	for line := range strings.Lines(text) {
		isSignature := strings.HasPrefix(line, "— ")
		if signed && !isSignature {
			notes = append(notes, note.String())
			note.Reset()
			signed = false
		}
		if note.Len() == 0 && strings.TrimSpace(line) == "" {
			continue
		}
		note.WriteString(line)
		signed = isSignature
	}
	if note.Len() > 0 {
		notes = append(notes, note.String())
	}
	return notes
}

func (a *app) tailCommand() *cobra.Command {
	var lines int
	var follow bool
	c := &cobra.Command{
		Use: "tail", Short: "show the ledger's last entries", Args: command.Exactly(),
		Long:    command.Wrap(`With --output json each entry is a line of JSON: the entry itself, byte for byte as the ledger has it.`),
		Example: "daypass ledger tail -n 50 --follow",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			size, err := ledgerSize(c.Context(), client)
			if err != nil {
				return err
			}
			return a.tail(c.Context(), client, max(size-int64(lines), 0), follow)
		},
	}
	c.Flags().IntVarP(&lines, "lines", "n", 20, "how many")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is added")
	return c
}

// ledgerSize reads the size off the ledger's checkpoint. Nothing is verified here: this only says where to begin.
func ledgerSize(ctx context.Context, c *client.Client) (int64, error) {
	text, err := c.Checkpoint(ctx)
	if err != nil {
		return 0, err
	}
	lines := strings.SplitN(text, "\n", 3)
	if len(lines) == 3 {
		if size, err := strconv.ParseInt(lines[1], 10, 64); err == nil && size >= 0 {
			return size, nil
		}
	}
	return 0, fmt.Errorf("the checkpoint of %s is malformed", c.URL())
}

// tail prints entries from an index on.
func (a *app) tail(ctx context.Context, c *client.Client, from int64, follow bool) error {
	for {
		for entry, err := range c.LedgerEntries(ctx, from) {
			if err != nil {
				return err
			}
			if err := a.printEntry(entry); err != nil {
				return err
			}
			from = entry.Index + 1
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// printEntry prints one line.
func (a *app) printEntry(entry api.LedgerEntry) error {
	if a.Output == "json" {
		_, err := fmt.Fprintf(a.Stdout, "%s\n", entry.Leaf)
		return err
	}
	e, err := ledger.ParseLeaf(entry.Leaf)
	if err != nil {
		return fmt.Errorf("ledger entry %d: %w", entry.Index, err)
	}
	_, err = fmt.Fprintf(a.Out, "%s %s %-16s%s\n", terminal.Faint(fmt.Sprintf("%8d", entry.Index)), e.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		e.Event, entryFacts(e))
	return err
}

// entryFacts lists what an entry names.
func entryFacts(e ledger.Entry) string {
	var b strings.Builder
	for _, f := range []terminal.Fact{{"lease", e.Lease}, {"role", e.Role}, {"target", e.Target}, {"reason", e.Reason}, {"decision", e.Decision},
		{"lock", e.Lock}, {"revision", terminal.ShortRevision(e.Revision)}, {"device", e.Device}, {"key", e.Key}} {
		if f[1] != "" {
			b.WriteString(" " + terminal.Faint(f[0]+"=") + terminal.Clean(f[1]))
		}
	}
	if e.Count > 0 {
		b.WriteString(" " + terminal.Faint("count=") + strconv.FormatInt(e.Count, 10))
	}
	if !e.Until.IsZero() {
		b.WriteString(" " + terminal.Faint("until=") + e.Until.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export FILE", Short: "write the whole ledger to a file", Args: command.Exactly("FILE"),
		Long:        command.Wrap(`The file verifies offline with daypass ledger verify. An existing file is not overwritten; - writes to standard output.`),
		Example:     "daypass ledger export ledger-2026-01-02.jsonl",
		Annotations: map[string]string{command.Outputs: "text"},
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return client.ExportLedger(c.Context(), a.Stdout)
			}
			return a.exportTo(c.Context(), client, args[0])
		},
	}
}

// exportTo writes to a new file, and leaves none that is not whole.
func (a *app) exportTo(ctx context.Context, c *client.Client, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return terminal.Usage(err.Error())
	}
	err = c.ExportLedger(ctx, io.Writer(file))
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
		return err
	}
	a.Hint("check it: daypass ledger verify %s --key FILE", path)
	return nil
}
