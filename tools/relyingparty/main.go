// Command relyingparty is a service that trusts an OpenID Connect issuer, by a client library that nobody here wrote. It
// discovers the issuer and verifies tokens, one from each line of standard input: "good SUBJECT" or "bad" and the reason.
//
// It is for tests, in a module of its own: its dependencies are not ours.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves lines until there are no more.
func run(ctx context.Context, issuer, audience string) error {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return err
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: audience})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		token, err := verifier.Verify(ctx, lines.Text())
		if err != nil {
			fmt.Printf("bad %q\n", err.Error())
			continue
		}
		fmt.Printf("good %s\n", token.Subject)
	}
	return lines.Err()
}
