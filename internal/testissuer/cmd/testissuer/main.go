// Command testissuer runs a test issuer as a process, until it is interrupted.
//
// It prints what a shell reads to look like a job of GitHub Actions:
//
//	testissuer -listen 127.0.0.1:9420 >issuer.env &
//	. ./issuer.env
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/daypass/daypass/internal/testissuer"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "testissuer:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; a free port unless given")
	url := flag.String("url", "", "issuer URL; http://<address> unless given")
	alg := flag.String("alg", "RS256", "algorithm of the first key")
	token := flag.String("request-token", "", "bearer token of /token; random unless given")
	flag.Parse()
	issuer, err := testissuer.Start(testissuer.Options{Now: time.Now, Address: *listen, URL: *url, Algorithm: *alg, RequestToken: *token})
	if err != nil {
		return err
	}
	defer func() { _ = issuer.Close() }() // the process ends
	fmt.Printf("export TESTISSUER_URL='%s'\n", issuer.URL())
	fmt.Printf("export ACTIONS_ID_TOKEN_REQUEST_URL='%s'\n", issuer.RequestURL())
	fmt.Printf("export ACTIONS_ID_TOKEN_REQUEST_TOKEN='%s'\n", issuer.RequestToken())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}
