package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// A commit that gives up waiting for its standby can be seen at the primary, and is gone when the standby takes over:
// an update must not be answered for having been seen.
func TestAnAnsweredUpdateSurvivesThePromotionOfTheStandby(t *testing.T) {
	pair, err := testbed.StartPair(t.Context(), testbed.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Stop(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(pair.Primary().Exec(t.Context(), "postgres", "create role "+login+" login password '"+password+"'", "create database daypass owner "+login))
	url := fmt.Sprintf("postgres://%s@127.0.0.1:%d,127.0.0.1:%d/daypass?sslmode=disable", login, pair.Places[0], pair.Places[1])
	signer, _, err := ledger.GenerateSigner("daypass.example.com/standby")
	must(err)
	opt := postgres.Options{Options: store.Options{Signer: signer}, Password: secret.New(password)}
	must(postgres.Create(t.Context(), url, opt))
	s, err := postgres.Open(t.Context(), url, opt)
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
	pair, err := testbed.StartPair(t.Context(), testbed.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pair.Primary().Exec(t.Context(), "postgres", "create role "+login+" login password '"+password+"'"); err != nil {
		t.Fatal(err)
	}
	if err := pair.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("postgres://%s@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable", login, pair.Places[0], pair.Places[1])
	_, err = postgres.Open(t.Context(), url, postgres.Options{Options: store.Options{}, Password: secret.New(password)})
	if !fault.Is(err, fault.StoreUnavailable) || errors.Is(err, store.ErrAccess) {
		t.Errorf("got %v", err)
	}
}
