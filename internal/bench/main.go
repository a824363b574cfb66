// Command bench measures a whole installation against floors in the same run, and prints ratios.
//
//	go run ./internal/bench              everything, about ten minutes
//	go run ./internal/bench -only locks  one table
//
// The broker is the daypass binary as a process, PostgreSQL is real and syncs, and the load comes from this
// process on the same machine. A floor is the same work by hand: the SQL that makes a login, through the same
// driver, as the same administrator. Absolute figures depend on the machine and on what else it does; ratios
// within one run say more.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

// bench is one table.
type bench struct {
	name string
	run  func(context.Context, settings) error
}

// settings are what the flags say.
type settings struct {
	slice    time.Duration // how long each measurement takes
	versions []int         // of PostgreSQL
	live     int           // logins in the tests of many
	million  int           // leases in the test of very many
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	benches := []bench{{"acquire", acquire}, {"live", live}, {"locks", locks}, {"million", million}}
	var names []string
	for _, b := range benches {
		names = append(names, b.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "one of "+strings.Join(names, ", "))
	slice := flags.Duration("slice", 4*time.Second, "how long each measurement takes")
	version := flags.Int("postgres", 0, "15 or 18; both unless given")
	many := flags.Int("live", 10_000, "logins in live and locks")
	million := flags.Int("million", 1_000_000, "leases in million")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *only != "" && !slices.Contains(names, *only) {
		return fmt.Errorf("no benchmark %q: there are %s", *only, strings.Join(names, ", "))
	}
	s := settings{slice: *slice, versions: []int{15, 18}, live: *many, million: *million}
	if *version != 0 {
		s.versions = []int{*version}
	}
	fmt.Printf("%s, %d CPUs, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, b := range benches {
		if *only != "" && *only != b.name {
			continue
		}
		if err := b.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}
