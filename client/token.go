package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// ErrNoToken marks errors of calls that were not sent because the evidence could not be had.
var ErrNoToken = errors.New("no identity token")

// TokenSource gives evidence: a token that names the workload to the server. It is asked whenever evidence is shown: for
// an access token, or, where the server gives none, before each call. So a source which refreshes its token always gives
// a fresh one. Token may be called concurrently.
type TokenSource interface {
	Token(ctx context.Context) (secret.Text, error)
}

// TokenFunc is a function as a [TokenSource].
type TokenFunc func(ctx context.Context) (secret.Text, error)

// Token calls f.
func (f TokenFunc) Token(ctx context.Context) (secret.Text, error) { return f(ctx) }

// StaticToken is a source that always gives token.
func StaticToken(token secret.Text) TokenSource {
	return TokenFunc(func(context.Context) (secret.Text, error) { return token, nil })
}

// FileToken is a source that reads the file at path before each call, as projected tokens ask for: the platform
// replaces them. White space around the token is cut.
func FileToken(path string) TokenSource {
	return TokenFunc(func(context.Context) (secret.Text, error) {
		file, err := os.Open(path)
		if err != nil {
			return secret.Text{}, fmt.Errorf("read token file: %w", err)
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, api.MaxToken+1))
		if err != nil {
			return secret.Text{}, fmt.Errorf("read token file: %w", err)
		}
		token := strings.TrimSpace(string(text))
		switch {
		case token == "":
			return secret.Text{}, fmt.Errorf("token file %q is empty", path)
		case len(text) > api.MaxToken:
			return secret.Text{}, fmt.Errorf("token file %q is longer than %d bytes: not a token", path, api.MaxToken)
		}
		return secret.New(token), nil
	})
}

// checkToken refuses what could not be sent as one header value, without showing it.
func checkToken(token secret.Text) error {
	if token.IsZero() {
		return errors.New("the token is empty")
	}
	for _, c := range []byte(token.Reveal()) {
		if c <= ' ' || c > '~' {
			return errors.New("the token holds characters that no token has, such as a line break")
		}
	}
	return nil
}
