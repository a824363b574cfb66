package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// pair is a primary and its standby, with a login for the store.
type pair struct{ *testbed.Pair }

func newPair(t *testing.T) pair {
	t.Helper()
	p, err := testbed.StartPair(t.Context(), testbed.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	// Applied at the standby as well, for those who log in there.
	err = p.Primary().Exec(t.Context(), "postgres", "set synchronous_commit = remote_apply", "create role "+login+" login password '"+password+"'", "create database daypass owner "+login)
	if err != nil {
		t.Fatal(err)
	}
	return pair{p}
}

func (p pair) url() string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d,127.0.0.1:%d/daypass?sslmode=disable", login, p.Places[0], p.Places[1])
}

// A commit that gives up waiting for its standby can be seen at the primary, and is gone when the standby takes over:
// an update must not be answered for having been seen.
func TestAnAnsweredUpdateSurvivesThePromotionOfTheStandby(t *testing.T) {
	pair := newPair(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	signer, _, err := ledger.GenerateSigner("daypass.example.com/standby")
	must(err)
	opt := postgres.Options{Options: store.Options{Signer: signer}, Password: secret.New(password)}
	must(postgres.Create(t.Context(), pair.url(), opt))
	s, err := postgres.Open(t.Context(), pair.url(), opt)
	must(err)
	running, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	t.Cleanup(func() {
		stop()
		<-ended // what it could not commit is this test's doing
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})

	must(pair.HaltStandby(t.Context()))
	answer := make(chan error, 1)
	go func() {
		answer <- s.Update(context.WithoutCancel(t.Context()), func(tx *store.Tx) error { return tx.SetQuarantine("orders", time.Unix(1, 0)) })
	}()
	select {
	case err := <-answer:
		if err == nil {
			t.Fatal("an update was answered that the standby does not have")
		}
	case <-time.After(20 * time.Second): // longer than a group may take
	}
	must(pair.FailOver(t.Context()))
	must(pair.Leave(t.Context()))
	if err := <-answer; err == nil {
		t.Error("an update was answered that the new primary does not have")
	}
	must(s.Update(t.Context(), func(tx *store.Tx) error { return tx.SetQuarantine("orders", time.Unix(2, 0)) }))
}

// While a standby waits for its primary, what keeps services running must not take that for a mistake of its own.
func TestAPrimaryOnItsWayIsNoLackOfPermissions(t *testing.T) {
	pair := newPair(t)
	if err := pair.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Open(t.Context(), pair.url(), postgres.Options{Options: store.Options{}, Password: secret.New(password)})
	if !fault.Is(err, fault.StoreUnavailable) || errors.Is(err, store.ErrAccess) {
		t.Errorf("got %v", err)
	}
}

// The house's own work reads the store without a limit of its own, and must go on after an answer was lost.
func TestALostAnswerKeepsNoReaderForEver(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	road := testbed.StartProxy(t, d.server.Address())
	url := strings.Replace(d.url(), d.server.Address(), road.Address(), 1)
	s, err := postgres.Open(t.Context(), url, d.options(store.Options{Signer: storetest.Signer(t)}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	look := func() error {
		return s.View(t.Context(), func(tx *store.Tx) error {
			_, err := tx.LedgerSize()
			return err
		})
	}
	for range 4 { // every reader has a connection
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	road.Set(testbed.BlackHole)
	if err := look(); !fault.Is(err, fault.StoreUnavailable) {
		t.Errorf("nothing came back, and the view says %v", err)
	}
	road.Heal()
	for range 4 {
		if err := look(); err != nil {
			t.Error(err)
		}
	}
}
