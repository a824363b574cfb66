package watch

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// FuzzNoTextOfAStrangerLeavesItsPlace puts what strangers say into an alert, and looks at the bytes that sinks get.
func FuzzNoTextOfAStrangerLeavesItsPlace(f *testing.F) {
	for _, seed := range []string{"https://a", "<!channel> `x` &lt;", "a\nb\x00\u202e\xff", strings.Repeat("\u0430", 80), "```\nissuer-keys-replaced github", "]]>\r\n<13>1 - - - -"} {
		f.Add(seed)
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		signals := newTrust(Limits{}).stranger(text)
		subject := signals[0].subject
		if len(subject) > maxText || printable(subject, maxText) != subject {
			t.Fatalf("%q is told as %q", text, subject)
		}
		b := newBook()
		b.raise(now, signals[0])
		m := Message{Version: 1, Alert: b.list()[0].Alert, Instance: "abc234", Server: "one"}
		for _, form := range []func(Web) (Sender, error){NewWebhook, NewSlack} {
			sink, err := form(Web{})
			if err != nil {
				t.Fatal(err)
			}
			body, err := sink.(*webhook).body(m)
			var read map[string]any
			if err != nil || json.Unmarshal(body, &read) != nil {
				t.Fatalf("%q: %s, %v", text, body, err)
			}
			said, isSlack := read["text"].(string)
			if isSlack && (strings.Count(said, "`") != 6 || strings.ContainsAny(said, "<>") || strings.Count(said, "\n") != 2) {
				t.Fatalf("%q reaches Slack as %q", text, said)
			}
		}
		line := (&syslog{Syslog: Syslog{Host: text, Process: 7}}).text(m)
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) || len(line) > 1400 || !strings.HasPrefix(line, "<84>1 ") || len(strings.SplitN(line, " ", 8)) != 8 {
			t.Fatalf("%q reaches syslog as %q", text, line)
		}
	})
}
