package watch

import "time"

// burst counts what happens in the window that ends now, to the tenth of it.
type burst struct {
	window time.Duration
	counts [10]int64
	slot   int64 // number of the current tenth since 1970
}

// add counts n more and returns how many there are in the window.
func (b *burst) add(now time.Time, n int64) int64 {
	b.turn(now)
	b.counts[b.slot%int64(len(b.counts))] += n
	return b.sum()
}

// turn forgets what has left the window. A clock that goes back forgets nothing and moves nothing.
func (b *burst) turn(now time.Time) {
	size := int64(len(b.counts))
	slot := now.UnixNano() / max(1, int64(b.window)/size)
	for i := max(b.slot+1, slot-size+1); i <= slot; i++ {
		b.counts[i%size] = 0
	}
	b.slot = max(b.slot, slot)
}

func (b *burst) sum() (all int64) {
	for _, n := range b.counts {
		all += n
	}
	return all
}

// crowd counts bursts of many subjects that strangers choose, in bounded memory: when it is full, the subject that
// was seen least in the window makes room. It may take a while to notice one that hides in a crowd of thousands, which
// the burst of its issuer shows.
type crowd struct {
	window time.Duration
	most   int
	all    map[string]*burst
}

// add counts one more of a subject, and returns how many there were of it in the window.
func (c *crowd) add(now time.Time, subject string) int64 {
	b := c.all[subject]
	if b == nil {
		if len(c.all) >= c.most {
			c.evict(now)
		}
		b = &burst{window: c.window}
		c.all[subject] = b
	}
	return b.add(now, 1)
}

// evict makes room: all that have gone quiet leave, or else the one with the fewest.
func (c *crowd) evict(now time.Time) {
	least, fewest := "", int64(-1)
	for subject, b := range c.all {
		b.turn(now)
		n := b.sum()
		if n == 0 {
			delete(c.all, subject)
			continue
		}
		if fewest < 0 || n < fewest {
			least, fewest = subject, n
		}
	}
	if len(c.all) >= c.most {
		delete(c.all, least)
	}
}
