package targettest

import (
	"context"
	"testing"
	"time"

	"github.com/daypass/daypass/target"
)

// Expiry tells until when a login lives.
func (m *Memory) Expiry(ctx context.Context, lease string) (time.Time, error) {
	if err := m.reach(ctx); err != nil {
		return time.Time{}, err
	}
	m.system.mu.Lock()
	defer m.system.mu.Unlock()
	if login := m.system.logins[lease]; login != nil {
		return login.until, nil
	}
	return time.Time{}, nil
}

var _ target.Expirer = (*Memory)(nil)

func tellsExpiry(t *testing.T, s *suite) {
	expirer := s.Target.(target.Expirer)
	expiry := func(lease string) time.Time {
		t.Helper()
		until, err := expirer.Expiry(s.ctx, lease)
		if err != nil {
			t.Fatalf("the expiry of a lease: %v", err)
		}
		return until
	}
	lease := Lease()
	if until := expiry(lease); !until.IsZero() {
		t.Errorf("a lease that was never granted expires at %v", until)
	}
	s.granted(t, lease)
	first := expiry(lease)
	if first.IsZero() {
		t.Error("a credential that lives has no expiry")
	}
	if renewer, ok := s.Target.(target.Renewer); ok {
		if err := renewer.Renew(s.ctx, lease, 12*time.Hour); err != nil {
			t.Fatalf("renew: %v", err)
		}
		if until := expiry(lease); until.Before(first.Add(time.Hour)) {
			t.Errorf("renewed, it expires at %v, before at %v", until, first)
		}
	}
	if err := s.Target.Revoke(s.ctx, lease); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	if until := expiry(lease); !until.IsZero() {
		t.Errorf("a revoked lease expires at %v", until)
	}
}
