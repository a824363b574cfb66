package cloud

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/secret"
)

// Borrowed is a cloud's token that Daypass itself works with. It is asked for again before it ends. Its methods may be
// called concurrently.
type Borrowed struct {
	ask  func(context.Context) (Token, error)
	now  func() time.Time
	turn chan struct{} // has room for whoever holds what follows
	held Token
	at   time.Time // when it was given

	refused atomic.Bool // a service has refused it
}

// Borrow returns a token that ask gets.
func Borrow(ask func(context.Context) (Token, error), now func() time.Time) *Borrowed {
	return &Borrowed{ask: ask, now: now, turn: make(chan struct{}, 1)}
}

const (
	margin = time.Minute      // how long before its end a token is asked for again
	stale  = 10 * time.Second // how old one is that was refused before it is asked for again
)

// Text is the token.
func (b *Borrowed) Text(ctx context.Context) (secret.Text, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return secret.Text{}, ctx.Err()
	}
	old := b.refused.Swap(false) && b.now().Sub(b.at) > stale
	if !b.held.Text.IsZero() && !old && b.now().Add(margin).Before(b.held.Expires) {
		return b.held.Text, nil
	}
	given, err := b.ask(ctx)
	if err != nil {
		return secret.Text{}, err
	}
	b.held, b.at = given, b.now()
	return given.Text, nil
}

// Refused lets the next request ask for a token again: what it may do can be said in the token itself, as it was then.
func (b *Borrowed) Refused() { b.refused.Store(true) }
