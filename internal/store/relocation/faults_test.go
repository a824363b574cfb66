package relocation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/storetest"
)

// The environment of a child that moves a store and kills itself.
const (
	envRelocate = "DAYPASS_STORE_RELOCATE" // from and to: a path, or the URL of a database
	envKillAt   = "DAYPASS_STORE_KILL"     // at which statement of the two databases, and when: "17 before"
)

// servable counts the places from which a server could start now, and says of none that it has what it has not.
func servable(t testing.TB, places ...home) (n int) {
	t.Helper()
	for _, at := range places {
		err := at.hold(t.Context(), nil, func(d store.Dialect) error {
			idle := store.NewIdle(d)
			defer idle.Close()
			return idle.View(t.Context(), func(rows store.Rows) error {
				to, err := rows.MovedTo()
				if err == nil && to == "" {
					n++
				}
				return err
			})
		})
		if err != nil && !errors.Is(err, store.ErrAbsent) {
			t.Fatal(err)
		}
	}
	return n
}

// finish runs the command again after a fault, as people would, and makes sure that the store is whole at last.
func finish(t testing.TB, what string, from, to home) {
	t.Helper()
	if n := servable(t, from, to); n > 1 {
		t.Fatalf("%s: both can be served", what)
	}
	if _, err := relocate(t.Context(), from, to, nil, nil); err != nil && !errors.Is(err, store.ErrExists) {
		t.Fatalf("%s: the next attempt: %v", what, err)
	}
	if n := servable(t, from); n != 0 {
		t.Fatalf("%s: the source can be served still", what)
	}
	must(t, sound(t, to).Stop())
}

// faulted counts the statements of a database and lets one of them fail.
func faulted(at int64, fate storetest.Fault, kill func()) (faults *storetest.Faults, count *atomic.Int64) {
	count = &atomic.Int64{}
	faults = &storetest.Faults{Kill: kill}
	faults.Decide(func(string) storetest.Fault {
		if count.Add(1) == at {
			return fate
		}
		return storetest.None
	})
	return faults, count
}

func TestAFaultAtAnyStatementOfAMoveLeavesOneStoreAtMost(t *testing.T) {
	for _, c := range []struct {
		name   string
		places func(t testing.TB) (from, to home)
		step   int64
	}{
		{"to PostgreSQL", func(t testing.TB) (home, home) { return newFile(t), newDatabase(t, 15) }, 1},
		{"to a file", func(t testing.TB) (home, home) { return newDatabase(t, 15), newFile(t) }, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := c.places(t)
			furnish(t, from, 8)
			all := countStatements(t, from, to)
			// Every statement in turn would take minutes; the last ones, which change over, are tried more closely.
			for _, fate := range []storetest.Fault{storetest.NotDone, storetest.DoneLost} {
				for at := int64(fate); at <= all; at += c.step * stride(at, all) {
					what := fmt.Sprintf("fault %d at statement %d of %d", fate, at, all)
					from, to := c.places(t)
					furnish(t, from, 8)
					faults, _ := faulted(at, fate, nil)
					if _, err := relocate(t.Context(), from, to, faults.Wrap, faults.Wrap); err == nil {
						t.Logf("%s was survived", what)
					}
					faults.Decide(nil)
					finish(t, what, from, to)
				}
			}
		})
	}
}

// stride leaves statements out, but not of those near the end.
func stride(at, all int64) int64 {
	if testing.Short() || all-at > 26 {
		return 23
	}
	return 1
}

func countStatements(t testing.TB, from, to home) int64 {
	t.Helper()
	faults, count := faulted(-1, storetest.None, nil)
	_, err := relocate(t.Context(), from, to, faults.Wrap, faults.Wrap)
	must(t, err)
	return count.Load()
}

func TestAMoveKilledAtAnyStatementLeavesOneStoreAtMost(t *testing.T) {
	shared := newDatabase(t, 15)
	first := home(newFile(t))
	furnish(t, first, 8)
	all := countStatements(t, first, shared)
	for i, at := 0, int64(3); at <= all; at, i = at+2*stride(at, all), i+1 {
		when := []string{"before", "after"}[i%2]
		from, to := newFile(t), newDatabase(t, 15)
		furnish(t, from, 8)
		if !killedMove(t, from.path, to.url, at, when) {
			t.Fatalf("the child lived beyond statement %d of %d", at, all)
		}
		finish(t, fmt.Sprintf("killed %s statement %d of %d", when, at, all), from, to)
	}
}

// killedMove runs a child that dies at a statement, and reports whether it did.
func killedMove(t *testing.T, from, to string, at int64, when string) bool {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMoveVictim$")
	child.Env = append(os.Environ(), envRelocate+"="+from+" "+to, fmt.Sprintf("%s=%d %s", envKillAt, at, when))
	output, err := child.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("the child: %v\n%s", err, output)
	}
	return false
}

// TestMoveVictim is the child.
func TestMoveVictim(t *testing.T) {
	order := os.Getenv(envRelocate)
	if order == "" {
		return // the parent runs it
	}
	path, url, _ := strings.Cut(order, " ")
	var at int64
	var when string
	if _, err := fmt.Sscanf(os.Getenv(envKillAt), "%d %s", &at, &when); err != nil {
		t.Fatal(err)
	}
	fate := storetest.KilledThen
	if when == "before" {
		fate = storetest.KilledNow
	}
	faults, _ := faulted(at, fate, func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	})
	_, err := relocate(context.WithoutCancel(t.Context()), file{path}, database{url}, faults.Wrap, faults.Wrap)
	must(t, err)
}
