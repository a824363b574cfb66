package server

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestPartsEndInOrder(t *testing.T) {
	var ended []string // one part after the other: no lock is needed
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name)
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := inOrder(ctx, part("edge"), part("revoker"), part("store")); err != nil || strings.Join(ended, " ") != "edge revoker store" {
		t.Errorf("%v, %v", ended, err)
	}
	ended = nil
	broken := errors.New("broken")
	err := inOrder(t.Context(), part("edge"), part("revoker"), func(context.Context) error { return broken })
	if !errors.Is(err, broken) || strings.Join(ended, " ") != "edge revoker" {
		t.Errorf("a part that fails: %v, %v", ended, err)
	}
}
