package watch

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// maxOpen bounds the open alerts of one kind whose subjects strangers choose. More are told of as one.
const maxOpen = 8

// others is the subject that stands for all beyond maxOpen.
const others = "(others)"

// signal says that something is wrong now.
type signal struct {
	kind    Kind
	subject string
	summary string
	count   int64 // occurrences that this adds
	// during is how long it must not be seen for it to be over.
	during time.Duration
}

// entry is an open alert.
type entry struct {
	Alert
	during time.Duration
	told   bool      // by this server
	asked  time.Time // when another server was last asked whether it tells
}

// name is what makes two signals one alert.
type name struct {
	kind    Kind
	subject string
}

// book holds the open alerts. It is pure: the same calls give the same answers.
type book struct {
	open   map[name]*entry
	opened map[Kind]int64 // since the start
}

func newBook() *book { return &book{open: map[name]*entry{}, opened: map[Kind]int64{}} }

// raise notes a signal, and reports whether it opened an alert. What is open already is counted.
func (b *book) raise(now time.Time, s signal) (opened bool) {
	id := name{s.kind, s.subject}
	if b.open[id] == nil && (s.kind == Stranger || s.kind == SourceFailures) && b.count(s.kind) >= maxOpen {
		id.subject = others
		s.summary = "more of the kind are open than are told of one by one"
	}
	e := b.open[id]
	if e == nil {
		e = &entry{Alert: Alert{
			Kind: id.kind, Subject: id.subject, State: Opened, Summary: s.summary, Advice: id.kind.advice(), Since: now,
		}}
		b.open[id] = e
		b.opened[id.kind]++
		opened = true
	}
	e.Count += s.count
	e.Last, e.during, e.Summary = now, s.during, s.summary
	return opened
}

// count is how many alerts of a kind are open.
func (b *book) count(kind Kind) (n int) {
	for id := range b.open {
		if id.kind == kind {
			n++
		}
	}
	return n
}

// sweep takes out what has not been seen for long enough, and returns it.
func (b *book) sweep(now time.Time) (over []*entry) {
	for id, e := range b.open {
		if quiet := now.Sub(e.Last); quiet >= e.during {
			e.State = Ended
			over = append(over, e)
			delete(b.open, id)
		} else if quiet < 0 { // the clock went back: count from here
			e.Last = now
		}
	}
	slices.SortFunc(over, order)
	return over
}

// list returns the open alerts, oldest first.
func (b *book) list() []*entry { return slices.SortedFunc(maps.Values(b.open), order) }

func order(a, b *entry) int {
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
}
