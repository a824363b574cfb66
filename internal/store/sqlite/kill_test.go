package sqlite_test

import (
	"bufio"
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
)

// The environment of the child that is killed, and how many rounds to do.
const (
	envVictim = "DAYPASS_STORE_VICTIM" // the store's path
	envKillAt = "DAYPASS_STORE_KILL"   // the statement at which the child kills itself, and when: "17 before"
	envRounds = "DAYPASS_STORE_KILL_ROUNDS"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envVictim); path != "" {
		if err := victim(path); err != nil {
			fmt.Fprintln(os.Stderr, "victim:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if order := os.Getenv(envChange); order != "" {
		if err := change(order); err != nil {
			fmt.Fprintln(os.Stderr, "change:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path := os.Getenv(envMeasure); path != "" {
		told, err := measure(path)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(told)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "measure:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim opens the store and leads leases through their lives until it is killed. It tells on standard output what
// it was promised: a line "id state" after the update had returned.
func victim(path string) error {
	signer, err := storetest.FixedSigner()
	if err != nil {
		return err
	}
	opt := sqlite.Options{Options: store.Options{Signer: signer}, Ballast: 1 << 20, Wrap: suicide()}
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, opt)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for worker := range 12 {
		wg.Go(func() {
			for i := 0; ; i++ {
				l := storetest.NewLease("role-"+strconv.Itoa(worker%3), "db-"+strconv.Itoa(i%2))
				l.Subject = "repo:" + strconv.Itoa(worker%4)
				if err := live(ctx, s, l, i%4); err != nil {
					fmt.Fprintln(os.Stderr, "victim:", err)
					os.Exit(1)
				}
			}
		})
	}
	return s.Run(ctx)
}

// live leads one lease through its life and tells of every step.
func live(ctx context.Context, s *store.Store, l store.Lease, steps int) error {
	if err := s.Update(ctx, func(tx *store.Tx) error { _, err := tx.InsertLease(&l); return err }); err != nil {
		return err
	}
	fmt.Println(l.ID, lease.Pending)
	for _, e := range lease.Events()[:steps] {
		var moved store.Lease
		err := s.Update(ctx, func(tx *store.Tx) (err error) {
			if moved, err = tx.Lease(l.ID); err != nil {
				return err
			}
			_, err = tx.Move(&moved, e, store.Why{Reason: lease.Released, Now: time.Now()})
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println(l.ID, moved.State)
	}
	return nil
}

// suicide is the wrapper that kills the process at the statement that the environment names.
func suicide() func(driver.Connector) driver.Connector {
	var at int64
	var when string
	if _, err := fmt.Sscanf(os.Getenv(envKillAt), "%d %s", &at, &when); err != nil {
		return nil
	}
	var count atomic.Int64
	faults := &storetest.Faults{Kill: func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}}
	faults.Decide(func(string) storetest.Fault {
		if count.Add(1) != at {
			return storetest.None
		}
		if when == "before" {
			return storetest.KilledNow
		}
		return storetest.KilledThen
	})
	return faults.Wrap
}

// THREAT_MODEL promise 1: also after kill -9, every credential is covered by a lease.
func TestAStoreKilledAtAnyMomentKeepsWhatItPromised(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	rounds := 20
	if text := os.Getenv(envRounds); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	promised := map[lease.ID]lease.State{}
	acked := 0
	for round := range rounds {
		lines := killedVictim(t, file.path, round)
		for _, line := range lines {
			id, state, _ := strings.Cut(line, " ")
			promised[lease.ID(id)] = lease.State(state)
		}
		acked += len(lines)
		auditAfterKill(t, file, promised)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	if acked == 0 {
		t.Error("no update was answered in any round: the test proves nothing")
	}
	t.Logf("%d rounds, %d answered updates, none lost", rounds, acked)
}

// killedVictim runs a child until it is dead and returns what it told. Every second round it dies at a statement
// of its own, every other one at a moment of ours.
func killedVictim(t *testing.T, path string, round int) (lines []string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envVictim+"="+path)
	if round%2 == 0 {
		when := []string{"before", "after"}[round/2%2]
		child.Env = append(child.Env, fmt.Sprintf("%s=%d %s", envKillAt, 1+rand.IntN(200), when))
	}
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stopAfter := 1 + rand.IntN(300)
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		if len(lines) == stopAfter && round%2 == 1 {
			_ = child.Process.Kill() // what is still in the pipe was promised, too: read on
		}
	}
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v", err)
	}
	return lines
}

// auditAfterKill opens the store again and checks it against its invariants and what was promised of it.
func auditAfterKill(t *testing.T, file file, promised map[lease.ID]lease.State) {
	t.Helper()
	s := storetest.Serve(t, file, nil)
	audit(t, file, s.Store)
	order := lease.States()
	place := map[lease.State]int{}
	for i, state := range order {
		place[state] = i
	}
	storetest.View(t, s.Store, func(tx *store.Tx) error {
		for id, state := range promised {
			l, err := tx.Lease(id)
			if err != nil {
				t.Errorf("lease %s was promised to be %s: %v", id, state, err)
			} else if place[l.State] < place[state] {
				t.Errorf("lease %s was promised to be %s and is %s", id, state, l.State)
			}
		}
		return nil
	})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}
