// Command demo shows the whole job on real servers: a workload's token becomes a database login that destroys
// itself. `make demo` runs it, and its test does.
//
// It drives the daypass binary as a user does, checks everything that it claims against the database itself, and
// ends with an error when a claim does not hold. It owns the processes it starts and one temporary directory, and
// leaves neither behind, also when it is interrupted. It must not import the server: what it shows is the binary.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	own, err := os.Executable()
	if err != nil {
		own = "bin/demo"
	}
	bin := flag.String("bin", filepath.Dir(own), "directory of the binaries daypass and testissuer")
	ground := flag.String("playground", "", "only start a database and an issuer, write their addresses into this new directory, and wait")
	cloud := flag.Bool("cloud", false, "with -playground: a Kubernetes cluster and a cloud in place of the database")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	colors := term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	switch {
	case *ground == "":
		err = run(ctx, os.Stdout, *bin, colors)
	case *cloud:
		err = playground(ctx, os.Stdout, *bin, *ground, cloudGround)
	default:
		err = playground(ctx, os.Stdout, *bin, *ground, databaseGround)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run shows everything, and leaves nothing behind.
func run(ctx context.Context, out io.Writer, bin string, colors bool) (err error) {
	begun := time.Now()
	p := &printer{out: out, colors: colors}
	p.title("Daypass: a workload's token becomes a database login that destroys itself")
	s, err := newStage(p, bin)
	if err != nil {
		return err
	}
	defer func() {
		if end := s.close(); err == nil {
			err = end
		}
		if err == nil {
			p.end("%d claims held, in %.0f seconds. Nothing is left behind.", p.claims, time.Since(begun).Seconds())
		}
	}()
	for number, step := range story() {
		p.step(number+1, step.title, step.why)
		if err := step.show(ctx, s); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in step %d", number+1)
			}
			return fmt.Errorf("step %d: %w%s", number+1, err, s.serverLog())
		}
	}
	return nil
}
