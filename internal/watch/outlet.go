package watch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Message is an alert as sinks send it.
type Message struct {
	Version int `json:"version"` // of this form: 1
	Alert
	Instance string `json:"instance"` // of the installation
	Server   string `json:"server"`   // which of its servers tells
}

// Sender is what can send messages. An error must hold no secret: it is logged and shown.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Sink is a place that alerts are sent to.
type Sink struct {
	Name   string
	Sender Sender
	// Rate is how many messages are sent in a second, with bursts of ten; one in two seconds unless given.
	Rate float64
}

// Bounds of sending.
const (
	maxWaiting = 256              // messages that wait for one sink
	sendTime   = 10 * time.Second // for one attempt
	maxPause   = 5 * time.Minute  // between two attempts
	giveUp     = time.Hour        // after the first attempt
	maxBurst   = 10
)

// outlet sends messages to one sink, one after the other.
type outlet struct {
	Sink
	now   func() time.Time
	log   *slog.Logger
	queue chan Message

	limit *rate.Limiter

	mu     sync.Mutex // guards seen
	seen   Outlet
	failed bool // the last attempt failed
}

// Outlet is how a sink is doing. Its counts are since the start.
type Outlet struct {
	Name                    string
	Sent, Dropped, Abandons int64
	Waiting                 int
	Failing                 bool
	LastError               string // of the last attempt that failed
}

func newOutlet(sink Sink, now func() time.Time, log *slog.Logger) *outlet {
	if sink.Rate <= 0 {
		sink.Rate = 0.5
	}
	return &outlet{Sink: sink, now: now, log: log, queue: make(chan Message, maxWaiting), limit: rate.NewLimiter(rate.Limit(sink.Rate), maxBurst)}
}

// put queues a message, or drops it where too many wait.
func (o *outlet) put(m Message) {
	select {
	case o.queue <- m:
	default:
		o.mu.Lock()
		o.seen.Dropped++
		o.mu.Unlock()
	}
}

func (o *outlet) state() Outlet {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.seen
	s.Name, s.Waiting, s.Failing = o.Name, len(o.queue), o.failed
	return s
}

// run sends until ctx ends. What waits then is lost: the next start tells what still goes on.
func (o *outlet) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-o.queue:
			now := o.now()
			if !pause(ctx, o.limit.ReserveN(now, 1).DelayFrom(now)) {
				return
			}
			o.deliver(ctx, m)
		}
	}
}

// deliver sends one message, again and again with longer pauses, until it arrived or it was tried for long.
func (o *outlet) deliver(ctx context.Context, m Message) {
	begun := o.now()
	for next := time.Second; ; next = min(2*next, maxPause) {
		err := o.attempt(ctx, m)
		if err == nil || ctx.Err() != nil {
			return
		}
		if o.now().Add(next).Sub(begun) > giveUp {
			o.mu.Lock()
			o.seen.Abandons++
			o.mu.Unlock()
			o.log.Error("an alert was not delivered and is given up", "sink", o.Name, "alert", m.Kind, "subject", m.Subject, "err", err)
			return
		}
		if !pause(ctx, next) {
			return
		}
	}
}

// attempt sends one message once.
func (o *outlet) attempt(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	err := o.Sender.Send(ctx, m)
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.failed
	if o.failed = err != nil; err == nil {
		o.seen.Sent++
	} else {
		o.seen.LastError = printable(err.Error(), 2*maxText)
	}
	switch {
	case err != nil && !was:
		o.log.Warn("an alert was not delivered; it is tried again", "sink", o.Name, "err", err)
	case err == nil && was:
		o.log.Info("alerts are delivered again", "sink", o.Name)
	}
	return err
}

// pause waits, and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Try sends a test to a sink, once, and returns what came of it.
func Try(ctx context.Context, sink Sink, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	if err := sink.Sender.Send(ctx, m); err != nil {
		return fmt.Errorf("send a test to sink %q: %w", sink.Name, err)
	}
	return nil
}

// TestMessage is a message that means nothing.
func TestMessage(instance, server string, now time.Time) Message {
	return Message{Version: 1, Instance: instance, Server: server, Alert: Alert{
		Kind: Test, Subject: "daypass", State: Opened, Summary: "somebody tries whether alerts arrive", Advice: Test.advice(),
		Count: 1, Since: now, Last: now, Key: instance + "/" + string(Test) + "/daypass",
	}}
}
