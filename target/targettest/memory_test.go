package targettest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

// memorySession is open as long as its login works.
type memorySession struct {
	system     *targettest.System
	credential target.Credential
}

func (s memorySession) Use(context.Context) error { return s.system.Try(s.credential) }
func (s memorySession) Close() error              { return nil }

func TestMemoryConforms(t *testing.T) {
	targettest.Run(t, func(*testing.T) targettest.Fixture {
		system := targettest.NewSystem(time.Now)
		memory := targettest.NewMemory(system)
		try := func(_ context.Context, c target.Credential) error { return system.Try(c) }
		return targettest.Fixture{
			Target: memory,
			Rights: targettest.MemoryRights(),
			Less:   targettest.LessMemoryRights(),
			Try:    try,
			Alive:  func(_ context.Context, lease string) (bool, error) { return system.Alive(lease), nil },
			Session: func(_ context.Context, c target.Credential) (targettest.Session, error) {
				return memorySession{system, c}, system.Try(c)
			},
			Name:    func(c target.Credential) string { return c.Attributes["username"].(string) },
			Forward: system.Forward,
			Mark:    target.Mark{Instance: "abc234", Target: "here", Boot: 1},
			Faulty: func() targettest.Faulty {
				road := targettest.NewMemory(system)
				return targettest.Faulty{
					Target:      road,
					LoseAnswers: func() { road.LoseAnswers(true) },
					Hold:        road.Hold,
					Heal:        road.Heal,
					Successor:   func() target.Target { return targettest.NewMemory(system) },
				}
			},
			Skips: map[targettest.Capability]string{targettest.Restriction: "a login in memory has no rights to exceed"},
		}
	})
}

func TestHooksSeeEachStepAndDecideTheAnswer(t *testing.T) {
	system := targettest.NewSystem(time.Now)
	memory := targettest.NewMemory(system)
	crash := errors.New("crash")
	for _, step := range []targettest.Step{targettest.BeforeGrant, targettest.AfterGrant} {
		lease := targettest.Lease()
		memory.SetHook(func(_ context.Context, at targettest.Step, of string) error {
			if at == step && of == lease {
				return crash
			}
			return nil
		})
		_, err := memory.Grant(t.Context(), target.Grant{Lease: lease, Rights: targettest.MemoryRights(), TTL: time.Hour})
		if !errors.Is(err, crash) {
			t.Errorf("%s: got %v", step, err)
		}
		if alive := system.Alive(lease); alive != (step == targettest.AfterGrant) {
			t.Errorf("%s: alive is %v", step, alive)
		}
	}
	memory.SetHook(nil)
	memory.SetDown(true)
	if err := memory.Revoke(t.Context(), targettest.Lease()); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("a target that is down answered %v", err)
	}
}
