package identitytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/secret"
)

func testKeys(t *testing.T, start func(*testing.T) *Fixture) {
	for name, test := range map[string]func(*testing.T, *Fixture){
		"a rotated key works at once":                              testRotation,
		"a removed key stops working within the age of keys":       testRemoval,
		"a flood of unknown keys makes one fetch in each interval": testFlood,
		"a key that is not published is rejected without a fetch":  testMissing,
		"a key published late works soon":                          testLate,
		"forgeries under a known key ID make no fetch":             testForgedFlood,
		"known keys go on while the issuer is down, up to a limit": testOutage,
		"an outage at start ends when the issuer is back":          testRecovery,
		"a restart while the issuer is down goes on with its keys": testRestart,
		"keys of an earlier run grow old too":                      testOldMemory,
		"a key removed before a restart does not come back":        testRemovedMemory,
		"a published key that is unfit is not used":                testUnfit,
		"callers at the same time share one fetch":                 testOneFlight,
	} {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func testRotation(t *testing.T, f *Fixture) {
	need(t, f.Rotate != nil, "rotate keys")
	old := f.token(nil, nil)
	f.accept(t, old)
	f.Advance(f.Floor)
	f.Rotate()
	f.accept(t, f.token(nil, nil))
	f.accept(t, old)
}

// under returns a token that another key than the current one signs.
func (f *Fixture) under(key Key) string {
	input := b64(encode(f.header(map[string]any{"kid": key.ID, "alg": key.Algorithm}))) + "." + b64(encode(f.claims()))
	return input + "." + b64(key.Sign([]byte(input)))
}

func testRemoval(t *testing.T, f *Fixture) {
	need(t, f.Rotate != nil && f.Remove != nil, "remove keys")
	f.accept(t, f.token(nil, nil))
	removed := f.Key()
	f.Rotate()
	f.Remove(removed.ID)
	f.Advance(f.KeyAge)
	_ = f.refuse(t, f.under(removed)) // rejected or not known: both are refusals
	f.accept(t, f.token(nil, nil))
	f.Advance(f.Floor)
	f.reject(t, f.under(removed))
}

// flood sends tokens with key IDs that nobody knows from many callers.
func (f *Fixture) flood(t *testing.T, prefix string, tokens int) {
	const callers = 16
	junk := "." + b64(encode(f.claims())) + "." + b64(f.Key().Sign([]byte("whatever"))) // nobody gets as far as to check it
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := range tokens / callers {
				token := b64(encode(f.header(map[string]any{"kid": fmt.Sprintf("%s-%d-%d", prefix, c, n)}))) + junk
				if _, err := f.Verifier.Verify(context.Background(), secret.New(token)); err == nil {
					t.Error("a token with an unknown key is accepted")
				}
			}
		})
	}
	all.Wait()
}

func testFlood(t *testing.T, f *Fixture) {
	good := f.token(nil, nil)
	f.accept(t, good)
	for round := range 3 {
		f.Advance(f.Floor)
		before := f.Fetches()
		f.flood(t, fmt.Sprint(round), 960)
		if got := f.Fetches() - before; got > 1 {
			t.Errorf("960 unknown keys made %d fetches in one interval", got)
		}
		f.accept(t, f.token(nil, nil))
	}
}

func testMissing(t *testing.T, f *Fixture) {
	f.accept(t, f.token(nil, nil))
	f.Advance(f.Floor)
	unknown := map[string]any{"kid": "nobody-published-this"}
	f.reject(t, f.token(unknown, nil))
	f.Advance(f.Floor)
	before := f.Fetches()
	for range 20 {
		f.reject(t, f.token(unknown, nil))
	}
	if got := f.Fetches() - before; got != 0 {
		t.Errorf("a key that is known to be missing made %d fetches", got)
	}
}

func testLate(t *testing.T, f *Fixture) {
	need(t, f.Rotate != nil, "rotate keys")
	f.accept(t, f.token(nil, nil))
	f.Rotate()
	// Too soon to ask: the key may be good, so that "rejected" would be a lie.
	f.cannotTell(t, f.token(nil, nil))
	f.Advance(f.Floor)
	f.accept(t, f.token(nil, nil))
}

func testForgedFlood(t *testing.T, f *Fixture) {
	f.accept(t, f.token(nil, nil))
	f.Advance(f.Floor)
	before := f.Fetches()
	signature := f.Key().Sign([]byte("something else"))
	for n := range 50 {
		input := b64(encode(f.header())) + "." + b64(encode(f.claims(map[string]any{"jti": fmt.Sprint(n)})))
		f.reject(t, input+"."+b64(signature))
	}
	if got := f.Fetches() - before; got != 0 {
		t.Errorf("50 forgeries made %d fetches", got)
	}
}

func testOutage(t *testing.T, f *Fixture) {
	need(t, f.SetDown != nil, "take its issuer down")
	f.accept(t, f.token(nil, nil))
	f.SetDown(true)
	f.Advance(f.KeyLife - time.Second)
	f.accept(t, f.token(nil, nil))
	f.cannotTell(t, f.token(map[string]any{"kid": "unknown"}, nil))
	f.Advance(2 * time.Second)
	f.cannotTell(t, f.token(nil, nil))
	f.SetDown(false)
	f.Advance(f.Floor)
	f.accept(t, f.token(nil, nil))
}

func testRecovery(t *testing.T, f *Fixture) {
	need(t, f.SetDown != nil, "take its issuer down")
	f.SetDown(true)
	before := f.Fetches()
	for range 100 {
		f.cannotTell(t, f.token(nil, nil))
	}
	if got := f.Fetches() - before; got > 1 {
		t.Errorf("an issuer that is down was asked %d times in one interval", got)
	}
	f.SetDown(false)
	f.Advance(f.Floor)
	f.accept(t, f.token(nil, nil))
}

func testRestart(t *testing.T, f *Fixture) {
	need(t, f.Restart != nil && f.SetDown != nil, "restart")
	f.accept(t, f.token(nil, nil))
	f.SetDown(true)
	f.Verifier = f.Restart()
	f.accept(t, f.token(nil, nil))
	f.cannotTell(t, f.token(map[string]any{"kid": "unknown"}, nil))
}

func testOldMemory(t *testing.T, f *Fixture) {
	need(t, f.Restart != nil && f.SetDown != nil, "restart")
	f.accept(t, f.token(nil, nil))
	f.SetDown(true)
	f.Advance(f.KeyLife)
	f.Verifier = f.Restart()
	f.cannotTell(t, f.token(nil, nil))
}

func testRemovedMemory(t *testing.T, f *Fixture) {
	need(t, f.Restart != nil && f.Rotate != nil && f.Remove != nil, "restart")
	f.accept(t, f.token(nil, nil))
	removed := f.Key()
	f.Rotate()
	f.Remove(removed.ID)
	f.Verifier = f.Restart()
	f.reject(t, f.under(removed))
	f.accept(t, f.token(nil, nil))
}

func testUnfit(t *testing.T, f *Fixture) {
	need(t, f.Unfit != nil, "publish unfit keys")
	for _, kind := range []string{"oct", "RSA-1024"} {
		unfit := f.Unfit(kind)
		f.Advance(f.KeyAge)
		f.accept(t, f.token(nil, nil))
		f.Advance(f.Floor)
		f.reject(t, f.under(unfit))
	}
}

func testOneFlight(t *testing.T, f *Fixture) {
	need(t, f.Floor > 0, "fetch keys")
	before := f.Fetches()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if _, err := f.Verifier.Verify(context.Background(), secret.New(f.token(nil, nil))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := f.Fetches() - before; got != 1 {
		t.Errorf("32 callers made %d fetches", got)
	}
}
