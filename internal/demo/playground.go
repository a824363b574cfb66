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

// playground starts the database and the issuer of the example for somebody who wants to do the rest by hand, and
// waits until it is interrupted. The tutorial is played on it.
func playground(ctx context.Context, out io.Writer, bin, dir string) (err error) {
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
	if err := s.startDatabase(ctx); err != nil {
		return err
	}
	if err := s.startIssuer(ctx); err != nil {
		return err
	}
	issuer, err := s.issuer.line(ctx, "export TESTISSUER_URL=")
	if err != nil {
		return err
	}
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	password, err := os.ReadFile(s.path("secrets/orders-db"))
	if err != nil {
		return err
	}
	files := map[string]string{
		"administrator-password": string(password),
		"env": fmt.Sprintf(`export SUPERUSER='%s'
export DATABASE='%s'
export ISSUER=%s
export LISTEN=%s
job() {
    branch=$1; shift
    env ACTIONS_ID_TOKEN_REQUEST_URL="%s&repository=acme/orders&ref=refs/heads/$branch" \
        ACTIONS_ID_TOKEN_REQUEST_TOKEN='%s' "$@"
}
`, s.postgres.Superuser("orders"), s.postgres.Address(), issuer, listen, s.tokens, s.bearer),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "A database at %s and an issuer at %s run until you press Ctrl-C.\nIn another terminal:  source %s\n",
		s.postgres.Address(), strings.Trim(issuer, "'"), filepath.Join(dir, "env"))
	<-ctx.Done()
	return nil
}
