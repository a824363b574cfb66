package watch

import (
	"fmt"
	"strings"
	"time"
)

// Kind is what an alert is about: a closed list, fit for the label of a metric.
type Kind string

// The kinds of alerts. The subject of the first six is an issuer's name.
const (
	KeysReplaced   Kind = "issuer-keys-replaced"   // a new key set shares no key with the one before
	DiscoveryMoved Kind = "issuer-discovery-moved" // issuer, jwks_uri or algorithms changed between two fetches
	ClockSkew      Kind = "issuer-clock-skew"      // tokens are from our future
	UnknownKeys    Kind = "issuer-unknown-keys"    // a flood of tokens with keys that the issuer does not publish
	Rejections     Kind = "issuer-rejections"      // a burst of tokens that were not accepted
	Unreachable    Kind = "issuer-unreachable"     // no keys have come for long
	KeysEnding     Kind = "issuer-keys-ending"     // the last good keys stop working soon, or did
	Stranger       Kind = "unknown-issuer"         // tokens name an issuer that nobody configured; subject: what they name
	SourceFailures Kind = "source-failures"        // a burst of failed attempts; subject: where they come from
	Test           Kind = "test"                   // somebody asked for it
)

// Kinds are the kinds of alerts.
func Kinds() []Kind {
	return []Kind{KeysReplaced, DiscoveryMoved, ClockSkew, UnknownKeys, Rejections, Unreachable, KeysEnding, Stranger, SourceFailures}
}

// advice is what to do about each kind.
func (k Kind) advice() string {
	return map[Kind]string{
		KeysReplaced:   "ask the issuer whether they replaced all keys at once. If not, somebody else may sign: take the issuer out of the access files, or lock it.",
		DiscoveryMoved: "ask the issuer whether this is theirs. What is signed with keys from the new place is accepted.",
		ClockSkew:      "look at the clocks of this machine and of the issuer: tokens further ahead than the leeway are refused.",
		UnknownKeys:    "either the issuer signs with a key before it publishes it, or somebody tries made-up tokens.",
		Rejections:     "the log names the reason of each at level info. A workload with a wrong audience is the usual one.",
		Unreachable:    "the last good keys serve on until they are too old. See daypass status for what the last fetch said.",
		KeysEnding:     "after that no token of this issuer is accepted. Bring the issuer back, or the way to it.",
		Stranger:       "a workload has the wrong server or issuer, or somebody tries. Nobody is let in.",
		SourceFailures: "see the log for what they try. A firewall or proxy in front can shut them out.",
		Test:           "nothing: somebody tried whether alerts arrive.",
	}[k]
}

// Alert is something that is wrong, as it is told.
type Alert struct {
	Kind    Kind      `json:"kind"`
	Subject string    `json:"subject"` // printable ASCII and short, whoever it is from
	State   State     `json:"state"`
	Summary string    `json:"summary"`
	Advice  string    `json:"advice"`
	Count   int64     `json:"count"` // how often it was seen since Since; 0 where that is nothing to count
	Since   time.Time `json:"since"`
	Last    time.Time `json:"last"`
	// Key is the same for all alerts of one kind and subject at one installation, whichever server tells.
	Key string `json:"key"`
}

// State is whether an alert is new or over.
type State string

// The states that are told. What happens between the two is counted, not told.
const (
	Opened State = "opened"
	Ended  State = "ended"
)

// sentence is an alert in one line.
func (a Alert) sentence() string {
	text := fmt.Sprintf("%s %s: %s", a.Kind, a.Subject, a.Summary)
	if a.State == Ended {
		text = fmt.Sprintf("over: %s %s, since %s", a.Kind, a.Subject, a.Since.UTC().Format(time.RFC3339))
		if a.Count > 1 {
			text += fmt.Sprintf(", seen %d times", a.Count)
		}
	}
	return text
}

// printable makes a stranger's text fit for every sink: printable ASCII, and at most most bytes. What was cut ends in
// three dots. Done twice it is the same.
func printable(text string, most int) string {
	const dots = "..."
	var out strings.Builder
	fits := 0 // bytes of out that leave room for the dots
	for _, r := range text {
		piece := string(r)
		if r < ' ' || r > '~' {
			piece = fmt.Sprintf("\\u{%x}", r)
		}
		if out.Len()+len(piece) > most {
			return out.String()[:fits] + dots
		}
		out.WriteString(piece)
		if out.Len() <= most-len(dots) {
			fits = out.Len()
		}
	}
	return out.String()
}
