package trust

import (
	"strings"

	"github.com/daypass/daypass/internal/access"
)

// pinsOfSubject returns what a subject holds a permit to, with the text of each part, by the form that the platform gives
// its subjects: "repo:<tenant>/<project>:<guard>". Where whole is not set, only the start of the subject is known, and a
// part counts that is known to its end. A subject of another form says nothing of its parts.
func pinsOfSubject(form, text string, whole bool) map[access.Pins]string {
	pins := map[access.Pins]string{}
	for form != "" {
		literal, rest, more := strings.Cut(form, "<")
		if !strings.HasPrefix(text, literal) {
			return pins
		}
		text = text[len(literal):]
		if !more {
			return pins
		}
		var name string
		name, form, _ = strings.Cut(rest, ">")
		end, next := len(text), form
		if at := strings.IndexByte(next, '<'); at >= 0 {
			next = next[:at]
		}
		if next != "" {
			end = strings.Index(text, next)
		}
		switch {
		case end < 0, next == "" && !whole: // it ends before this part does
			if whole {
				pins[access.Pins(name)] = text
			}
			return pins
		case end > 0:
			pins[access.Pins(name)] = text[:end]
		}
		text = text[end:]
	}
	return pins
}

// hasNames reports whether subjects of this form hold names of a customer and his things, which can change.
func hasNames(form string) bool { return strings.Contains(form, "<tenant>") }
