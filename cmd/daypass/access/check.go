package access

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/terminal"
	"github.com/daypass/daypass/internal/trust"
)

// sorting is how access files are looked at without a server.
type sorting struct {
	config    string
	timeZones []string
	alone     bool // no configuration was there to read
}

// advised are mistakes with what may be the reason where the configuration was not read: a server may know the zone.
func (s *sorting) advised(all []api.Mistake) []api.Mistake {
	for i := range all {
		if s.alone && strings.Contains(all[i].Hint, "time_zones") {
			all[i].Hint = "no server's configuration was read: --config FILE names it, or --time-zone the zones that it offers"
		}
	}
	return all
}

// addTo adds the flags.
func (s *sorting) addTo(a *app, c *cobra.Command) {
	a.AddConfig(c, &s.config)
	c.Flags().StringSliceVar(&s.timeZones, "time-zone", nil, "a time `zone` that policies may ask for; may be repeated; those of the configuration unless given")
}

// of is what counts of the server's configuration, with the time zones that were given in place of its own. It is not needed
// to check access files, so only a file that was named has to be there.
func (s *sorting) of(c *cobra.Command) (inspection.Server, error) {
	named := c.Flags().Changed("config")
	if len(s.timeZones) > 0 && !named {
		return inspection.Server{TimeZones: s.timeZones}, nil
	}
	cfg, err := config.Load(s.config)
	if absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission); absent && !named {
		s.alone = true
		return inspection.Server{}, nil
	}
	of := inspection.Server{TimeZones: cfg.TimeZones, RequiresConditions: cfg.Conditions == admission.ConditionsRequire}
	if len(s.timeZones) > 0 {
		of.TimeZones = s.timeZones
	}
	return of, err
}

// check finds the mistakes in access files: here, or at a server that was named on the command line.
func (a *app) check(c *cobra.Command, s *sorting, files map[string]string) (api.AccessCheck, error) {
	if a.Server != "" || a.Socket != "" {
		return a.checkThere(c.Context(), files)
	}
	of, err := s.of(c)
	if err != nil {
		return api.AccessCheck{}, err
	}
	checked, err := inspection.Check(files, of)
	if wrong, ok := errors.AsType[source.Errors](err); ok {
		return api.AccessCheck{Errors: s.advised(mistakes(wrong))}, nil
	}
	return api.AccessCheck{Revision: checked.Revision, Findings: trust.Wire(checked.Findings)}, err
}

// checkThere has a server find the mistakes: it also looks for the files that access files refer to.
func (a *app) checkThere(ctx context.Context, files map[string]string) (api.AccessCheck, error) {
	client, err := a.Admin()
	if err != nil {
		return api.AccessCheck{}, err
	}
	return client.CheckAccess(ctx, files)
}

// mistakes are errors in files as the API shows them.
func mistakes(wrong source.Errors) []api.Mistake {
	list := make([]api.Mistake, len(wrong))
	for i, e := range wrong {
		list[i] = api.Mistake{File: e.File, Line: e.Line, Column: e.Column, Message: e.Message, Hint: e.Hint, Excerpt: e.Excerpt}
	}
	return list
}

func (a *app) checkCommand(name string) *cobra.Command {
	s, strict := &sorting{}, false
	c := &cobra.Command{
		Use:   name + " DIR",
		Short: "find every mistake in a directory of access files, and what is wider than it need be",
		Long: command.Wrap(`Needs no server and changes nothing, so it fits into a commit hook or a pull request. With --server or
			--socket that server is asked, which also looks for the secrets that the files refer to. Exits with 2 when there are
			mistakes.`) + "\n\n" +
			command.Wrap(`Files without mistakes are looked at as an attacker would: whom do they trust that their author may not have meant?
			Each finding says why it matters and what to write. A policy accepts one with its reason:
			@accept("organisation-wide: one team owns all of them"). With --strict warnings and problems that nobody accepted
			exit with 9; notes never do.`),
		Example: `daypass check ./access
daypass check ./access --strict
daypass check ./access --output json`,
		Args: command.Exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := command.ReadAccess(args[0])
			if err != nil {
				return err
			}
			check, err := a.check(c, s, files)
			if err != nil {
				return err
			}
			if len(check.Errors) > 0 {
				return a.reportMistakes(args[0], check)
			}
			return a.reportFindings(args[0], check, strict)
		},
	}
	s.addTo(a, c)
	c.Flags().BoolVar(&strict, "strict", false, "exit with 9 on warnings and problems")
	return c
}

func (a *app) schemaCommand() *cobra.Command {
	s := &sorting{}
	var preset string
	c := &cobra.Command{
		Use: "schema [DIR]", Short: "print the schema that policies are checked against", Args: command.AtMost("DIR"),
		Long: command.Wrap(`In Cedar's own language, for editors and other tools. It is drawn from the access files in DIR, and needs no
			server then; without DIR it is that of the server's active revision. With --preset it is what policies could say of
			an issuer of that preset, or of a kind such as kubernetes, before there is one.`),
		Example: `daypass schema > daypass.cedarschema
daypass schema ./access
daypass schema --preset github-actions`,
		RunE: func(c *cobra.Command, args []string) error {
			schema, err := a.schema(c, s, preset, args)
			if err != nil {
				return err
			}
			return a.Show(api.AccessSchema{Schema: schema}, func() { a.Printf("%s", terminal.CleanLines(schema)) })
		},
	}
	c.Flags().StringVar(&preset, "preset", "", "the vocabulary of a preset, or of a kind of issuer")
	s.addTo(a, c)
	return c
}

// schema is the schema of a preset, a directory or a server.
func (a *app) schema(c *cobra.Command, s *sorting, preset string, args []string) (string, error) {
	if preset != "" {
		if len(args) > 0 {
			return "", terminal.Usage("a preset's schema is not drawn from files: give DIR or --preset")
		}
		schema, err := inspection.SchemaOf(preset)
		if err != nil {
			return "", terminal.Usage(err.Error())
		}
		return schema, nil
	}
	if len(args) == 0 {
		client, err := a.Admin()
		if err != nil {
			return "", err
		}
		return client.Schema(c.Context())
	}
	files, err := command.ReadAccess(args[0])
	if err != nil {
		return "", err
	}
	of, err := s.of(c)
	if err != nil {
		return "", err
	}
	checked, err := inspection.Check(files, of)
	if wrong, ok := errors.AsType[source.Errors](err); ok {
		return "", a.reportMistakes(args[0], api.AccessCheck{Errors: s.advised(mistakes(wrong))})
	}
	return checked.Schema, err
}
