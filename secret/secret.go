// Package secret holds values that must not be printed, compared or stored by accident.
//
// A [Text] gives its bytes only to [Text.Reveal], which is easy to grep; an architecture test lists its callers.
// Every formatting verb and log handler shows a marker. Every marshaller returns [ErrMarshal] instead of a
// marker, so that stars are never written where a secret should have been.
//
// The package imports the standard library only.
package secret

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// ErrMarshal is what every marshaller of a [Text] returns.
var ErrMarshal = errors.New("secret: a secret value cannot be marshalled; reveal it on purpose")

// marker stands wherever a secret would have been printed.
const marker = "[secret]"

// Text is a secret string. Its only field is a function: reflection, which the fmt verbs use on
// unexported fields of other structs, finds an address and no bytes. The zero value is an empty
// secret. A Text cannot be compared with ==.
type Text struct {
	reveal func() string
}

// New returns s as a secret.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{reveal: func() string { return s }}
}

// Random returns 256 random bits as 43 characters of unpadded URL-safe base64.
func Random() Text {
	bits := make([]byte, 32)
	rand.Read(bits) // never fails: crypto/rand ends the process instead
	return New(base64.RawURLEncoding.EncodeToString(bits))
}

// Reveal returns the secret itself. Call it where the bytes leave the process on purpose, and nowhere else.
func (t Text) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero reports whether the secret is empty.
func (t Text) IsZero() bool { return t.reveal == nil }

// String returns a marker.
func (t Text) String() string { return marker }

// GoString returns a marker.
func (t Text) GoString() string { return marker }

// Format writes a marker for every verb and flag.
func (t Text) Format(s fmt.State, _ rune) { io.WriteString(s, marker) }

// LogValue returns a marker.
func (t Text) LogValue() slog.Value { return slog.StringValue(marker) }

// MarshalText returns [ErrMarshal].
func (t Text) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalJSON returns [ErrMarshal].
func (t Text) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }

// MarshalYAML returns [ErrMarshal].
func (t Text) MarshalYAML() (any, error) { return nil, ErrMarshal }

// MarshalBinary returns [ErrMarshal]; encoding/gob uses it too.
func (t Text) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
