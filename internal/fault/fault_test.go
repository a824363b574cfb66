package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/daypass/daypass/internal/fault"
)

func TestKindOf(t *testing.T) {
	cause := errors.New("connection refused")
	inner := fault.Wrap(fault.TargetUnavailable, `grant lease 7f on target "db"`, "the target did not answer", cause)
	for name, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"an unknown error is internal":           {cause, fault.Internal},
		"a fault has its kind":                   {inner, fault.TargetUnavailable},
		"a wrapped fault keeps its kind":         {fmt.Errorf("acquire: %w", inner), fault.TargetUnavailable},
		"the outermost of two faults decides":    {fault.Wrap(fault.Conflict, "release", "", inner), fault.Conflict},
		"a joined error finds the fault in it":   {errors.Join(cause, inner), fault.TargetUnavailable},
		"a fault of no cause keeps its own kind": {fault.New(fault.Denied, "acquire", "no"), fault.Denied},
	} {
		if got := fault.KindOf(c.err); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	if !errors.Is(inner, cause) {
		t.Error("the cause is lost")
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("no error is of a kind")
	}
}

func TestErrorTextNamesOperationAndCause(t *testing.T) {
	err := fault.Wrap(fault.TargetUnavailable, "grant lease 7f", "the target did not answer", errors.New("refused"))
	if got, want := err.Error(), "grant lease 7f: the target did not answer: refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (&fault.Error{Kind: fault.Denied}).Error(); got != "denied" {
		t.Errorf("an empty fault says %q", got)
	}
}
