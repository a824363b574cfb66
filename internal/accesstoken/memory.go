package accesstoken

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Memory remembers what was used, until it is refused anyway. It is one process's: what must be good once at all
// servers of a store is recorded there too.
type Memory struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	young    map[[16]byte]time.Time
	old      map[[16]byte]time.Time
	turnAt   time.Time // when young becomes old, and old is forgotten
	turnSize int
}

// How much is remembered. What is used lives for minutes; a generation that grows past its size ends early only if
// nothing in it could be used again, so that filling the memory refuses callers and forgets nothing.
const (
	turnEvery = 6 * time.Minute // longer than any proof is good
	turnMost  = 500_000
)

// NewMemory returns an empty Memory.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, young: map[[16]byte]time.Time{}, turnSize: turnMost}
}

// First reports whether an ID has not been used, and remembers it until a time. When too many are remembered it
// reports false: what cannot be remembered must not be accepted.
func (m *Memory) First(id string, until time.Time) bool {
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:])
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(m.turnAt) {
		m.young, m.old, m.turnAt = map[[16]byte]time.Time{}, m.young, now.Add(turnEvery)
	}
	if m.young[key].After(now) || m.old[key].After(now) || len(m.young) >= m.turnSize {
		return false
	}
	m.young[key] = until
	return true
}
