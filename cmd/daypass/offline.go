package main

import (
	"github.com/spf13/cobra"
)

func (a *app) checkCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:   name + " DIR",
		Short: "find every mistake in a directory of access files",
		Long:  wrap(`Changes nothing. Exits with 2 when there are mistakes.`),
		Example: `daypass check ./access
daypass check ./access --output json`,
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
			return a.show(check, func() { a.printf("%s: no mistakes\n", clean(args[0])) })
		},
	}
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the schema that policies are checked against", Args: exactly(),
		Long:    wrap(`In Cedar's own language, for editors and other tools.`),
		Example: "daypass schema > daypass.cedarschema",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.admin()
			if err != nil {
				return err
			}
			schema, err := client.Schema(c.Context())
			if err != nil {
				return err
			}
			return a.show(map[string]string{"schema": schema}, func() { a.printf("%s", cleanLines(schema)) })
		},
	}
}
