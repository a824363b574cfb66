package oidc_test

import (
	"context"
	"fmt"
	"time"

	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

func Example() {
	issuer, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: "ES256"}) // stands for GitHub
	if err != nil {
		panic(err)
	}
	defer issuer.Close()
	token := issuer.Token(issuer.GitHub(testissuer.Run{Audience: "https://daypass.example.com"}))

	verifier, err := oidc.New(oidc.Config{Name: "github", URL: issuer.URL(), Audience: "https://daypass.example.com", Now: time.Now})
	if err != nil {
		panic(err)
	}
	principal, err := verifier.Verify(context.Background(), secret.New(token))
	fmt.Println(principal.Name(), principal.Claims["ref"], err)
	// Output: github:repo:acme/orders:ref:refs/heads/main refs/heads/main <nil>
}
