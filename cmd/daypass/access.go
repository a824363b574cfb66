package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
)

func (a *app) accessCommand() *cobra.Command {
	c := &cobra.Command{Use: "access", Short: "look after the access configuration", RunE: a.group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.checkCommand("check"), a.applyCommand("apply"), a.revisionsCommand(), a.activateCommand())
	return c
}

func (a *app) applyCommand(name string) *cobra.Command {
	var ifMatch string
	c := &cobra.Command{
		Use:   name + " DIR",
		Short: "make a directory of access files the active configuration",
		Long: wrap(`Takes the files *.yaml and *.cedar below DIR. They are checked first, and take effect together or not at
			all. With --if-match they do only while that revision is the active one, so that nobody's change is lost.`),
		Example: `daypass apply ./access
daypass apply ./access --if-match 4c1f09ab`,
		Args: exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := readAccess(args[0])
			if err != nil {
				return err
			}
			client, err := a.admin()
			if err != nil {
				return err
			}
			check, err := client.CheckAccess(c.Context(), files)
			if err != nil {
				return err
			}
			if len(check.Errors) > 0 {
				return a.reportMistakes(args[0], check)
			}
			if ifMatch, err = findRevision(c.Context(), client, ifMatch); err != nil {
				return err
			}
			revision, err := client.ApplyAccess(c.Context(), files, ifMatch)
			if err != nil {
				return stale(err, ifMatch)
			}
			a.tellFindings(args[0], revision.Findings)
			return a.show(revision, func() { a.tellRevision(revision) })
		},
	}
	c.Flags().StringVar(&ifMatch, "if-match", "", "only while this `revision` is active")
	return c
}

// tellRevision prints what is active now.
func (a *app) tellRevision(r api.Revision) {
	a.printf("revision %s is active\n", short(r.ID))
	for _, note := range r.Notes {
		a.tell("%s", note)
	}
}

func (a *app) revisionsCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "revisions", Short: "show the access configurations that there were", Args: exactly(),
		Example: "daypass access revisions",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			revisions, more, err := collect(client.Revisions(c.Context()), limit)
			if err != nil {
				return err
			}
			defer a.tellMore(more, limit)
			return a.show(api.Page[api.Revision]{Items: revisions}, func() { a.listRevisions(revisions) })
		},
	}
	addLimit(c, &limit)
	return c
}

// listRevisions prints a table.
func (a *app) listRevisions(revisions []api.Revision) {
	if len(revisions) == 0 {
		a.printf("no revisions\n")
		return
	}
	var rows [][]string
	for _, r := range revisions {
		state := ""
		if r.Active {
			state = mood("active")
		}
		activated := ""
		if r.ActivatedAt != nil {
			activated = a.distance(*r.ActivatedAt)
		}
		rows = append(rows, []string{short(r.ID), state, a.distance(r.CreatedAt), clean(r.CreatedBy), activated})
	}
	a.table([]string{"REVISION", "STATE", "CREATED", "BY", "ACTIVATED"}, rows)
}

func (a *app) activateCommand() *cobra.Command {
	var ifMatch string
	c := &cobra.Command{
		Use: "activate REVISION", Short: "go back to an earlier access configuration", Args: exactly("REVISION"),
		Long:    wrap(`A revision can be named by as many of its first characters as tell it from the others.`),
		Example: "daypass access activate 4c1f09ab",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			id, err := findRevision(c.Context(), client, args[0])
			if err != nil {
				return err
			}
			if ifMatch, err = findRevision(c.Context(), client, ifMatch); err != nil {
				return err
			}
			revision, err := client.ActivateAccess(c.Context(), id, ifMatch)
			if err != nil {
				return stale(err, ifMatch)
			}
			return a.show(revision, func() { a.tellRevision(revision) })
		},
	}
	c.Flags().StringVar(&ifMatch, "if-match", "", "only while this `revision` is active")
	return c
}

// revisionLength is the number of characters of a revision: a SHA-256 in hexadecimal.
const revisionLength = 64

// findRevision completes the first characters of a revision.
func findRevision(ctx context.Context, c *client.Client, prefix string) (string, error) {
	if prefix == "" || len(prefix) >= revisionLength {
		return prefix, nil
	}
	found := ""
	for r, err := range c.Revisions(ctx) {
		switch {
		case err != nil:
			return "", err
		case !strings.HasPrefix(r.ID, prefix):
		case found != "":
			return "", usageError{fmt.Sprintf("more than one revision begins with %s", quote(prefix)), ""}
		default:
			found = r.ID
		}
	}
	if found == "" {
		return "", hinted(codedError{fmt.Errorf("no revision begins with %s", quote(prefix)), exitNotFound}, "daypass access revisions")
	}
	return found, nil
}

// stale adds what to do when another revision became active meanwhile.
func stale(err error, ifMatch string) error {
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "conflict" && ifMatch != "" {
		return hinted(err, "somebody else changed it meanwhile; see daypass access revisions")
	}
	return err
}

// short is a revision as tables show it.
func short(revision string) string {
	if len(revision) == revisionLength {
		return revision[:12]
	}
	return clean(revision)
}

// reportMistakes prints every mistake as file:line:column, the line and a hint.
func (a *app) reportMistakes(dir string, check api.AccessCheck) error {
	err := a.show(check, func() {
		for _, m := range check.Errors {
			a.printf("%s: %s\n", bold(place(dir, m)), cleanLines(m.Message))
			if m.Excerpt != "" {
				a.printf("%s\n", excerpt(m))
			}
			if m.Hint != "" {
				a.printf("  %s %s\n", faint("hint:"), clean(m.Hint))
			}
		}
	})
	if err != nil {
		return err
	}
	return codedError{fmt.Errorf("access files in %q: %s", dir, count(len(check.Errors), "mistake")), exitUsage}
}

// place is where a mistake is, in a form that editors jump to.
func place(dir string, m api.Mistake) string {
	text := clean(path.Join(dir, m.File))
	if m.Line > 0 {
		text += fmt.Sprintf(":%d", m.Line)
		if m.Column > 0 {
			text += fmt.Sprintf(":%d", m.Column)
		}
	}
	return text
}

// excerpt shows the line with a caret under the column.
func excerpt(m api.Mistake) string {
	number := fmt.Sprintf("%5d", m.Line)
	text := faint(number+" | ") + clean(strings.ReplaceAll(m.Excerpt, "\t", " "))
	if m.Column > 0 && m.Column <= len([]rune(m.Excerpt))+1 {
		text += "\n" + faint(strings.Repeat(" ", len(number))+" | ") + strings.Repeat(" ", m.Column-1) + red("^")
	}
	return text
}

// readAccess reads the access files below a directory, by path. Links that lead out of it are refused.
func readAccess(dir string) (map[string]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, usageError{fmt.Sprintf("access directory: %v", err), ""}
	}
	defer root.Close()
	files, size := map[string]string{}, 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := name != "." && strings.HasPrefix(entry.Name(), "."); hidden && entry.IsDir() {
			return fs.SkipDir
		} else if hidden || entry.IsDir() || !isAccessFile(name) {
			return nil
		}
		text, err := readWithin(root, name, api.MaxAccess-size)
		files[name], size = text, size+len(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read access directory %q: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, usageError{fmt.Sprintf("access directory %q holds no file *.yaml or *.cedar", dir), ""}
	}
	return files, nil
}

// isAccessFile reports whether a file belongs to an access configuration.
func isAccessFile(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".cedar":
		return true
	}
	return false
}

// readWithin reads a file of at most limit bytes.
func readWithin(root *os.Root, name string, limit int) (string, error) {
	file, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = errors.New("the files have more than " + fmt.Sprint(api.MaxAccess) + " bytes together")
	}
	return string(text), err
}
