package revoker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// The target answers, and refuses one role: a table that the role names has gone.
func TestARoleThatTheTargetRefusesShutsNobodyElseOut(t *testing.T) {
	w := newWorld(t, "")
	member, m := w.target("vault", targettest.NewSystem(time.Now))
	bad := map[string]bool{}
	m.SetHook(func(_ context.Context, step targettest.Step, id string) error {
		if step == targettest.BeforeGrant && bad[id] {
			return fmt.Errorf("grants[0]: public.orders does not exist: %w", target.ErrNotDone)
		}
		return nil
	})
	order := func() target.Grant {
		return target.Grant{Lease: string(lease.NewID(time.Now().Unix())), Rights: targettest.MemoryRights(), TTL: time.Hour}
	}
	for range 10 {
		g := order()
		bad[g.Lease] = true
		if _, err := member.Grant(t.Context(), g); err == nil {
			t.Fatal("granted")
		}
	}
	if _, err := member.Grant(t.Context(), order()); err != nil {
		t.Errorf("a role that is in order: %v", err)
	}
}

// Renewals take the slots of grants: one holder can take them all.
func TestRenewalsThatHangLeaveRoomForGrants(t *testing.T) {
	w := newWorld(t, "")
	member, m := w.target("vault", targettest.NewSystem(time.Now))
	l, _ := w.grant(m, "vault", time.Hour)
	hang := make(chan struct{})
	var hanging atomic.Int32
	m.SetHook(func(_ context.Context, step targettest.Step, _ string) error {
		if step == targettest.BeforeRenew {
			hanging.Add(1)
			<-hang
		}
		return nil
	})
	defer close(hang)
	for range 300 {
		go member.Renew(t.Context(), string(l.ID), time.Hour)
	}
	w.await("the renewals to hang", func() bool { return hanging.Load() >= 32 })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := member.Grant(ctx, target.Grant{Lease: string(lease.NewID(time.Now().Unix())), Rights: targettest.MemoryRights(), TTL: time.Hour})
	if errors.Is(err, context.DeadlineExceeded) || err != nil {
		t.Errorf("a grant beside one holder's renewals: %v", err)
	}
}
