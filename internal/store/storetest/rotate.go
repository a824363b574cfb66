package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

// sealedKey is the name under which these tests keep the seed of a rotated key. It is not sealed here.
const sealedKey = "ledger-key"

// NextKey returns a rotation to a fresh key.
func NextKey() (store.Rotation, error) {
	signer, seed, err := ledger.GenerateSigner(Origin)
	return store.Rotation{Signer: signer, Name: sealedKey, Sealed: seed, By: "uid:0"}, err
}

// KeptSigner returns the key that a start would use: the one that the store at rest keeps sealed, the fixed one
// where there is none.
func KeptSigner(ctx context.Context, db Database) (*ledger.Signer, error) {
	raw, err := db.SQL()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	var seed []byte
	err = raw.QueryRowContext(ctx, `select ciphertext from sealed where name = $1`, sealedKey).Scan(&seed)
	if errors.Is(err, sql.ErrNoRows) {
		return FixedSigner()
	}
	if err != nil {
		return nil, err
	}
	return ledger.NewSigner(Origin, seed)
}

func next(t testing.TB) store.Rotation {
	t.Helper()
	r, err := NextKey()
	check(t, err)
	return r
}

func rotate(t testing.TB, s *store.Store, r store.Rotation) (entry int64) {
	t.Helper()
	check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
		entry, err = tx.Rotate(r)
		return err
	}))
	return entry
}

// Export writes the ledger of a store.
func Export(ctx context.Context, s *store.Store, w io.Writer) error {
	return s.View(ctx, func(tx *store.Tx) error {
		head, err := tx.ExportHead()
		if err != nil {
			return err
		}
		return ledger.WriteExport(w, head, tx.Hashes(), tx.Leaves)
	})
}

// verify checks a store's ledger by a key and against texts that were kept.
func verify(t testing.TB, s *store.Store, key *ledger.Signer, against ...string) (ledger.Report, error) {
	t.Helper()
	var export bytes.Buffer
	check(t, Export(t.Context(), s, &export))
	return ledger.VerifyExport(&export, []string{key.VerifierKey()}, against, time.Time{})
}

func testRotation(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	Insert(t, s.Store, NewLease("reader", "db"))
	var before string
	View(t, s.Store, func(tx *store.Tx) (err error) {
		before, err = tx.Checkpoint()
		return err
	})
	keys := []*ledger.Signer{Signer(t)}
	for range 3 {
		r := next(t)
		entry := rotate(t, s.Store, r)
		if s.Signer().VerifierKey() != r.Signer.VerifierKey() {
			t.Fatal("the signer is still the old one")
		}
		keys = append(keys, r.Signer)
		View(t, s.Store, func(tx *store.Tx) error { return checkRotated(tx, entry, keys[len(keys)-2:]) })
		Insert(t, s.Store, NewLease("reader", "db"))
		View(t, s.Store, func(tx *store.Tx) error { return checkSigned(tx, r.Signer, keys[len(keys)-2]) })
	}
	for i, key := range keys {
		report, err := verify(t, s.Store, key)
		if err != nil || len(report.Rotations) != len(keys)-max(i, 1) { // a key also tells of its own rotation
			t.Errorf("by key %d: %+v, %v", i, report.Rotations, err)
		}
	}
	if _, err := verify(t, s.Store, keys[0], before); err != nil {
		t.Errorf("a checkpoint from before: %v", err)
	}
	check(t, s.Stop())
	if _, err := db.Open(t.Context(), store.Options{Signer: keys[2]}, nil); !errors.Is(err, store.ErrWrongKey) {
		t.Errorf("opened with a retired key: %v", err)
	}
	auditWith(t, db, ServeWith(t, db, keys[3], nil).Store, keys[3])
}

// checkRotated holds that the entry names the new key and that both signed the checkpoint of its group.
func checkRotated(tx *store.Tx, at int64, keys []*ledger.Signer) error {
	leaves, err := tx.Leaves(at, 1)
	if err != nil {
		return err
	}
	entry, err := ledger.ParseLeaf(leaves[0])
	if err != nil || entry.Event != ledger.LedgerRotated || entry.Key != keys[1].VerifierKey() {
		return fmt.Errorf("entry %d is %+v, %w", at, entry, err)
	}
	head, err := tx.ExportHead()
	if err != nil {
		return err
	}
	if last := head.Rotations[len(head.Rotations)-1]; last != head.Checkpoint || !slices.Equal(head.Keys, []string{keys[1].VerifierKey()}) {
		return fmt.Errorf("the head is %+v", head)
	}
	for _, key := range keys {
		if err := signedBy(head.Checkpoint, key); err != nil {
			return err
		}
	}
	return nil
}

// checkSigned holds that one key signed the head and another did not.
func checkSigned(tx *store.Tx, by, not *ledger.Signer) error {
	text, err := tx.Checkpoint()
	if err != nil {
		return err
	}
	if signedBy(text, not) == nil {
		return errors.New("the retired key still signs")
	}
	return signedBy(text, by)
}

func signedBy(checkpoint string, key *ledger.Signer) error {
	v, err := ledger.NewVerifier(key.VerifierKey())
	if err == nil {
		_, err = v.Checkpoint(checkpoint)
	}
	return err
}

func auditWith(t testing.TB, db Database, s *store.Store, signer *ledger.Signer) {
	t.Helper()
	raw, err := db.SQL()
	check(t, err)
	defer raw.Close()
	check(t, Audit(t.Context(), s, raw, signer))
}

func testRotationUndone(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	boom := errors.New("boom")
	r := next(t)
	undone := func(tx *store.Tx) error {
		_, err := tx.Rotate(r)
		return errors.Join(err, boom)
	}
	insert := func(tx *store.Tx) error { _, err := tx.InsertLease(new(NewLease("reader", "db"))); return err }
	errs := together(t, s.Store, insert, undone, insert)
	if errs[0] != nil || !errors.Is(errs[1], boom) || errs[2] != nil {
		t.Fatalf("got %v", errs)
	}
	if s.Signer().VerifierKey() != Signer(t).VerifierKey() {
		t.Error("the key was rotated")
	}
	if err := s.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Rotate(r); return err }); err == nil {
		t.Error("a view rotated the key")
	}
	other, _, err := ledger.GenerateSigner("elsewhere.test/ledger")
	check(t, err)
	for _, bad := range []*ledger.Signer{other, Signer(t)} {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Rotate(store.Rotation{Signer: bad, Name: sealedKey, Sealed: []byte("seed")})
			return err
		})
		wantKind(t, err, fault.Internal)
	}
	if report, err := verify(t, s.Store, Signer(t)); err != nil || len(report.Rotations) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	check(t, s.Stop())
	audit(t, db, Serve(t, db, nil).Store)
}

func testRotationsTogether(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	one, two := next(t), next(t)
	to := func(r store.Rotation) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := tx.Rotate(r); return err }
	}
	errs := together(t, s.Store, to(one), to(two))
	check(t, errs[0])
	wantKind(t, errs[1], fault.Conflict)
	rotate(t, s.Store, two)
	if report, err := verify(t, s.Store, Signer(t)); err != nil || len(report.Rotations) != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	check(t, s.Stop())
	auditWith(t, db, ServeWith(t, db, two.Signer, nil).Store, two.Signer)
}

func testRotationFaults(t *testing.T, db Database) {
	faults := &Faults{}
	now := Signer(t)
	for at, hit := 0, true; hit; at++ {
		for _, fate := range []Fault{NotDone, DoneLost} {
			faults.Decide(nil)
			s := ServeWith(t, db, now, faults.Wrap)
			count, failedAt := 0, ""
			hit = false
			faults.Decide(func(text string) Fault {
				if count++; count-1 == at {
					hit, failedAt = true, text
					return fate
				}
				return None
			})
			r := next(t)
			err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Rotate(r); return err })
			faults.Decide(nil)
			if (err == nil) != (!hit || mends(db, failedAt, fate)) {
				t.Errorf("%q, fault %d: the rotation returned %v", failedAt, fate, err)
			}
			if signs := s.Signer().VerifierKey(); (signs == r.Signer.VerifierKey()) != (err == nil) {
				t.Errorf("%q, fault %d: %s signs", failedAt, fate, signs)
			}
			_ = s.Stop() // a fault at the commit stops the store
			want := now
			if !hit || mends(db, failedAt, fate) || failedAt == "commit" && fate == DoneLost {
				want = r.Signer
			}
			now, err = KeptSigner(t.Context(), db)
			check(t, err)
			if now.VerifierKey() != want.VerifierKey() {
				t.Errorf("%q, fault %d: the store keeps another key than it should", failedAt, fate)
			}
			checkWhole(t, db, now)
		}
	}
}

// checkWhole holds that the store opens with a key, goes on with it, and verifies from its very first one.
func checkWhole(t testing.TB, db Database, key *ledger.Signer) {
	t.Helper()
	s := ServeWith(t, db, key, nil)
	Insert(t, s.Store, NewLease("reader", "db"))
	auditWith(t, db, s.Store, key)
	if _, err := verify(t, s.Store, Signer(t)); err != nil {
		t.Error(err)
	}
	check(t, s.Stop())
}

func testRetiredKey(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	r := next(t)
	rotate(t, s.Store, r)
	Insert(t, s.Store, NewLease("reader", "db"))
	check(t, s.Stop())
	raw, err := db.SQL()
	check(t, err)
	_, err = raw.ExecContext(t.Context(), `update meta set value = $1 where name = 'ledger_key'`, Signer(t).VerifierKey())
	check(t, errors.Join(err, raw.Close()))
	for _, key := range []*ledger.Signer{Signer(t), r.Signer} {
		if _, err := db.Open(t.Context(), store.Options{Signer: key}, nil); !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrWrongKey) {
			t.Errorf("opened: %v", err)
		}
	}
}

func testRotationsFull(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	r := next(t)
	raw, err := db.SQL()
	check(t, err)
	_, err = raw.ExecContext(t.Context(), `insert into ledger_rotations (size, checkpoint, rotated_by)
		with recursive n (i) as (select 1 union all select i + 1 from n where i < $1) select -i, '', '' from n`, ledger.MaxRotations)
	check(t, errors.Join(err, raw.Close()))
	wantKind(t, s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Rotate(r); return err }), fault.Conflict)
	check(t, s.Stop())
	audit(t, db, Serve(t, db, nil).Store)
}
