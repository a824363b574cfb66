// Command bench measures a whole installation against floors in the same run, and prints ratios.
//
//	go run ./internal/bench              everything but the soak, about half an hour
//	go run ./internal/bench -only locks  one table
//	go run ./internal/bench -only soak   one server under steady load, for 20 minutes unless -soak says
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
	long bool // runs only when it is named
}

// settings are what the flags say.
type settings struct {
	slice    time.Duration // how long each measurement takes
	versions []int         // of PostgreSQL
	live     int           // logins in the tests of many
	million  int           // leases in the test of very many
	cost     int           // leases in the test of what one costs
	storm    string        // the only storm to run; all unless given
	ending   int           // leases that end in the same second
	due      int           // revocations that are due at a target that is down
	down     time.Duration // how long it is down
	soak     time.Duration // how long the soak goes on
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if len(os.Args) == 3 && os.Args[1] == serveWord {
		err = serve(os.Args[2])
	} else {
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	benches := []bench{
		{name: "acquire", run: acquire}, {name: "live", run: live}, {name: "locks", run: locks}, {name: "million", run: million},
		{name: "tokens", run: tokens}, {name: "rates", run: rates}, {name: "cost", run: cost}, {name: "storms", run: storms},
		{name: "soak", run: soak, long: true},
	}
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
	costs := flags.Int("cost", 8_000, "leases in cost")
	storm := flags.String("storm", "", "the only one of storms to run: ending, down, locked, flood or greedy")
	ending := flags.Int("ending", 100_000, "leases that end in the same second, in storms")
	due := flags.Int("due", 20_000, "revocations due at a target that is down, in storms")
	down := flags.Duration("down", 150*time.Second, "how long the target is down, in storms; after 2 minutes it is asked as seldom as ever")
	soak := flags.Duration("soak", 20*time.Minute, "how long soak goes on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *only != "" && !slices.Contains(names, *only) {
		return fmt.Errorf("no benchmark %q: there are %s", *only, strings.Join(names, ", "))
	}
	s := settings{slice: *slice, versions: []int{15, 18}, live: *many, million: *million, soak: *soak,
		cost: *costs, storm: *storm, ending: *ending, due: *due, down: *down}
	if *version != 0 {
		s.versions = []int{*version}
	}
	fmt.Printf("%s, %d CPUs, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, b := range benches {
		if *only != "" && *only != b.name || *only == "" && b.long {
			continue
		}
		if err := b.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}
