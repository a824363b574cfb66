package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// receiptLine is the first line of every receipt. No origin may look like it, so that a receipt can never be read
// as a checkpoint nor a checkpoint as a receipt, though one key signs both.
const receiptLine = "daypass/receipt/v1"

// maxNote bounds the notes that are read: a receipt of the largest leaf and some signatures.
const maxNote = 128 << 10

// maxOrigin bounds the name of a ledger.
const maxOrigin = 255

// checkOrigin refuses names that notes, leaves or receipts could not carry.
func checkOrigin(origin string) error {
	if origin == "" || len(origin) > maxOrigin || !isPlain(origin) || strings.Contains(origin, "+") {
		return fmt.Errorf("%w: ledger origin %q is not 1 to %d characters of printable ASCII without space, quote, backslash and +", ErrFormat, origin, maxOrigin)
	}
	if strings.HasPrefix(origin, "daypass/receipt/") {
		return fmt.Errorf("%w: ledger origin %q reads like a receipt", ErrFormat, origin)
	}
	return nil
}

// Signer signs checkpoints and receipts with a ledger's Ed25519 key. The key sits behind functions: printing a
// Signer shows addresses.
type Signer struct {
	origin string
	vkey   string
	key    noteSigner
}

// noteSigner is what package note signs with.
type noteSigner struct {
	name string
	hash uint32
	sign func(message []byte) []byte
}

func (s noteSigner) Name() string                        { return s.name }
func (s noteSigner) KeyHash() uint32                     { return s.hash }
func (s noteSigner) Sign(message []byte) ([]byte, error) { return s.sign(message), nil }

// NewSigner returns a signer for the ledger called origin from the 32-byte seed of its key. The origin is a URL
// without scheme by custom ("daypass.example.com/ledger"); it is part of every signature and never changes.
func NewSigner(origin string, seed []byte) (*Signer, error) {
	if err := checkOrigin(origin); err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("sign for ledger %q: a seed has %d bytes, not %d", origin, ed25519.SeedSize, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	vkey, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("sign for ledger %q: %w", origin, err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("sign for ledger %q: %w", origin, err)
	}
	sign := func(message []byte) []byte { return ed25519.Sign(private, message) }
	return &Signer{origin: origin, vkey: vkey, key: noteSigner{origin, verifier.KeyHash(), sign}}, nil
}

// GenerateSigner returns a signer with a fresh key, and the seed to keep: it is the secret.
func GenerateSigner(origin string) (s *Signer, seed []byte, err error) {
	seed = make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: crypto/rand ends the process instead
	if s, err = NewSigner(origin, seed); err != nil {
		return nil, nil, err
	}
	return s, seed, nil
}

// Origin returns the ledger's name.
func (s *Signer) Origin() string { return s.origin }

// VerifierKey returns the public key as text, "<origin>+<key hash>+<key>", for [NewVerifier].
func (s *Signer) VerifierKey() string { return s.vkey }

// Checkpoint returns the signed statement that the ledger has size leaves with this root (C2SP tlog-checkpoint).
// It panics when size is no size of a tree: signing nonsense would bind us to it.
func (s *Signer) Checkpoint(size int64, root Hash) string {
	if err := checkSize(size); err != nil {
		panic("ledger: checkpoint of " + strconv.FormatInt(size, 10))
	}
	return s.signed(checkpointText(s.origin, size, root))
}

// Cosign adds the signer's signature to a checkpoint of the same ledger that another key signed. A rotation does
// it: the new key signs what the old one vouches for. It does not check the signatures that are there.
func (s *Signer) Cosign(checkpoint string) (string, error) {
	c, n, err := readCheckpoint(checkpoint)
	if err != nil {
		return "", err
	}
	if c.Origin != s.origin {
		return "", fmt.Errorf("cosign checkpoint of %q for %q: %w", c.Origin, s.origin, ErrFormat)
	}
	text, err := note.Sign(n, s.key)
	if err != nil {
		return "", fmt.Errorf("cosign checkpoint of %q: %w", s.origin, err)
	}
	if _, _, err := readCheckpoint(string(text)); err != nil {
		return "", fmt.Errorf("cosign checkpoint of %q: %w", s.origin, err) // it had all the signatures that fit
	}
	return string(text), nil
}

// Receipt returns the signed promise that leaf is in the ledger no later than integrateBy. The leaf must be one
// that [Entry.Leaf] made.
func (s *Signer) Receipt(leaf []byte, integrateBy time.Time) string {
	return s.signed(receiptText(s.origin, leaf, integrateBy))
}

func (s *Signer) signed(text string) string {
	signed, err := note.Sign(&note.Note{Text: text}, s.key)
	if err != nil {
		panic("ledger: sign: " + err.Error()) // NewSigner checked all that could be wrong
	}
	return string(signed)
}

func checkpointText(origin string, size int64, root Hash) string {
	return origin + "\n" + strconv.FormatInt(size, 10) + "\n" + root.String() + "\n"
}

func receiptText(origin string, leaf []byte, integrateBy time.Time) string {
	return receiptLine + "\n" + origin + "\n" + base64.StdEncoding.EncodeToString(leaf) + "\n" +
		integrateBy.UTC().Format(timeLayout) + "\n"
}

// Checkpoint is the statement that a ledger has Size leaves with this Root.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	Keys   []string // the verifier keys whose signatures were checked and hold
}

// Receipt is the promise that a leaf is in a ledger by a time.
type Receipt struct {
	Origin      string
	Leaf        []byte
	Entry       Entry // what the leaf says
	IntegrateBy time.Time
	Keys        []string // the verifier keys whose signatures were checked and hold
}

// Verifier checks what a ledger's keys signed.
type Verifier struct {
	origin string
	keys   map[string]note.Verifier // by verifier key
}

// NewVerifier returns a verifier that trusts the given keys of one ledger.
func NewVerifier(vkeys ...string) (*Verifier, error) {
	if len(vkeys) == 0 {
		return nil, fmt.Errorf("%w: no verifier key", ErrFormat)
	}
	v := &Verifier{keys: map[string]note.Verifier{}}
	for _, vkey := range vkeys {
		if err := v.trust(vkey); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// trust adds a key.
func (v *Verifier) trust(vkey string) error {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("verifier key %q: %w: %w", vkey, ErrFormat, err)
	}
	if err := checkOrigin(key.Name()); err != nil {
		return err
	}
	// Package note reads some spellings more than it writes; keys are compared as text here.
	parts := strings.SplitN(vkey, "+", 3) // name, hash, key: base64 may hold a plus of its own
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[len(parts)-1])
	if err != nil || fmt.Sprintf("%s+%08x+%s", key.Name(), key.KeyHash(), base64.StdEncoding.EncodeToString(raw)) != vkey {
		return fmt.Errorf("verifier key %q: %w", vkey, ErrFormat)
	}
	if v.origin != "" && v.origin != key.Name() {
		return fmt.Errorf("verifier key %q: %w: the other keys are of ledger %q", vkey, ErrFormat, v.origin)
	}
	v.origin, v.keys[vkey] = key.Name(), key
	return nil
}

// Origin returns the name of the ledger whose keys are trusted.
func (v *Verifier) Origin() string { return v.origin }

// Checkpoint checks a signed checkpoint of this ledger. Signatures of unknown keys, such as witnesses', are
// passed over; one trusted key must have signed, and no trusted key's signature may be wrong.
func (v *Verifier) Checkpoint(text string) (Checkpoint, error) {
	c, _, err := readCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.origin {
		return Checkpoint{}, fmt.Errorf("checkpoint of ledger %q, not %q: %w", c.Origin, v.origin, ErrSignature)
	}
	if c.Keys, err = v.signers(text); err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint at size %d: %w", c.Size, err)
	}
	return c, nil
}

// Receipt checks a signed receipt of this ledger.
func (v *Verifier) Receipt(text string) (Receipt, error) {
	r, err := readReceipt(text)
	if err != nil {
		return Receipt{}, err
	}
	if r.Origin != v.origin {
		return Receipt{}, fmt.Errorf("receipt of ledger %q, not %q: %w", r.Origin, v.origin, ErrSignature)
	}
	if r.Keys, err = v.signers(text); err != nil {
		return Receipt{}, fmt.Errorf("receipt for entry %s: %w", r.Entry.ID, err)
	}
	return r, nil
}

// errUnsigned is the ErrSignature of a note that no trusted key signed.
var errUnsigned = fmt.Errorf("%w: no trusted key signed it", ErrSignature)

// signers checks a note's signatures and returns the trusted keys that signed.
func (v *Verifier) signers(text string) ([]string, error) {
	known := make([]note.Verifier, 0, len(v.keys))
	for _, key := range v.keys {
		known = append(known, key)
	}
	n, err := note.Open([]byte(text), note.VerifierList(known...))
	if _, unsigned := errors.AsType[*note.UnverifiedNoteError](err); unsigned {
		return nil, errUnsigned
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var signers []string
	for vkey, key := range v.keys {
		if slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Hash == key.KeyHash() && s.Name == key.Name() }) {
			signers = append(signers, vkey)
		}
	}
	slices.Sort(signers)
	return signers, nil
}

// openNote reads a note without checking its signatures.
func openNote(text string) (*note.Note, error) {
	if len(text) > maxNote {
		return nil, fmt.Errorf("%w: a note of %d bytes", ErrFormat, len(text))
	}
	_, err := note.Open([]byte(text), nil)
	unverified, ok := errors.AsType[*note.UnverifiedNoteError](err)
	if !ok {
		return nil, fmt.Errorf("%w: not a signed note", ErrFormat)
	}
	n := unverified.Note
	// Package note passes over repeated lines and loose last bits of base64. A signed text has one spelling here.
	again, err := note.Sign(n)
	if err != nil || string(again) != text || slices.ContainsFunc(n.UnverifiedSigs, isLoose) {
		return nil, fmt.Errorf("%w: a note in another spelling", ErrFormat)
	}
	return n, nil
}

// isLoose reports whether a signature's base64 is not the only spelling of its bytes.
func isLoose(s note.Signature) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
	return err != nil || strings.ContainsAny(s.Base64, "\r\n")
}

// readCheckpoint reads a checkpoint without checking its signatures. Only the spelling of [Signer.Checkpoint] is
// read: this ledger writes no extension lines.
func readCheckpoint(text string) (Checkpoint, *note.Note, error) {
	n, err := openNote(text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || checkOrigin(lines[0]) != nil {
		return Checkpoint{}, nil, fmt.Errorf("%w: not a checkpoint", ErrFormat)
	}
	size, sizeErr := strconv.ParseInt(lines[1], 10, 64)
	root, rootErr := ParseHash(lines[2])
	if sizeErr != nil || rootErr != nil || checkSize(size) != nil || checkpointText(lines[0], size, root) != n.Text {
		return Checkpoint{}, nil, fmt.Errorf("%w: not a checkpoint", ErrFormat)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, n, nil
}

// readReceipt reads a receipt without checking its signatures.
func readReceipt(text string) (Receipt, error) {
	n, err := openNote(text)
	if err != nil {
		return Receipt{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 5 || lines[0] != receiptLine || checkOrigin(lines[1]) != nil {
		return Receipt{}, fmt.Errorf("%w: not a receipt", ErrFormat)
	}
	leaf, leafErr := base64.StdEncoding.DecodeString(lines[2])
	by, timeErr := time.Parse(timeLayout, lines[3])
	if leafErr != nil || timeErr != nil || receiptText(lines[1], leaf, by) != n.Text {
		return Receipt{}, fmt.Errorf("%w: not a receipt", ErrFormat)
	}
	entry, err := ParseLeaf(leaf)
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	return Receipt{Origin: lines[1], Leaf: leaf, Entry: entry, IntegrateBy: by}, nil
}
