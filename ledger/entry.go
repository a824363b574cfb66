package ledger

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxLeaf is the most bytes that a leaf may have: what the length prefix of an entry bundle can say.
const MaxLeaf = 65535

// maxCount is the largest count: integers above it do not survive every JSON reader (RFC 8785, RFC 7493).
const maxCount = 1<<53 - 1

// timeLayout is how leaves and receipts write times: UTC with microseconds, always six digits.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Event is what an entry records.
type Event string

// The events: a closed list that only grows. The fields that each must have are in docs/reference/ledger-format.md.
const (
	LeasePending    Event = "lease.pending"    // a credential may exist from now on
	LeaseActive     Event = "lease.active"     // the target confirmed it
	LeaseRenewed    Event = "lease.renewed"    // it lives longer
	LeaseRevoking   Event = "lease.revoking"   // it must die, for a reason
	LeaseRevoked    Event = "lease.revoked"    // the target confirmed its death
	LockPlaced      Event = "lock.placed"      // an order that ends leases and refuses new ones
	LockLifted      Event = "lock.lifted"      // and its end
	AccessActivated Event = "access.activated" // a revision of the access configuration took effect
	DecisionDenied  Event = "decision.denied"  // one denial or a count of equal ones
	LedgerOpened    Event = "ledger.opened"    // the first entry
	LedgerRotated   Event = "ledger.rotated"   // the signing key that follows
	Boot            Event = "boot"             // the broker started
	Epoch           Event = "epoch"            // the store was taken over or restored
	TargetStray     Event = "target.stray"     // a target held a credential without a living lease
	TargetMissing   Event = "target.missing"   // a target lacked the credential of a living lease
	TargetRotated   Event = "target.rotated"   // the credential that Daypass uses at a target changed
	IssuerRotated   Event = "issuer.rotated"   // other keys sign the tokens of our own issuer
	DeviceInvited   Event = "device.invited"   // an administrator signed an enrolment token for a name
	DeviceEnrolled  Event = "device.enrolled"  // a device used it up, with its key
	DeviceRenewed   Event = "device.renewed"   // it has another term, and perhaps another key
	DeviceRemoved   Event = "device.removed"   // it counts no more
)

// Events lists all events.
func Events() []Event {
	return []Event{
		LeasePending, LeaseActive, LeaseRenewed, LeaseRevoking, LeaseRevoked, LockPlaced, LockLifted, AccessActivated,
		DecisionDenied, LedgerOpened, LedgerRotated, Boot, Epoch, TargetStray, TargetMissing, TargetRotated,
		IssuerRotated, DeviceInvited, DeviceEnrolled, DeviceRenewed, DeviceRemoved,
	}
}

// Entry is one record. Its text fields hold IDs and names from the configuration, never claims, addresses or
// free text: printable ASCII without space, quote and backslash. Empty fields are absent from the leaf.
type Entry struct {
	Time     time.Time // when it happened; the leaf keeps microseconds, UTC
	Event    Event
	ID       string // makes two equal events differ: [NewID]
	Lease    string
	Decision string
	Lock     string
	Revision string
	Role     string
	Target   string
	Reason   string
	Until    time.Time // the expiry, where the event sets one
	// Commitment binds the record that the store keeps beside the entry ([Commit]). Deleting that record and its
	// salt erases it, and the tree still verifies.
	Commitment Hash
	Count      int64  // how many, where the entry stands for several; a boot or epoch's number
	Key        string // what a rotation introduces: a verifier key, or what the IDs of an issuer's keys begin with; the thumbprint of a device's
	Device     string // issuer name, colon, name of the device
}

// idEncoding is base32 in lower case without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idLength is the number of characters of an entry's ID.
const idLength = 26

// NewID returns a fresh ID for an entry: 128 random bits as 26 characters of lowercase base32.
func NewID() string {
	bits := make([]byte, 16)
	rand.Read(bits) // never fails: crypto/rand ends the process instead
	return idEncoding.EncodeToString(bits)
}

// Leaf returns the entry's canonical bytes: one JSON object with sorted names, no spaces, no escapes, no empty
// values. Equal entries give equal bytes. The error wraps [ErrLeaf].
func (e Entry) Leaf() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 320)
	if e.Commitment != (Hash{}) {
		b = appendText(b, "commitment", e.Commitment.String())
	}
	if e.Count != 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), e.Count, 10)
	}
	b = appendText(b, "decision", e.Decision)
	b = appendText(b, "device", e.Device)
	b = appendText(b, "event", string(e.Event))
	b = appendText(b, "id", e.ID)
	b = appendText(b, "key", e.Key)
	b = appendText(b, "lease", e.Lease)
	b = appendText(b, "lock", e.Lock)
	b = appendText(b, "reason", e.Reason)
	b = appendText(b, "revision", e.Revision)
	b = appendText(b, "role", e.Role)
	b = appendText(b, "target", e.Target)
	b = appendText(b, "time", e.Time.UTC().Format(timeLayout))
	if !e.Until.IsZero() {
		b = appendText(b, "until", e.Until.UTC().Format(timeLayout))
	}
	b[0] = '{' // in place of the first comma; event, id and time are always there
	b = append(b, '}')
	if len(b) > MaxLeaf {
		return nil, fmt.Errorf("entry %s: %w: %d bytes are more than %d", e.ID, ErrLeaf, len(b), MaxLeaf)
	}
	return b, nil
}

// appendText appends a member whose value needs no escaping, and nothing for an empty value.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), `":"`...)
	return append(append(b, value...), '"')
}

// check refuses what has no leaf.
func (e Entry) check() error {
	if !slices.Contains(Events(), e.Event) {
		return fmt.Errorf("entry %s: %w: unknown event %q", e.ID, ErrLeaf, e.Event)
	}
	if len(e.ID) != idLength || strings.Trim(e.ID, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return fmt.Errorf("entry %q: %w: an ID has %d characters of a-z and 2-7", e.ID, ErrLeaf, idLength)
	}
	for _, text := range []string{e.Lease, e.Decision, e.Lock, e.Revision, e.Role, e.Target, e.Reason, e.Key, e.Device} {
		if !isPlain(text) {
			return fmt.Errorf("entry %s: %w: %q is not an ID or a name", e.ID, ErrLeaf, text)
		}
	}
	if !isLeafTime(e.Time) || !e.Until.IsZero() && !isLeafTime(e.Until) {
		return fmt.Errorf("entry %s: %w: times lie in the years 1970 to 9999", e.ID, ErrLeaf)
	}
	if e.Count < 0 || e.Count > maxCount {
		return fmt.Errorf("entry %s: %w: count %d lies outside of 0 to 2^53-1", e.ID, ErrLeaf, e.Count)
	}
	if name, absent := e.lacks(); absent {
		return fmt.Errorf("entry %s: %w: event %q without %s", e.ID, ErrLeaf, e.Event, name)
	}
	return nil
}

// lacks names the field that the event must have and that is empty.
func (e Entry) lacks() (name string, absent bool) {
	kind, _, _ := strings.Cut(string(e.Event), ".")
	switch {
	case kind == "lease":
		return "lease", e.Lease == ""
	case kind == "lock":
		return "lock", e.Lock == ""
	case kind == "target":
		return "target", e.Target == ""
	case kind == "device":
		return "device", e.Device == ""
	case e.Event == AccessActivated:
		return "revision", e.Revision == ""
	case e.Event == LedgerRotated || e.Event == IssuerRotated:
		return "key", e.Key == ""
	}
	return "", false
}

// isPlain reports whether text stands in JSON as it is and holds no spaces, so that neither escapes nor free
// text get into a leaf.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func isLeafTime(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

// ParseLeaf returns the entry of a leaf. It refuses everything that [Entry.Leaf] would not have written: other
// spellings, unknown or repeated names, unknown events. The error wraps [ErrLeaf].
func ParseLeaf(leaf []byte) (Entry, error) {
	if len(leaf) > MaxLeaf {
		return Entry{}, fmt.Errorf("%w: %d bytes are more than %d", ErrLeaf, len(leaf), MaxLeaf)
	}
	var e Entry
	rest, ok := bytes.CutPrefix(leaf, []byte("{"))
	for ok && len(rest) > 0 {
		var name, value []byte
		name, value, rest, ok = cutMember(rest)
		if ok {
			ok = e.set(string(name), string(value))
		}
	}
	if !ok {
		return Entry{}, fmt.Errorf("%w: %d bytes before its end", ErrLeaf, len(rest))
	}
	// The loop above is lenient on purpose: this comparison is what makes the bytes the only ones.
	again, err := e.Leaf()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, leaf) {
		return Entry{}, fmt.Errorf("entry %s: %w: not in canonical form", e.ID, ErrLeaf)
	}
	return e, nil
}

// cutMember cuts `"name":value` and the comma or brace after it. Values lose their quotes.
func cutMember(b []byte) (name, value, rest []byte, ok bool) {
	if b, ok = bytes.CutPrefix(b, []byte(`"`)); !ok {
		return nil, nil, b, false
	}
	if name, b, ok = bytes.Cut(b, []byte(`":`)); !ok {
		return nil, nil, b, false
	}
	if text, quoted := bytes.CutPrefix(b, []byte(`"`)); quoted {
		value, b, ok = bytes.Cut(text, []byte(`"`))
	} else {
		end := bytes.IndexAny(b, ",}")
		if ok = end >= 0; ok {
			value, b = b[:end], b[end:]
		}
	}
	if !ok || len(b) == 0 || (b[0] == '}') != (len(b) == 1) {
		return nil, nil, b, false
	}
	return name, value, b[1:], true
}

// set sets the field called name. It reports false for unknown names and unreadable values.
func (e *Entry) set(name, value string) (ok bool) {
	var err error
	switch name {
	case "commitment":
		e.Commitment, err = ParseHash(value)
	case "count":
		e.Count, err = strconv.ParseInt(value, 10, 64)
	case "decision":
		e.Decision = value
	case "device":
		e.Device = value
	case "event":
		e.Event = Event(value)
	case "id":
		e.ID = value
	case "key":
		e.Key = value
	case "lease":
		e.Lease = value
	case "lock":
		e.Lock = value
	case "reason":
		e.Reason = value
	case "revision":
		e.Revision = value
	case "role":
		e.Role = value
	case "target":
		e.Target = value
	case "time":
		e.Time, err = time.Parse(timeLayout, value)
	case "until":
		e.Until, err = time.Parse(timeLayout, value)
	default:
		return false
	}
	return err == nil
}

// commitDomain keeps commitments apart from every other use of a salt.
const commitDomain = "daypass/commitment/v1\n"

// NewSalt returns 32 fresh random bytes for one commitment.
func NewSalt() []byte {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	return salt
}

// Commit returns the commitment to record under salt: it tells nothing about the record to whom the salt is
// unknown, and no other record or salt gives the same. Use each salt once and keep it beside the record.
func Commit(salt, record []byte) Hash {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(commitDomain))
	// HMAC pads short keys with zeros; the length tells a salt from its padded twin.
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(salt))))
	mac.Write(record)
	return Hash(mac.Sum(nil))
}
