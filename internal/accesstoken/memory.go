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
	by       map[string]int // how much of young is whose
	turnAt   time.Time      // when young becomes old, and old is forgotten
	turnSize int
}

// How much is remembered. What is used lives for minutes; a generation that grows past its size ends early only if
// nothing in it could be used again, so that filling the memory refuses callers and forgets nothing.
const (
	turnEvery = 6 * time.Minute // longer than any proof is good
	turnMost  = 500_000
	turnShare = 5 // one principal may fill a fifth: more than a reporter of posture sends, and it shuts out itself alone
)

// NewMemory returns an empty Memory.
func NewMemory(now func() time.Time) *Memory { return newMemory(now, turnMost) }

func newMemory(now func() time.Time, size int) *Memory {
	return &Memory{now: now, young: map[[16]byte]time.Time{}, by: map[string]int{}, turnSize: size}
}

// First reports whether an ID has not been used, and remembers it until a time, as one that a principal brought. When too
// many are remembered it reports false: what cannot be remembered must not be accepted.
func (m *Memory) First(owner, id string, until time.Time) bool {
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:])
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(m.turnAt) {
		m.young, m.old, m.by, m.turnAt = map[[16]byte]time.Time{}, m.young, map[string]int{}, now.Add(turnEvery)
	}
	if m.young[key].After(now) || m.old[key].After(now) || len(m.young) >= m.turnSize || m.by[owner] >= m.turnSize/turnShare {
		return false
	}
	m.young[key] = until
	m.by[owner]++
	return true
}
