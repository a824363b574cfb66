package cloud

import (
	"strings"
	"time"
)

// maxHolder is how long a note may name a holder, in bytes: Google takes 256 for all of it.
const maxHolder = 190

// note is what is written on a principal, for people and for us.
type note struct {
	until  time.Time // when the cloud itself ends what it opens
	holder string
	ended  time.Time // since when it is stripped; zero while it lives
	unused bool      // nobody had its token
}

// String writes a note as words with an equals sign.
func (n note) String() string {
	var words []string
	add := func(key, value string) {
		if value != "" {
			words = append(words, key+"="+value)
		}
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	add("until", stamp(n.until))
	add("ended", stamp(n.ended))
	if n.unused {
		add("unused", "yes")
	}
	add("principal", n.holder)
	return strings.Join(words, " ")
}

// readNote reads a note. What is not as we write it is left out.
func readNote(text string) (n note) {
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		at, err := time.Parse(time.RFC3339, value)
		switch {
		case key == "until" && err == nil:
			n.until = at.UTC()
		case key == "ended" && err == nil:
			n.ended = at.UTC()
		case key == "unused":
			n.unused = value == "yes"
		case key == "principal":
			n.holder = value
		}
	}
	return n
}
