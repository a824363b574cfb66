package revoker

import (
	"testing"
	"testing/synctest"
	"time"
)

// A claim whose answer took longer than it is trusted, as in a process that was stopped, wins nothing; the next one does,
// and whoever waits hears of it.
func TestAClaimThatLapsedIsWonAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := claims{until: map[string]time.Time{}, changed: make(chan struct{})}
		win := func(until time.Time) (told bool) {
			waiting := c.changed
			c.take(map[string]bool{"orders": true}, until)
			select {
			case <-waiting:
				return true
			default:
				return false
			}
		}
		for name, before := range map[string]time.Time{
			"it came too late":     time.Now().Add(-time.Second),
			"it ran out by and by": time.Now().Add(claimTrust),
		} {
			win(before)
			<-time.After(2 * claimTrust)
			if !win(time.Now().Add(claimTrust)) {
				t.Errorf("%s, and the next claim told nobody", name)
			}
			if win(time.Now().Add(claimTrust)) {
				t.Errorf("%s: a claim that goes on tells everybody anew", name)
			}
		}
	})
}
