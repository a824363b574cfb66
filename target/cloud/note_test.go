package cloud

import (
	"testing"
	"time"
)

func TestANoteIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, n := range []note{{}, {until: at, holder: "github:repo:acme/x"}, {ended: at}, {ended: at, unused: true}} {
		if got := readNote(n.String()); got != n {
			t.Errorf("%q is read as %+v", n, got)
		}
	}
	longest := note{until: at, holder: string(make([]byte, maxHolder))}
	if text := longest.String(); len(text) > 256 {
		t.Errorf("a note has %d bytes, and Google takes 256", len(text))
	}
	if got := readNote("by hand ended=yesterday until"); got != (note{}) {
		t.Errorf("what nobody of us wrote is read as %+v", got)
	}
}
