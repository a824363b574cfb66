package revoker_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// roles are what the roles of a target hold.
func roles(reader json.RawMessage) map[string]json.RawMessage {
	return map[string]json.RawMessage{"reader": reader}
}

// reading grants a credential of the reader with the rights that it had.
func reading(t *testing.T, m *revoker.Member) target.Credential {
	t.Helper()
	credential, err := m.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "reader", Rights: targettest.MemoryRights(), TTL: time.Hour})
	must(t, err)
	return credential
}

func TestARoleThatIsNarrowedReachesItsLiveLeasesOnceTheTargetAnswers(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, m := w.target("vault", system)
	member.SetRoles(roles(targettest.MemoryRights()))
	w.run()
	credential := reading(t, member)
	w.await("the first pass", member.Narrowed)
	m.SetDown(true)
	member.SetRoles(roles(targettest.LessMemoryRights())) // and waits for nobody
	if member.Narrowed() {
		t.Error("a target that is down has narrowed its roles")
	}
	must(t, system.Try(credential))
	m.Heal()
	w.await("the role to be narrowed", member.Narrowed)
	if system.Try(credential) == nil {
		t.Error("a live lease holds what its role has lost")
	}
}

// A broker that was killed between an activation and its narrowing starts with what is active.
func TestANewMemberIsNarrowedAtOnce(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	before := revoker.NewMember("vault", "memory", targettest.NewMemory(system))
	credential := reading(t, before)
	member, _ := w.target("vault", system)
	member.SetRoles(roles(targettest.LessMemoryRights()))
	w.run()
	w.await("the role to be narrowed", func() bool { return system.Try(credential) != nil })
}

// A request decides under one access revision and is granted when another one is active.
func TestAGrantThatWasOvertakenByItsRoleIsNarrowedAsWell(t *testing.T) {
	w := newWorld(t, "")
	system := targettest.NewSystem(time.Now)
	member, _ := w.target("vault", system)
	member.SetRoles(roles(targettest.LessMemoryRights()))
	w.run()
	w.await("the first pass", member.Narrowed)
	credential := reading(t, member)
	w.await("the late grant to be narrowed", func() bool { return system.Try(credential) != nil })
}
