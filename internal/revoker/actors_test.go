package revoker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

const agentsURL = "https://agents.example"

// acted records an active lease in which an agent acts, and makes its credential.
func (w *world) acted(m target.Target, targetName, agent string) (store.Lease, target.Credential) {
	w.t.Helper()
	now := w.clock.Now()
	l := store.Lease{
		ID: lease.NewID(time.Now().Unix()), State: lease.Pending, Role: "reader", Target: targetName,
		Issuer: "ci", IssuerURL: "https://ci.example.com", Subject: "alice", Revision: "r1", Decision: "d1",
		Claims:    fmt.Appendf(nil, `{"act":{"iss":"https://ci.example.com","sub":"gateway","act":{"iss":%q,"sub":%q}}}`, agentsURL, agent),
		CreatedAt: now, ExpiresAt: now.Add(time.Hour), NativeUntil: now.Add(time.Hour), RenewableUntil: now.Add(time.Hour),
		TokenHash: []byte(lease.NewID(time.Now().Unix())),
	}
	must(w.t, w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		_, err := tx.InsertLease(&l)
		return err
	}))
	credential, err := m.Grant(w.t.Context(), target.Grant{Lease: string(l.ID), Rights: targettest.MemoryRights(), TTL: time.Hour})
	must(w.t, err)
	w.move(&l, lease.Granted, "")
	return l, credential
}

// lockAgent places a lock on an agent, and wakes nobody.
func (w *world) lockAgent(agent string) {
	w.t.Helper()
	must(w.t, w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutLock(store.Lock{ID: "lock-" + agent, IssuerURL: agentsURL, Subject: agent, Reason: "taken over", CreatedAt: w.clock.Now()})
		return err
	}))
}

func TestALockReachesWhoActsAfterACrash(t *testing.T) {
	before := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	_, m := before.target("vault", system)
	l, credential := before.acted(m, "vault", "taken-over")
	other, _ := before.acted(m, "vault", "another")
	pending := before.insert("vault", time.Hour)
	before.lockAgent("taken-over")
	before.stop() // before anybody has looked at the lock

	after := newWorld(t, before.path)
	after.target("vault", system)
	after.run()
	if got := after.awaitState(l.ID, lease.Revoked); got.Reason != lease.Locked || system.Try(credential) == nil {
		t.Errorf("ended as %s, and its credential opens: %v", got.Reason, system.Try(credential) == nil)
	}
	after.awaitState(pending.ID, lease.Revoked) // the crash ends it, so the enforcer has come round
	if got := after.read(other.ID); got.State != lease.Active {
		t.Errorf("another's lease is %s", got.State)
	}
}

func TestALockReachesWhoActsAtAllServers(t *testing.T) {
	join := shared(t)
	first, second := join(), join()
	system := targettest.NewSystem(time.Now)
	_, m := first.target("vault", system)
	second.target("vault", system)
	first.run()
	second.run()
	var leases []store.Lease
	for range 5 {
		l, _ := first.acted(m, "vault", "taken-over")
		leases = append(leases, l)
	}
	other, _ := first.acted(m, "vault", "another")
	second.lockAgent("taken-over")
	second.revoker.Enforce()
	for _, l := range leases {
		if got := first.awaitState(l.ID, lease.Revoked); got.Reason != lease.Locked {
			t.Errorf("ended as %s", got.Reason)
		}
	}
	if got := first.read(other.ID); got.State != lease.Active {
		t.Errorf("another's lease is %s", got.State)
	}
	// A server that was told by nobody finds the lock by itself.
	l, _ := first.acted(m, "vault", "sleeper")
	second.lockAgent("sleeper")
	first.awaitState(l.ID, lease.Revoked)
}
