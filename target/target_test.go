package target_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/daypass/daypass/target"
)

func TestWhatChangedNothingSaysSoOnce(t *testing.T) {
	if err := target.NotDone(nil); err != nil {
		t.Errorf("of no error: %v", err)
	}
	lost := errors.New("no route to host")
	err := target.NotDone(target.NotDone(lost))
	if !errors.Is(err, target.ErrNotDone) || !errors.Is(err, lost) || strings.Count(err.Error(), target.ErrNotDone.Error()) != 1 {
		t.Errorf("got %v", err)
	}
	refused := &target.RefusalError{Text: "no"}
	if err := target.NotDone(refused); err != error(refused) {
		t.Errorf("a refusal changed nothing already: %v", err)
	}
}

func TestALeaseIDIsNothingElse(t *testing.T) {
	if err := target.CheckLease("abcdefghijklmnopqrst"); err != nil {
		t.Errorf("a lease ID: %v", err)
	}
	for _, lease := range []string{"", "a", "abcdefghijklmnopqrs'", "ABCDEFGHIJKLMNOPQRST", "abcdefghijklmnopqrstu", "abcdefghijklmnopqr/.."} {
		if err := target.CheckLease(lease); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("%q: %v", lease, err)
		}
	}
}
