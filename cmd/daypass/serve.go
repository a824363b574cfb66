package main

import "github.com/spf13/cobra"

// serverCommands are what runs and prepares a server.
func (a *app) serverCommands() []*cobra.Command { return nil }
