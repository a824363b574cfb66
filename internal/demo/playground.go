package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ground is what a playground has beside the issuer.
type ground struct {
	prepare func(context.Context, *stage) (files map[string]string, err error) // starts it, and says what the directory holds
	tend    func(ctx context.Context, s *stage, dir string) error              // works until it is interrupted; nil where nothing is left to do
}

// databaseGround has the database of the example. The first tutorial is played on it.
var databaseGround = ground{prepare: func(ctx context.Context, s *stage) (map[string]string, error) {
	if err := s.startDatabase(ctx); err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(s.path("secrets/orders-db"))
	return map[string]string{
		"administrator-password": string(password),
		"env":                    fmt.Sprintf("export SUPERUSER='%s'\nexport DATABASE='%s'\nexport LISTEN=%s\n", s.postgres.Superuser("orders"), s.postgres.Address(), listen),
	}, err
}}

// playground starts what somebody needs who wants to do the rest by hand, writes where it is into a new directory, and
// waits until it is interrupted. The tutorials are played on it.
func playground(ctx context.Context, out io.Writer, bin, dir string, g ground) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("%w (remove it, or name another)", err)
	}
	s, err := newStage(&printer{out: io.Discard}, bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(), os.RemoveAll(dir)) }()
	files, err := g.prepare(ctx, s)
	if err != nil {
		return err
	}
	jobs, err := s.jobs(ctx)
	if err != nil {
		return err
	}
	files["env"] += jobs
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "All is up, and runs until you press Ctrl-C here; then it is gone.\nIn another terminal:  source %s\n", filepath.Join(dir, "env"))
	if g.tend != nil {
		return g.tend(ctx, s, dir)
	}
	<-ctx.Done()
	return nil
}

// jobs starts the issuer, and returns what a shell reads to look like its jobs.
func (s *stage) jobs(ctx context.Context) (string, error) {
	if err := s.startIssuer(ctx); err != nil {
		return "", err
	}
	issuer, err := s.issuer.line(ctx, "export TESTISSUER_URL=")
	return fmt.Sprintf(`export ISSUER=%s
job() {
    branch=$1; shift
    env ACTIONS_ID_TOKEN_REQUEST_URL="%s&repository=acme/orders&ref=refs/heads/$branch" \
        ACTIONS_ID_TOKEN_REQUEST_TOKEN='%s' "$@"
}
`, strings.Trim(issuer, "'"), s.tokens, s.bearer), err
}
