package installation

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/installation"
	"github.com/daypass/daypass/internal/server"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) initCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "init", Short: "make the master key and an empty store where there are none", Args: command.Exactly(),
		Long: command.Wrap(`Says what it made, and never replaces anything. Keep a copy of the master key apart from the store: without
			it nobody can open what is sealed in there. Keep the ledger's public key where the server cannot reach: it is what
			daypass ledger verify trusts.`),
		Example: "daypass init --config ./daypass.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			made, err := installation.Init(c.Context(), cfg)
			if err != nil {
				return err
			}
			err = a.Show(map[string][]string{"made": made}, func() { a.Printf("%s\n", terminal.CleanLines(strings.Join(made, "\n"))) })
			a.Hint("start it: daypass serve --config %s", path)
			return err
		},
	}
	a.AddConfig(c, &path)
	return c
}

func (a *app) serveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "serve", Short: "run the server", Args: command.Exactly(),
		Long: command.Wrap(`Runs until SIGTERM or SIGINT, and then answers the requests that are under way. SIGHUP reads certificates,
			secrets and the access directory again. The log goes to standard error. It makes no key and no store: that is what
			daypass init is for.`),
		Example:     "daypass serve --config ./daypass.yaml",
		Annotations: map[string]string{command.Outputs: "text"},
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			return a.serve(c.Context(), cfg, func(*server.Server) {})
		},
	}
	a.AddConfig(c, &path)
	return c
}

func (a *app) devCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "dev", Short: "run a server to try things with, on this machine only", Args: command.Exactly(),
		Long: command.Wrap(`Makes a key and a store of its own, in a directory that --dir names or in a fresh temporary one, and listens
			on loopback only. Not for anything that matters.`),
		Example:     "daypass dev --dir ./try",
		Annotations: map[string]string{command.Outputs: "text"},
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, made, err := installation.Dev(c.Context(), dir)
			for _, line := range made {
				a.Tell("%s", line)
			}
			if err != nil {
				return err
			}
			return a.serve(c.Context(), cfg, func(s *server.Server) {
				a.Tell("this server is for trying things, on this machine only")
				a.Hint("in another terminal: export DAYPASS_URL=%s DAYPASS_SOCKET=%s", s.URL(), cfg.Socket)
				a.Hint("put access files into %s, and then: daypass apply %s", cfg.Access, cfg.Access)
			})
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`directory` to keep everything in; a fresh temporary one unless given")
	return c
}

// serve runs a server until it is told to stop. A second SIGTERM or SIGINT ends it at once: what is recorded is
// safe, and the next start takes up the rest.
func (a *app) serve(ctx context.Context, cfg config.Config, listening func(*server.Server)) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	s, err := server.New(ctx, cfg, server.Options{Version: command.Version(), Log: config.NewLogger(cfg.Log, a.Stderr), Reload: reload})
	if errors.Is(err, syscall.EADDRINUSE) {
		return terminal.Hinted(err, "see who listens there: ss -ltnp; listen in the configuration names another address")
	}
	if err != nil {
		return err
	}
	listening(s)
	return s.Run(ctx)
}
