package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// World is one cloud with one target at it.
type World struct {
	Faults *Faults
	Book   *Book
	Open   func() target.Target // as a broker that starts
	Rights string
	// Left names what lives at the cloud for leases: principals that can be entered, rights, and what waits to be deleted for
	// good. Tombs are not meant.
	Left func() []string
	// Opens reports whether the credential does.
	Opens   func(target.Credential) bool
	Forward func(time.Duration)
}

func (w World) order() target.Grant {
	return target.Grant{
		Lease: targettest.Lease(), Role: "deploy", Rights: []byte(w.Rights), TTL: 15 * time.Minute,
		Holder: target.Holder{Issuer: "github", Subject: "repo:acme/x:ref:refs/heads/main"},
	}
}

// limit bounds each case.
const limit = 60 * time.Second

// Cross crosses each request of a grant and of a revocation with each fault, and with the death of the process before and
// after it. Whatever becomes of it, a broker that starts afterwards ends the lease and leaves nothing.
func Cross(t *testing.T, open func(*testing.T) World) {
	steps := func(t *testing.T, w World, do func(target.Target)) int {
		at := w.Open()
		w.Faults.Strike(0, 0, "")
		do(at)
		return w.Faults.Seen()
	}
	var grants, revokes int
	t.Run("nothing fails", func(t *testing.T) {
		w := open(t)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		g := w.order()
		var got target.Credential
		var err error
		grants = steps(t, w, func(at target.Target) { got, err = at.Grant(ctx, g) })
		if err != nil || !w.Opens(got) {
			t.Fatalf("grant: %v", err)
		}
		revokes = steps(t, w, func(at target.Target) { err = at.Revoke(ctx, g.Lease) })
		if err != nil || w.Opens(got) {
			t.Fatalf("revoke: %v", err)
		}
		w.clean(ctx, t)
	})
	for n := 1; n <= grants; n++ {
		for _, fault := range All() {
			t.Run(fmt.Sprintf("request %d of a grant: %s", n, fault), func(t *testing.T) { w := open(t); w.crossGrant(t, n, fault) })
		}
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("killed at request %d of a grant, which happened: %v", n, after), func(t *testing.T) { w := open(t); w.killGrant(t, n, after) })
		}
	}
	for n := 1; n <= revokes; n++ {
		for _, fault := range All() {
			t.Run(fmt.Sprintf("request %d of a revocation: %s", n, fault), func(t *testing.T) { w := open(t); w.crossRevoke(t, n, fault) })
		}
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("killed at request %d of a revocation, which happened: %v", n, after), func(t *testing.T) { w := open(t); w.killRevoke(t, n, after) })
		}
	}
}

// crossGrant breaks one request of a grant for as often as it is tried.
func (w World) crossGrant(t *testing.T, n int, fault Fault) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := w.order()
	w.Faults.Strike(n, 1, fault)
	got, err := w.Open().Grant(ctx, g)
	w.Faults.Strike(0, 0, "")
	switch {
	case err == nil && !w.Opens(got):
		t.Error("granted, and the credential does not open")
	case errors.Is(err, target.ErrNotDone) && len(w.Left()) > 0:
		t.Errorf("nothing was done, it says, and there is %v", w.Left())
	}
	w.ended(ctx, t, g.Lease, got)
}

// killGrant ends the process at one request of a grant.
func (w World) killGrant(t *testing.T, n int, after bool) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := w.order()
	dying, kill := context.WithCancel(ctx)
	defer kill()
	if after {
		w.Faults.Tell(n, nil, kill)
	} else {
		w.Faults.Strike(n, 1000, Drop)
		w.Faults.before = kill
	}
	got, _ := w.Open().Grant(dying, g)
	w.Faults.Strike(0, 0, "")
	w.ended(ctx, t, g.Lease, got)
}

func (w World) crossRevoke(t *testing.T, n int, fault Fault) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := w.order()
	got, err := w.Open().Grant(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	w.Faults.Strike(n, 1, fault)
	err = w.Open().Revoke(ctx, g.Lease)
	w.Faults.Strike(0, 0, "")
	if err == nil && w.Opens(got) {
		t.Error("revoked, and the credential opens")
	}
	w.ended(ctx, t, g.Lease, got)
}

func (w World) killRevoke(t *testing.T, n int, after bool) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := w.order()
	got, err := w.Open().Grant(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	dying, kill := context.WithCancel(ctx)
	defer kill()
	if after {
		w.Faults.Tell(n, nil, kill)
	} else {
		w.Faults.Strike(n, 1000, Drop)
		w.Faults.before = kill
	}
	_ = w.Open().Revoke(dying, g.Lease) // it was killed
	w.Faults.Strike(0, 0, "")
	w.ended(ctx, t, g.Lease, got)
}

// ended has the next broker end a lease, and looks at what is left.
func (w World) ended(ctx context.Context, t *testing.T, lease string, got target.Credential) {
	t.Helper()
	if err := w.Open().Revoke(ctx, lease); err != nil {
		t.Fatalf("revoke by the successor: %v", err)
	}
	if got.Type != "" && w.Opens(got) {
		t.Error("the credential opens after its end")
	}
	if err := w.Open().Revoke(ctx, lease); err != nil {
		t.Errorf("revoke again: %v", err)
	}
	w.clean(ctx, t)
}

// clean holds that nothing is left, also of tombs when they are old.
func (w World) clean(ctx context.Context, t *testing.T) {
	t.Helper()
	at := w.Open()
	for lease, err := range at.(target.Lister).Leases(ctx) {
		t.Errorf("there is a lease %s (%v)", lease, err)
	}
	w.Forward(3 * time.Hour)
	if _, err := at.(target.Cleaner).Clean(ctx); err != nil {
		t.Errorf("clean: %v", err)
	}
	if left := w.Left(); len(left) > 0 {
		t.Errorf("there is left: %v", left)
	}
}
