package oidctoken_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestOIDCTokenConforms(t *testing.T) {
	keys := issuertest.NewKeys(t)
	targettest.Run(t, func(t *testing.T) targettest.Fixture {
		d := openDesk(t, keys)
		return targettest.Fixture{
			Target: d.target,
			Rights: json.RawMessage(rights(t, "")),
			Try: func(_ context.Context, c target.Credential) error {
				_, err := d.accept(c, service)
				return err
			},
			Exceed: func(_ context.Context, c target.Credential) error {
				_, err := d.accept(c, "other.example.com")
				return err
			},
			Alive: func(ctx context.Context, lease string) (bool, error) {
				until, err := d.until(ctx, lease)
				return d.clock().Before(until), err
			},
			Name: func(c target.Credential) string {
				claims, err := d.accept(c, service)
				if err != nil {
					t.Errorf("name: %v", err)
				}
				name, _ := claims["jti"].(string)
				return name
			},
			Forward: d.pass,
			Skips: map[targettest.Capability]string{
				targettest.Sessions:    "what a service gives for a token is the service's, and lives by its rules",
				targettest.LostAnswers: "a token is signed in the process itself: there is no road on which anything can be lost or late",
				targettest.LateGrants:  "a token is signed in the process itself: there is no road on which anything can be lost or late",
				targettest.Listing:     "nobody keeps tokens, so that nobody can list them",
				targettest.Renewal:     "a signed token does not change: acquire another",
				targettest.Narrowing:   "a signed token does not change: it says what the role said",
				targettest.Marking:     "there is no server that could remember one of ours",
				targettest.Checking:    "there is no administrator",
				targettest.Clocks:      "every service that verifies a token has its own",
				targettest.Expiries:    "nobody keeps tokens but who holds them",
				targettest.Cleaning:    "a token leaves nothing behind",
			},
		}
	})
}
