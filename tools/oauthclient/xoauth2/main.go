// Command xoauth2 is a workload that gets a lease by golang.org/x/oauth2: client credentials with a client assertion. It
// prints the token's type and the lease's role.
//
// It is for tests, in a module of its own: its dependencies are not ours.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	server, evidence, role := os.Args[1], os.Args[2], os.Args[3]
	config := clientcredentials.Config{
		TokenURL:  server + "/oauth/token",
		Scopes:    []string{"role:" + role},
		AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{
			"client_assertion":      {evidence},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		},
	}
	token, err := config.Token(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lease, _ := token.Extra("lease").(map[string]any)
	fmt.Println(token.TokenType, lease["role"])
}
