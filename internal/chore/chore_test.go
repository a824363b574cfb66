package chore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/internal/chore"
)

// mine is a claim that is always ours.
type mine struct{ not error }

func (m mine) Ours(context.Context) (bool, error) { return m.not == nil, m.not }

func TestAChoreIsDoneFromTimeToTimeAndAtEachWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		begun, done := time.Now(), []time.Duration{}
		fails := errors.New("it fails")
		var heard error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			chore.Loop{
				Claim: mine{}, Wake: wake, Every: time.Minute, After: time.Hour,
				Do: func(context.Context) error {
					done = append(done, time.Since(begun))
					if len(done) == 3 {
						return fails
					}
					return nil
				},
				Failed: func(err error) { heard = err },
			}.Run(ctx)
		}()
		time.Sleep(61 * time.Second) //nolint:forbidigo // in a bubble
		wake <- struct{}{}
		time.Sleep(2 * time.Hour) //nolint:forbidigo // in a bubble
		cancel()
		<-ended
		// At its time, at the wake, a minute later, and then an hour after the error.
		want := []time.Duration{time.Minute, 61 * time.Second, 121 * time.Second, 121*time.Second + time.Hour}
		if len(done) < len(want) || heard != fails {
			t.Fatalf("done at %v, heard %v", done, heard)
		}
		for n, at := range want {
			if done[n] != at {
				t.Errorf("done at %v, want %v first", done, want)
				break
			}
		}
	})
}

// theirs is a claim that another server has.
type theirs struct{}

func (theirs) Ours(context.Context) (bool, error) { return false, nil }

func TestAChoreOfAnotherServerIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		chore.Loop{
			Claim: theirs{}, Every: time.Minute, After: time.Minute,
			Do:     func(context.Context) error { t.Error("it was done without a claim"); return nil },
			Failed: func(err error) { t.Errorf("told of %v", err) },
		}.Run(ctx)
	})
}

func TestAClaimThatCannotBeMadeIsToldAndTriedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		heard := 0
		chore.Loop{
			Claim: mine{not: errors.New("the store is away")}, Every: time.Minute, After: 10 * time.Minute,
			Do:     func(context.Context) error { t.Error("it was done without a claim"); return nil },
			Failed: func(error) { heard++ },
		}.Run(ctx)
		if heard < 5 || heard > 7 {
			t.Errorf("the error was told %d times in an hour", heard)
		}
	})
}
