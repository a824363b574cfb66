package identitytest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

// Evidence is a fixture for [RunEvidence]: a verifier, and somebody who makes evidence of a form of its own.
type Evidence struct {
	Verifier identity.Verifier
	Name     string // what [identity.Principal.Issuer] must be
	URL      string // what [identity.Principal.IssuerURL] must be
	Subject  string // what [identity.Principal.Subject] of good evidence must be
	Prefix   string // what evidence of this form begins with

	Now     func() time.Time
	Advance func(time.Duration) // moves the clock of maker and verifier
	Life    time.Duration       // how long evidence is good after it was made
	Leeway  time.Duration       // how far the verifier lets the maker's clock be off

	Make  func(t *testing.T) string // good evidence, made now, at most 4 KB
	Asked func() int                // how often the verifier asked somebody else

	Bad    map[string]func(t *testing.T) string // evidence that is bad for ever, by what is wrong with it
	Unsure map[string]func(t *testing.T) string // good evidence, after a fault that keeps everybody from telling
}

// RunEvidence runs the suite for verifiers of evidence that is no signed token; start is called for each case.
func RunEvidence(t *testing.T, start func(t *testing.T) *Evidence) {
	t.Helper()
	for name, part := range map[string]func(*testing.T, *Evidence){
		"good evidence gives its principal":                            testGoodEvidence,
		"callers at the same time do not disturb each other":           testEvidenceAtOnce,
		"what is no evidence is rejected and nobody is asked":          testNoEvidence,
		"a changed byte never speaks for somebody else":                testChangedEvidence,
		"evidence that was good expires":                               testOldEvidence,
		"evidence from the future is rejected":                         testEarlyEvidence,
		"a caller that gives up does not make good evidence bad":       testGivenUp,
		"the same evidence has the same ID, and no other evidence has": testEvidenceID,
	} {
		t.Run(name, func(t *testing.T) { part(t, start(t)) })
	}
	for name := range start(t).Bad {
		t.Run(name+" is rejected", func(t *testing.T) {
			f := start(t)
			f.reject(t, f.Bad[name](t))
		})
	}
	for name := range start(t).Unsure {
		t.Run("with "+name+" nobody can tell", func(t *testing.T) {
			f := start(t)
			if err := f.refuse(t, f.Unsure[name](t)); errors.Is(err, identity.ErrRejected) {
				t.Errorf("got ErrRejected, but the evidence may be good: %v", err)
			}
		})
	}
}

func (f *Evidence) verify(evidence string) (identity.Principal, error) {
	return f.Verifier.Verify(context.Background(), secret.New(evidence))
}

func (f *Evidence) accept(t *testing.T, evidence string) identity.Principal {
	t.Helper()
	p, err := f.verify(evidence)
	if err != nil {
		t.Fatalf("good evidence is refused: %v", err)
	}
	if p.Issuer != f.Name || p.IssuerURL != f.URL || p.Subject != f.Subject {
		t.Errorf("got principal %+v", p)
	}
	return p
}

// refuse fails unless there is an error, no principal, and no piece of the evidence in the text.
func (f *Evidence) refuse(t *testing.T, evidence string) error {
	t.Helper()
	p, err := f.verify(evidence)
	if err == nil {
		t.Fatalf("the evidence is accepted, as %s", p.Name())
	}
	if p.Subject != "" || p.Claims != nil || p.Issuer != "" {
		t.Errorf("a principal comes with the error: %+v", p)
	}
	for n := 0; n+24 <= len(evidence); n += 24 {
		if piece := evidence[n : n+24]; strings.Contains(err.Error(), piece) {
			t.Errorf("the error quotes the evidence: %v", err)
		}
	}
	return err
}

func (f *Evidence) reject(t *testing.T, evidence string) {
	t.Helper()
	if err := f.refuse(t, evidence); !errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v, which is not ErrRejected", err)
	}
}

func testGoodEvidence(t *testing.T, f *Evidence) {
	before := f.Now()
	p := f.accept(t, f.Make(t))
	if p.IssuedAt.Before(before.Add(-time.Second)) || p.IssuedAt.After(f.Now()) || !p.ExpiresAt.Equal(p.IssuedAt.Add(f.Life)) {
		t.Errorf("got issued %v, expires %v", p.IssuedAt, p.ExpiresAt)
	}
}

func testEvidenceAtOnce(t *testing.T, f *Evidence) {
	good := f.Make(t)
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			evidence := good
			if n%2 == 1 {
				evidence = good[:len(good)/2]
			}
			if p, err := f.verify(evidence); (err == nil) != (n%2 == 0) || err == nil && p.Subject != f.Subject {
				t.Errorf("caller %d: %q, %v", n, p.Subject, err)
			}
		})
	}
	all.Wait()
}

func testNoEvidence(t *testing.T, f *Evidence) {
	good := f.Make(t)
	before := f.Asked()
	for _, evidence := range []string{
		"", ".", f.Prefix, f.Prefix + ".", f.Prefix + "e30", f.Prefix + "bnVsbA", f.Prefix + "W10", f.Prefix + "AA", "e30.e30.AA",
		strings.TrimPrefix(good, f.Prefix), strings.ToUpper(f.Prefix) + strings.TrimPrefix(good, f.Prefix), f.Prefix + good,
		" " + good, good + "\n", good + "=", good + ".", good + "\x00", good[:40] + "\n" + good[40:], good + good, "Bearer " + good,
		good[:len(good)-1], good[:len(good)/2], good[:40] + "+/" + good[42:], f.Prefix + strings.Repeat("A", 1<<20),
		good + strings.Repeat("A", 20<<10),
	} {
		f.reject(t, evidence)
	}
	if got := f.Asked() - before; got != 0 {
		t.Errorf("what is no evidence made %d calls", got)
	}
}

// testChangedEvidence changes every character: the outcome may be any, but for another principal.
func testChangedEvidence(t *testing.T, f *Evidence) {
	good := f.Make(t)
	for n := range len(good) {
		changed := []byte(good)
		if changed[n]++; changed[n] == '{' || changed[n] == '[' || changed[n] == ':' {
			changed[n] = 'A'
		}
		if p, err := f.verify(string(changed)); err == nil && p.Subject != f.Subject {
			t.Errorf("character %d changed: accepted as %s", n, p.Name())
		}
	}
}

func testOldEvidence(t *testing.T, f *Evidence) {
	evidence := f.Make(t)
	f.accept(t, evidence)
	f.Advance(f.Life - time.Second)
	f.accept(t, evidence)
	f.Advance(f.Leeway + 2*time.Second)
	before := f.Asked()
	f.reject(t, evidence)
	if f.Asked() != before {
		t.Error("evidence that is too old made a call")
	}
}

func testEarlyEvidence(t *testing.T, f *Evidence) {
	f.Advance(f.Leeway + 10*time.Second)
	evidence := f.Make(t)
	f.Advance(-f.Leeway - 10*time.Second)
	f.reject(t, evidence)
}

func testGivenUp(t *testing.T, f *Evidence) {
	evidence := f.Make(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Verifier.Verify(ctx, secret.New(evidence)); errors.Is(err, identity.ErrRejected) {
		t.Errorf("got ErrRejected: %v", err)
	}
	f.accept(t, evidence)
}

func testEvidenceID(t *testing.T, f *Evidence) {
	evidence := f.Make(t)
	first, again := f.accept(t, evidence), f.accept(t, evidence)
	f.Advance(time.Second)
	other := f.accept(t, f.Make(t))
	if first.TokenID == "" || first.TokenID != again.TokenID || first.TokenID == other.TokenID {
		t.Errorf("got IDs %q, %q and %q", first.TokenID, again.TokenID, other.TokenID)
	}
}
