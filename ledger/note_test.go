package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/daypass/daypass/ledger"
)

func verifier(t testing.TB, keys ...string) *ledger.Verifier {
	t.Helper()
	v, err := ledger.NewVerifier(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestACheckpointIsASignedNoteThatOthersRead(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 5)
	text := b.checkpoint(s, 5)
	want := origin + "\n5\n" + b.root(5).String() + "\n\n— " + origin + " "
	if !strings.HasPrefix(text, want) || strings.Count(text, "\n") != 5 {
		t.Errorf("got %q, want %q…", text, want)
	}
	key, err := note.NewVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(text), note.VerifierList(key)); err != nil {
		t.Error(err)
	}
	c, err := verifier(t, s.VerifierKey()).Checkpoint(text)
	if err != nil || c.Origin != origin || c.Size != 5 || c.Root != b.root(5) || !slices.Equal(c.Keys, []string{s.VerifierKey()}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAReceiptCarriesItsLeafAndItsTime(t *testing.T) {
	s := signer(t, 1)
	r, err := verifier(t, s.VerifierKey()).Receipt(receipt(t, s, entry(1)))
	if err != nil || r.Entry != entry(1) || r.Origin != origin || !slices.Equal(r.Keys, []string{s.VerifierKey()}) {
		t.Errorf("%+v, %v", r, err)
	}
	if leaf, _ := entry(1).Leaf(); !bytes.Equal(r.Leaf, leaf) || r.IntegrateBy.Sub(r.Entry.Time).Seconds() != 60 {
		t.Errorf("%+v", r)
	}
}

// Ledger threat 2: a signature on one thing is passed off as one on another.
func TestReceiptsAndCheckpointsAreNotTakenForEachOther(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 3)
	v := verifier(t, s.VerifierKey())
	if _, err := v.Checkpoint(receipt(t, s, entry(1))); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("a receipt as a checkpoint: %v", err)
	}
	if _, err := v.Receipt(b.checkpoint(s, 3)); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("a checkpoint as a receipt: %v", err)
	}
	for _, name := range []string{"daypass/receipt/v1", "daypass/receipt/v2", "", "a b", "a\nb", "a+b", "ä", strings.Repeat("o", 256)} {
		if _, err := ledger.NewSigner(name, make([]byte, 32)); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("a ledger called %q: %v", name, err)
		}
	}
}

// Ledger threat 3: a signature by nobody, by somebody else, or changed.
func TestSignaturesOfStrangersAndChangedTextsAreRefused(t *testing.T) {
	s, stranger, b := signer(t, 1), signer(t, 2), newBook(t, 3)
	v := verifier(t, s.VerifierKey())
	if _, err := v.Checkpoint(b.checkpoint(stranger, 3)); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("a stranger's checkpoint: %v", err)
	}
	if _, err := v.Receipt(receipt(t, stranger, entry(1))); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("a stranger's receipt: %v", err)
	}
	elsewhere, _, err := ledger.GenerateSigner("elsewhere.example.com/ledger")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Checkpoint(elsewhere.Checkpoint(3, b.root(3))); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("another ledger's checkpoint: %v", err)
	}
	for _, text := range []string{b.checkpoint(s, 3), receipt(t, s, entry(1))} {
		for i := range text {
			for _, flip := range []byte{1, 0x20} {
				bad := []byte(text)
				bad[i] ^= flip
				_, err1 := v.Checkpoint(string(bad))
				_, err2 := v.Receipt(string(bad))
				if err1 == nil || err2 == nil {
					t.Fatalf("byte %d changed, and verified: %q", i, bad)
				}
			}
		}
	}
}

func TestCheckpointsHaveOneSpelling(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 3)
	v, root := verifier(t, s.VerifierKey()), b.root(3).String()
	for name, text := range map[string]string{
		"a size with zero":       origin + "\n03\n" + root + "\n",
		"a size with sign":       origin + "\n+3\n" + root + "\n",
		"a negative size":        origin + "\n-3\n" + root + "\n",
		"a size without end":     origin + "\n9223372036854775807\n" + root + "\n",
		"a size beyond integers": origin + "\n99999999999999999999\n" + root + "\n",
		"no size":                origin + "\n\n" + root + "\n",
		"a short root":           origin + "\n3\n" + root[4:] + "\n",
		"an extension line":      origin + "\n3\n" + root + "\nmore\n",
		"no root":                origin + "\n3\n",
		"no origin":              "\n3\n" + root + "\n",
	} {
		text := sign(t, 1, text)
		if _, err := v.Checkpoint(text); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "\n", "\n\n", origin, strings.Repeat("x", 1<<20), b.checkpoint(s, 3) + "x", "\xff"} {
		if _, err := v.Checkpoint(text); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// sign signs any text with the nth key, as our signer would not.
func sign(t testing.TB, n byte, text string) string {
	t.Helper()
	seed := sha256.Sum256([]byte{'s', 'e', 'e', 'd', n})
	hash := strings.Split(signer(t, n).VerifierKey(), "+")[1]
	private := fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", origin, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...)))
	key, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func TestTwoKeysSignARotationAndWitnessesMaySignToo(t *testing.T) {
	old, next, b := signer(t, 1), signer(t, 2), newBook(t, 3)
	text := b.both(old, next, 3)
	for _, keys := range [][]string{{old.VerifierKey()}, {next.VerifierKey()}, {old.VerifierKey(), next.VerifierKey()}} {
		c, err := verifier(t, keys...).Checkpoint(text)
		slices.Sort(keys)
		if err != nil || !slices.Equal(c.Keys, keys) {
			t.Errorf("%v: %v, %v", keys, c.Keys, err)
		}
	}
	witnessed := text + "— witness.example " + base64.StdEncoding.EncodeToString(make([]byte, 76)) + "\n"
	if _, err := verifier(t, old.VerifierKey()).Checkpoint(witnessed); err != nil {
		t.Errorf("with a witness: %v", err)
	}
	stranger, _, _ := ledger.GenerateSigner("elsewhere.example.com")
	if _, err := stranger.Cosign(text); err == nil {
		t.Error("another ledger's key cosigned")
	}
	if _, err := next.Cosign(receipt(t, old, entry(1))); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("a receipt was cosigned as a checkpoint: %v", err)
	}
}

func TestVerifierKeysHaveOneSpelling(t *testing.T) {
	key := signer(t, 1).VerifierKey()
	parts := strings.Split(key, "+")
	for _, bad := range []string{
		"", key + "\n", " " + key, parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + strings.Join(parts[2:], "+"),
		parts[0] + "+00000000+" + strings.Join(parts[2:], "+"), "daypass/receipt/v1+" + strings.Join(parts[1:], "+"), key[:len(key)-4],
	} {
		if _, err := ledger.NewVerifier(bad); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ledger.NewVerifier(); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("no key: %v", err)
	}
	elsewhere, _, _ := ledger.GenerateSigner("elsewhere.example.com")
	if _, err := ledger.NewVerifier(key, elsewhere.VerifierKey()); !errors.Is(err, ledger.ErrFormat) {
		t.Errorf("keys of two ledgers: %v", err)
	}
}

func TestASignerComesBackFromItsSeed(t *testing.T) {
	s, seed, err := ledger.GenerateSigner(origin)
	if err != nil || len(seed) != 32 {
		t.Fatal(err)
	}
	again, err := ledger.NewSigner(origin, seed)
	if err != nil || again.VerifierKey() != s.VerifierKey() || again.Origin() != origin {
		t.Errorf("%v", err)
	}
	for _, short := range [][]byte{nil, seed[:31], append(seed, 1)} {
		if _, err := ledger.NewSigner(origin, short); err == nil {
			t.Errorf("a seed of %d bytes: taken", len(short))
		}
	}
}

// Ledger threat 8: the signing key in a log.
func TestNothingPrintsTheSigningKey(t *testing.T) {
	s, seed, err := ledger.GenerateSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ inner *ledger.Signer }{s}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", s)
		fmt.Fprintf(&b, verb+"\n", *s)
		fmt.Fprintf(&b, verb+"\n", holder)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "signer", s, "value", *s, "holder", holder)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "signer", s, "value", *s)
	_, err = ledger.NewSigner(origin, append(seed, 1))
	fmt.Fprintln(&b, err)
	for _, leak := range []string{string(seed), hex.EncodeToString(seed), base64.StdEncoding.EncodeToString(seed), strings.Trim(fmt.Sprint(seed), "[]")} {
		if strings.Contains(b.String(), leak) {
			t.Errorf("the seed shows in %s", b.String())
		}
	}
}

func TestSigningNonsensePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a checkpoint of -1 entries was signed")
		}
	}()
	signer(t, 1).Checkpoint(-1, ledger.Hash{})
}

func TestAProofAsTextVerifiesWithItsLeafAlone(t *testing.T) {
	s, b := signer(t, 1), newBook(t, 300)
	v := verifier(t, s.VerifierKey())
	for _, n := range []int64{0, 1, 255, 256, 299} {
		hashes, err := ledger.ProveInclusion(300, n, b.hashes)
		if err != nil {
			t.Fatal(err)
		}
		text := ledger.InclusionProof{Index: n, Hashes: hashes, Checkpoint: b.checkpoint(s, 300)}.Text()
		c, at, err := v.Inclusion(text, b.leaves[n])
		if err != nil || at != n || c.Size != 300 {
			t.Errorf("entry %d: %+v, %d, %v", n, c, at, err)
		}
		if _, _, err := v.Inclusion(text, b.leaves[(n+1)%300]); !errors.Is(err, ledger.ErrProof) {
			t.Errorf("entry %d with another leaf: %v", n, err)
		}
		for i := range text {
			bad := []byte(text)
			bad[i] ^= 1
			if _, _, err := v.Inclusion(string(bad), b.leaves[n]); err == nil {
				t.Fatalf("byte %d of the proof changed, and verified", i)
			}
		}
	}
	one := newBook(t, 1)
	text := ledger.InclusionProof{Checkpoint: one.checkpoint(s, 1)}.Text()
	if _, _, err := v.Inclusion(text, one.leaves[0]); err != nil {
		t.Errorf("a tree of one entry: %v", err)
	}
	for _, bad := range []string{"", "\n\n", strings.Replace(text, "index 0", "index 00", 1), strings.Replace(text, "index 0", "index -1", 1),
		strings.Replace(text, "index 0", "extra eA==\nindex 0", 1), strings.Repeat("x", 1<<20), strings.Replace(text, "@v1", "@v2", 1)} {
		if _, err := ledger.ParseProof(bad); !errors.Is(err, ledger.ErrFormat) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}
