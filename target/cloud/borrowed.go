package cloud

import (
	"context"
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
}

// Borrow returns a token that ask gets.
func Borrow(ask func(context.Context) (Token, error), now func() time.Time) *Borrowed {
	return &Borrowed{ask: ask, now: now, turn: make(chan struct{}, 1)}
}

// margin is how long before its end a token is asked for again.
const margin = time.Minute

// Text is the token.
func (b *Borrowed) Text(ctx context.Context) (secret.Text, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return secret.Text{}, ctx.Err()
	}
	if !b.held.Text.IsZero() && b.now().Add(margin).Before(b.held.Expires) {
		return b.held.Text, nil
	}
	given, err := b.ask(ctx)
	if err != nil {
		return secret.Text{}, err
	}
	b.held = given
	return given.Text, nil
}
