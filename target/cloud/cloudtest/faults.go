package cloudtest

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
)

// Fault is what becomes of one request to a stand-in.
type Fault string

// The faults.
const (
	Refuse Fault = "503, and it did not happen"
	Regret Fault = "503, and it happened"
	Drop   Fault = "no answer, and it did not happen"
	Lose   Fault = "no answer, and it happened"
	Busy   Fault = "429"
	Huge   Fault = "an answer of 5 MB, and it happened"
)

// All are the faults.
func All() []Fault { return []Fault{Refuse, Regret, Drop, Lose, Busy, Huge} }

// Faults stands before a stand-in and breaks requests on demand. Its methods may be called concurrently.
type Faults struct {
	Inner http.Handler

	mu     sync.Mutex // guards what follows
	seen   int
	strike int // the request that is broken, counted from 1; 0: none
	times  int // how many from there on
	fault  Fault
	before func() // called when that request comes, before anything happens
	after  func() // called when it has happened
	paths  []string
}

// Strike breaks times requests, beginning with the nth from now.
func (f *Faults) Strike(n, times int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.strike, f.times, f.fault, f.before, f.after, f.paths = 0, n, times, fault, nil, nil, nil
}

// Tell calls before or after with the nth request from now.
func (f *Faults) Tell(n int, before, after func()) {
	f.Strike(n, 1, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// Seen counts the requests since the last Strike.
func (f *Faults) Seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// Paths are what was asked for since the last Strike.
func (f *Faults) Paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.paths...)
}

func (f *Faults) next(r *http.Request) (fault Fault, before, after func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	f.paths = append(f.paths, r.Method+" "+r.URL.Path)
	if f.strike > 0 && f.seen >= f.strike && f.seen < f.strike+f.times {
		return f.fault, f.before, f.after
	}
	return "", nil, nil
}

// ServeHTTP serves, or does not.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, before, after := f.next(r)
	if before != nil {
		before()
	}
	// What the inner one answers is thrown away where it counts for nothing.
	unheard := &silence{header: http.Header{}}
	switch fault {
	case Refuse:
		http.Error(w, `{"error":"unavailable"}`, http.StatusServiceUnavailable)
	case Busy:
		w.Header().Set("Retry-After", "0")
		http.Error(w, `{"error":{"status":"RESOURCE_EXHAUSTED","code":429,"message":"slow down"}}`, http.StatusTooManyRequests)
	case Drop:
		panic(http.ErrAbortHandler)
	case Regret:
		f.Inner.ServeHTTP(unheard, r)
		http.Error(w, `{"error":"unavailable"}`, http.StatusServiceUnavailable)
	case Lose:
		f.Inner.ServeHTTP(unheard, r)
		panic(http.ErrAbortHandler)
	case Huge:
		f.Inner.ServeHTTP(unheard, r)
		_, _ = strings.NewReader(strings.Repeat("x", 5<<20)).WriteTo(w)
	default:
		f.Inner.ServeHTTP(w, r)
	}
	if after != nil {
		after()
	}
}

// silence is an answer that nobody hears.
type silence struct {
	header http.Header
	bytes.Buffer
}

func (s *silence) Header() http.Header { return s.header }
func (s *silence) WriteHeader(int)     {}
