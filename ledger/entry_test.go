package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass/daypass/ledger"
)

// full has every field.
func full() ledger.Entry {
	return ledger.Entry{
		Time: epoch, Event: ledger.LeasePending, ID: id(1), Lease: "l", Decision: "d", Lock: "k", Revision: "v", Role: "r", Target: "t",
		Reason: "expired", Until: epoch.Add(time.Hour), Commitment: ledger.Commit(nil, nil), Count: 7, Key: "key",
	}
}

func TestALeafIsCanonicalJSON(t *testing.T) {
	leaf, err := full().Leaf()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"commitment":"` + full().Commitment.String() + `","count":7,"decision":"d","event":"lease.pending","id":"` + id(1) +
		`","key":"key","lease":"l","lock":"k","reason":"expired","revision":"v","role":"r","target":"t",` +
		`"time":"2026-03-01T12:00:00.123456Z","until":"2026-03-01T13:00:00.123456Z"}`
	if string(leaf) != want {
		t.Errorf("got  %s\nwant %s", leaf, want)
	}
	var object map[string]any // encoding/json sorts names: for plain values its output is RFC 8785
	if err := json.Unmarshal(leaf, &object); err != nil {
		t.Fatal(err)
	}
	b := new(bytes.Buffer)
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil || strings.TrimSpace(b.String()) != want {
		t.Errorf("sorted again: %s, %v", b, err)
	}
}

func TestALeafOfAnEmptyFieldLacksIt(t *testing.T) {
	leaf, err := ledger.Entry{Time: epoch, Event: ledger.Boot, ID: id(0)}.Leaf()
	if want := `{"event":"boot","id":"` + id(0) + `","time":"2026-03-01T12:00:00.123456Z"}`; err != nil || string(leaf) != want {
		t.Errorf("got %s, %v", leaf, err)
	}
}

func TestLeafRefusesWhatItCannotWriteCanonically(t *testing.T) {
	for name, change := range map[string]func(*ledger.Entry){
		"no event":                  func(e *ledger.Entry) { e.Event = "" },
		"an unknown event":          func(e *ledger.Entry) { e.Event = "lease.lost" },
		"no ID":                     func(e *ledger.Entry) { e.ID = "" },
		"a short ID":                func(e *ledger.Entry) { e.ID = e.ID[1:] },
		"an ID in capitals":         func(e *ledger.Entry) { e.ID = strings.ToUpper(e.ID) },
		"no time":                   func(e *ledger.Entry) { e.Time = time.Time{} },
		"a time before 1970":        func(e *ledger.Entry) { e.Time = time.Unix(-1, 0) },
		"a year of five digits":     func(e *ledger.Entry) { e.Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a quote":                   func(e *ledger.Entry) { e.Role = `a"b` },
		"a backslash":               func(e *ledger.Entry) { e.Role = `a\b` },
		"a space":                   func(e *ledger.Entry) { e.Reason = "because I say so" },
		"a newline":                 func(e *ledger.Entry) { e.Target = "a\nb" },
		"a letter beyond ASCII":     func(e *ledger.Entry) { e.Target = "kanal-ä" },
		"broken UTF-8":              func(e *ledger.Entry) { e.Lock = "\xff" },
		"a negative count":          func(e *ledger.Entry) { e.Count = -1 },
		"a count that JSON rounds":  func(e *ledger.Entry) { e.Count = 1 << 53 },
		"a lease event without one": func(e *ledger.Entry) { e.Lease = "" },
		"a lock event without one":  func(e *ledger.Entry) { e.Event, e.Lock = ledger.LockPlaced, "" },
		"a target event without":    func(e *ledger.Entry) { e.Event, e.Target = ledger.TargetStray, "" },
		"a revision event without":  func(e *ledger.Entry) { e.Event, e.Revision = ledger.AccessActivated, "" },
		"a rotation without a key":  func(e *ledger.Entry) { e.Event, e.Key = ledger.LedgerRotated, "" },
		"too many bytes":            func(e *ledger.Entry) { e.Role = strings.Repeat("r", ledger.MaxLeaf) },
	} {
		e := full()
		change(&e)
		if leaf, err := e.Leaf(); !errors.Is(err, ledger.ErrLeaf) || leaf != nil {
			t.Errorf("%s: %.80s, %v", name, leaf, err)
		}
	}
}

func TestTheLargestLeafHasAsManyBytesAsABundleCanSay(t *testing.T) {
	e := full()
	leaf, _ := e.Leaf()
	e.Role += strings.Repeat("r", ledger.MaxLeaf-len(leaf))
	leaf, err := e.Leaf()
	if err != nil || len(leaf) != ledger.MaxLeaf {
		t.Fatalf("%d bytes, %v", len(leaf), err)
	}
	if got, err := ledger.ParseLeaf(leaf); err != nil || got != e {
		t.Errorf("parsed: %v", err)
	}
	if _, err := ledger.EncodeBundle([][]byte{leaf}); err != nil {
		t.Error(err)
	}
}

// Ledger threat 1: two spellings of one entry, which two readers take for two different entries.
func TestParseLeafRefusesEveryOtherSpelling(t *testing.T) {
	leaf, _ := full().Leaf()
	change := func(old, new string) string { return strings.Replace(string(leaf), old, new, 1) }
	for name, text := range map[string]string{
		"nothing":                 "",
		"an empty object":         "{}",
		"an open object":          "{",
		"null":                    "null",
		"a list":                  "[" + string(leaf) + "]",
		"space before":            " " + string(leaf),
		"a newline after":         string(leaf) + "\n",
		"two leaves":              string(leaf) + string(leaf),
		"cut":                     string(leaf[:len(leaf)-1]),
		"space within":            change(`,"count"`, `, "count"`),
		"space after a colon":     change(`"count":7`, `"count": 7`),
		"a quoted count":          change(`"count":7`, `"count":"7"`),
		"a count with sign":       change(`"count":7`, `"count":+7`),
		"a count with zero":       change(`"count":7`, `"count":07`),
		"a count with exponent":   change(`"count":7`, `"count":7e0`),
		"a count with fraction":   change(`"count":7`, `"count":7.0`),
		"a count of zero":         change(`"count":7`, `"count":0`),
		"an empty value":          change(`"decision":"d"`, `"decision":""`),
		"a null":                  change(`"decision":"d"`, `"decision":null`),
		"an unquoted text":        change(`"decision":"d"`, `"decision":d`),
		"an escape":               change(`"decision":"d"`, `"decision":"\u0064"`),
		"a name in capitals":      change(`"decision"`, `"Decision"`),
		"an unknown name":         change(`"decision"`, `"decisions"`),
		"a name that comes twice": change(`"decision":"d"`, `"decision":"d","decision":"d"`),
		"another order":           change(`"role":"r","target":"t"`, `"target":"t","role":"r"`),
		"a zero time":             change(`2026-03-01T12:00:00.123456Z`, `0001-01-01T00:00:00.000000Z`),
		"a time with offset":      change(`2026-03-01T12:00:00.123456Z`, `2026-03-01T12:00:00.123456+00:00`),
		"a time in milliseconds":  change(`2026-03-01T12:00:00.123456Z`, `2026-03-01T12:00:00.123Z`),
		"a time with comma":       change(`2026-03-01T12:00:00.123456Z`, `2026-03-01T12:00:00,123456Z`),
		"the 30th of February":    change(`2026-03-01T12`, `2026-02-30T12`),
		"a zero commitment":       change(full().Commitment.String(), strings.Repeat("A", 43)+"="),
		"loose base64":            change(full().Commitment.String(), strings.Repeat("A", 42)+"B="),
		"a broken tail":           change(`"}`, `"x`),
		"a comma at the end":      change(`"}`, `",}`),
		"too many bytes":          change(`"role":"r"`, `"role":"`+strings.Repeat("r", ledger.MaxLeaf)+`"`),
	} {
		if text == string(leaf) {
			t.Errorf("%s: the case changes nothing", name)
		}
		if e, err := ledger.ParseLeaf([]byte(text)); !errors.Is(err, ledger.ErrLeaf) || e != (ledger.Entry{}) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for i := range leaf {
		bad := bytes.Clone(leaf)
		bad[i] ^= 0x80
		if _, err := ledger.ParseLeaf(bad); err == nil {
			t.Errorf("byte %d changed, and parsed", i)
		}
	}
}

// drawEntry draws any entry that has a leaf.
func drawEntry(t *rapid.T) ledger.Entry {
	text := rapid.StringMatching(`([!#-\[\]-~]{1,30})?`)
	some := rapid.StringMatching(`[!#-\[\]-~]{1,30}`)
	when := rapid.Int64Range(0, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMicro())
	e := ledger.Entry{
		Time:  time.UnixMicro(when.Draw(t, "time")).UTC(),
		Event: rapid.SampledFrom(ledger.Events()).Draw(t, "event"), ID: rapid.StringMatching(`[a-z2-7]{26}`).Draw(t, "id"),
		Lease: some.Draw(t, "lease"), Lock: some.Draw(t, "lock"), Target: some.Draw(t, "target"), Revision: some.Draw(t, "revision"),
		Key: some.Draw(t, "key"), Device: some.Draw(t, "device"), Decision: text.Draw(t, "decision"), Role: text.Draw(t, "role"), Reason: text.Draw(t, "reason"),
		Count: rapid.Int64Range(0, 1<<53-1).Draw(t, "count"),
	}
	if rapid.Bool().Draw(t, "has until") {
		e.Until = time.UnixMicro(when.Draw(t, "until")).UTC()
	}
	if rapid.Bool().Draw(t, "has commitment") {
		e.Commitment = ledger.Commit(ledger.NewSalt(), nil)
	}
	return e
}

func TestEveryEntryComesBackFromItsLeaf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		leaf, err := e.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ledger.ParseLeaf(leaf); err != nil || got != e {
			t.Fatalf("%s: %+v, %v", leaf, got, err)
		}
		if !json.Valid(leaf) {
			t.Fatalf("%s is not JSON", leaf)
		}
	})
}

func TestIDsAreFreshAndLeavesTakeThem(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := ledger.NewID()
		if _, err := (ledger.Entry{Time: epoch, Event: ledger.Boot, ID: id}).Leaf(); err != nil || seen[id] {
			t.Fatalf("%s: %v", id, err)
		}
		seen[id] = true
	}
}

// Ledger threat 9: guessing a record from its commitment, or finding two records for one.
func TestACommitmentBindsSaltAndRecord(t *testing.T) {
	salt := ledger.NewSalt()
	if len(salt) != 32 || bytes.Equal(salt, ledger.NewSalt()) {
		t.Errorf("salt %x", salt)
	}
	seen := map[ledger.Hash]string{}
	for _, pair := range [][2]string{{string(salt), "a"}, {string(salt), "b"}, {"s", "a"}, {"s\x00", "a"}, {"s", "\x00a"}, {"", ""}, {"", "\x00"}, {"\x00", ""}, {"sa", ""}} {
		h := ledger.Commit([]byte(pair[0]), []byte(pair[1]))
		if other, twice := seen[h]; twice {
			t.Errorf("%q and %q have one commitment", pair, other)
		}
		seen[h] = strings.Join(pair[:], "|")
		if h != ledger.Commit([]byte(pair[0]), []byte(pair[1])) {
			t.Errorf("%q: not the same twice", pair)
		}
	}
}
