package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

func testDue(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	const count = 1200
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for i := range count {
			l := NewLease("reader", "db-"+strconv.Itoa(i%2))
			l.ExpiresAt = Start().Add(time.Duration(i) * time.Second)
			if _, err := tx.InsertLease(&l); err != nil {
				return err
			}
			l, err := tx.Lease(l.ID)
			if err != nil {
				return err
			}
			if _, err := tx.Move(&l, lease.Granted, store.Why{Now: Start()}); err != nil {
				return err
			}
		}
		return nil
	}))
	now := Start().Add(999 * time.Second)
	ended := 0
	for {
		var page []store.Lease
		View(t, s.Store, func(tx *store.Tx) (err error) {
			page, err = tx.Expired(now, 300)
			return err
		})
		if len(page) == 0 {
			break
		}
		for i := range page {
			if i > 0 && page[i].ExpiresAt.Before(page[i-1].ExpiresAt) || page[i].ExpiresAt.After(now) {
				t.Fatalf("expired lease %d is out of order or early: %v", i, page[i].ExpiresAt)
			}
		}
		check(t, s.Update(t.Context(), func(tx *store.Tx) error {
			for _, l := range page {
				if _, err := tx.Move(&l, lease.Ended, store.Why{Reason: lease.Expired, Now: l.ExpiresAt}); err != nil {
					return err
				}
			}
			return nil
		}))
		ended += len(page)
	}
	if ended != 1000 {
		t.Errorf("%d leases expired", ended)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		due, err := tx.Due("db-0", now, 10_000)
		if len(due) != 500 || due[0].NextAttempt.After(due[499].NextAttempt) {
			t.Errorf("%d leases are due", len(due))
		}
		targets, targetsErr := tx.Targets()
		if len(targets) != 2 || targets[0].Revoking != 500 || targets[0].Active != 100 || !targets[0].OldestRevoking.Equal(Start()) {
			t.Errorf("targets %+v", targets)
		}
		wake, ok, wakeErr := tx.NextWake()
		if !ok || !wake.Equal(Start()) {
			t.Errorf("next wake %v", wake)
		}
		return errors.Join(err, targetsErr, wakeErr)
	})
	audit(t, db, s.Store)
}

func testPaging(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var made []store.Lease
	for i := range 60 {
		l := NewLease("role-"+strconv.Itoa(i%3), "db-"+strconv.Itoa(i%2))
		l.Subject = "repo:" + strconv.Itoa(i%4)
		if i%5 == 0 {
			l.IssuerURL, l.Issuer = "https://gitlab.example", "gitlab"
		}
		made = append(made, l)
	}
	made = Insert(t, s.Store, made...)
	for i := range made {
		if i%7 == 0 {
			made[i] = Move(t, s.Store, made[i], Start(), lease.Ended, lease.Proved)
		}
	}
	for name, f := range map[string]store.Filter{
		"everything":              {},
		"live ones":               {Live: true},
		"a role":                  {Role: "role-1"},
		"a role's live ones":      {Role: "role-1", Live: true},
		"a target's live ones":    {Target: "db-1", Live: true},
		"a principal":             {IssuerURL: made[1].IssuerURL, Subject: "repo:1"},
		"a principal's live ones": {IssuerURL: made[1].IssuerURL, Subject: "repo:1", Live: true},
		"an issuer's live ones":   {IssuerURL: "https://gitlab.example", Live: true},
		"an issuer by name":       {Issuer: "gitlab"},
		"a state":                 {State: lease.Revoked},
		"one lease":               {Lease: made[3].ID},
		"one lease that is dead":  {Lease: made[7].ID, Live: true},
		"role and target":         {Role: "role-2", Target: "db-0", Live: true},
	} {
		want := map[lease.ID]bool{}
		for _, l := range made {
			if selects(f, l) {
				want[l.ID] = true
			}
		}
		for _, limit := range []int{1, 7, 100} {
			if err := walk(t, s.Store, f, limit, want); err != nil {
				t.Errorf("%s, %d a page: %v", name, limit, err)
			}
		}
	}
	View(t, s.Store, func(tx *store.Tx) error {
		_, _, err := tx.Leases(store.Filter{}, "not a cursor", 10)
		wantKind(t, err, fault.Invalid)
		return nil
	})
}

func selects(f store.Filter, l store.Lease) bool {
	return (f.IssuerURL == "" || f.IssuerURL == l.IssuerURL) && (f.Subject == "" || f.Subject == l.Subject) &&
		(f.Issuer == "" || f.Issuer == l.Issuer) && (f.Role == "" || f.Role == l.Role) && (f.Target == "" || f.Target == l.Target) &&
		(f.State == "" || f.State == l.State) && (f.Lease == "" || f.Lease == l.ID) && (!f.Live || l.State.MayLive())
}

// walk reads all pages and compares them with what is wanted.
func walk(t testing.TB, s *store.Store, f store.Filter, limit int, want map[lease.ID]bool) error {
	seen := map[lease.ID]bool{}
	for cursor, first := "", true; first || cursor != ""; first = false {
		var page []store.Lease
		View(t, s, func(tx *store.Tx) (err error) {
			page, cursor, err = tx.Leases(f, cursor, limit)
			return err
		})
		if len(page) > limit {
			return fmt.Errorf("a page of %d", len(page))
		}
		for _, l := range page {
			if seen[l.ID] || !want[l.ID] {
				return fmt.Errorf("lease %s came twice or is not wanted", l.ID)
			}
			seen[l.ID] = true
		}
	}
	if len(seen) != len(want) {
		return fmt.Errorf("saw %d leases of %d", len(seen), len(want))
	}
	return nil
}

func testLocks(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := NewLease("reader", "db")
	put := func(k store.Lock) error {
		k.Reason, k.CreatedAt, k.CreatedBy = "leaked", Start(), "uid 0"
		return s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.PutLock(k); return err })
	}
	wantKind(t, put(store.Lock{ID: "empty"}), fault.Invalid)
	wantKind(t, put(store.Lock{ID: "half", Subject: l.Subject}), fault.Invalid)
	matching := func(l store.Lease, now time.Time) (id string) {
		t.Helper()
		for _, in := range []func(func(*store.Tx) error) error{
			func(fn func(*store.Tx) error) error { return s.View(t.Context(), fn) },
			func(fn func(*store.Tx) error) error { return s.Update(t.Context(), fn) },
		} {
			check(t, in(func(tx *store.Tx) error {
				k, _, err := tx.MatchingLock(l, now)
				id = k.ID
				return err
			}))
		}
		return id
	}
	check(t, put(store.Lock{ID: "other", IssuerURL: "https://gitlab.example"}))
	check(t, put(store.Lock{ID: "both", Role: "reader", Target: "elsewhere"}))
	if got := matching(l, Start()); got != "" {
		t.Errorf("lock %q matches", got)
	}
	for _, k := range []store.Lock{
		{ID: "principal", IssuerURL: l.IssuerURL, Subject: l.Subject}, {ID: "issuer", IssuerURL: l.IssuerURL},
		{ID: "role", Role: "reader"}, {ID: "target", Target: "db", Role: "reader"}, {ID: "lease", Lease: l.ID},
	} {
		check(t, put(k))
		if got := matching(l, Start()); got != k.ID {
			t.Errorf("lock %q matches instead of %q", got, k.ID)
		}
		check(t, s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.LiftLock(k.ID, Start(), "uid 0"); return err }))
		if got := matching(l, Start()); got != "" {
			t.Errorf("lock %q matches after it was lifted", got)
		}
	}
	check(t, put(store.Lock{ID: "brief", Role: "reader", ExpiresAt: Start().Add(time.Minute)}))
	if got := matching(l, Start().Add(time.Minute-1)); got != "brief" {
		t.Errorf("before its expiry lock %q matches", got)
	}
	if got := matching(l, Start().Add(time.Minute)); got != "" {
		t.Errorf("after its expiry lock %q matches", got)
	}
	lift := func(id string) error {
		return s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.LiftLock(id, Start(), "uid 0"); return err })
	}
	wantKind(t, lift("role"), fault.Conflict)
	wantKind(t, lift("nothing"), fault.NotFound)
	View(t, s.Store, func(tx *store.Tx) error {
		page, next, err := tx.Locks("", 5)
		rest, end, restErr := tx.Locks(next, 5)
		if len(page) != 5 || len(rest) != 3 || end != "" || page[0].ID != "brief" {
			t.Errorf("%d + %d locks", len(page), len(rest))
		}
		return errors.Join(err, restErr)
	})
	// A lock and a lease that meet in one group: whoever comes first is seen by the other.
	k := store.Lock{ID: "race", Role: "writer", Reason: "now", CreatedAt: Start(), CreatedBy: "uid 0"}
	w := NewLease("writer", "db")
	errs := together(t, s.Store,
		func(tx *store.Tx) error { _, _, err := tx.MatchingLock(w, Start()); return err },
		func(tx *store.Tx) error { _, err := tx.PutLock(k); return err },
		func(tx *store.Tx) error {
			if _, found, err := tx.MatchingLock(w, Start()); err != nil || !found {
				return fmt.Errorf("the lock before is not seen: %w", err)
			}
			return nil
		})
	check(t, errors.Join(errs...))
	audit(t, db, s.Store)
}

func testDecisions(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	l := NewLease("reader", "db")
	d := store.Decision{ID: l.Decision, At: Start(), Revision: "r1", Issuer: "github", IssuerURL: l.IssuerURL, Subject: l.Subject,
		Action: "acquire", Resource: `Role::"reader"`, Outcome: "allow", Reasons: []byte(`[]`), Input: []byte(`{"a":1}`),
		Salt: ledger.NewSalt(), Lease: string(l.ID)}
	var leaf []byte
	check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
		if _, err := tx.PutDecision(d); err != nil {
			return err
		}
		leaf, err = tx.InsertLease(&l)
		return err
	}))
	entry, err := ledger.ParseLeaf(leaf)
	check(t, err)
	if entry.Commitment != ledger.Commit(d.Salt, d.Input) {
		t.Error("the entry of the lease does not commit to its decision")
	}
	d.Count, d.At = 7, Start().Add(time.Minute)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.PutDecision(d); return err }))
	View(t, s.Store, func(tx *store.Tx) error {
		got, err := tx.Decision(d.ID)
		if got.Count != 7 || !got.At.Equal(d.At) || string(got.Input) != `{"a":1}` || got.Outcome != "allow" {
			t.Errorf("kept as %+v", got)
		}
		_, absent := tx.Decision("nothing")
		wantKind(t, absent, fault.NotFound)
		return err
	})
}

func testRevisions(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	View(t, s.Store, func(tx *store.Tx) error {
		_, err := tx.ActiveRevision()
		wantKind(t, err, fault.NotFound)
		return nil
	})
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for _, id := range []string{"a", "b", "c", "b"} {
			if err := tx.PutRevision(store.Revision{ID: id, CreatedAt: Start(), CreatedBy: "uid 0", Files: []byte(`{"x":"` + id + `"}`)}); err != nil {
				return err
			}
		}
		for _, id := range []string{"a", "b"} {
			if _, err := tx.Activate(id, Start(), "uid 0"); err != nil {
				return err
			}
			if active, err := tx.ActiveID(); err != nil || active != id {
				return fmt.Errorf("%q is active: %w", active, err)
			}
		}
		return nil
	}))
	wantKind(t, s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Activate("z", Start(), "uid 0"); return err }), fault.NotFound)
	View(t, s.Store, func(tx *store.Tx) error {
		active, err := tx.ActiveRevision()
		if active.ID != "b" || string(active.Files) != `{"x":"b"}` || !active.ActivatedAt.Equal(Start()) {
			t.Errorf("active: %+v", active)
		}
		for id, want := range map[string]bool{"a": true, "b": true, "c": false, "z": false} {
			if was, err := tx.WasActive(id); err != nil || was != want {
				t.Errorf("%s was active: %v %v", id, was, err)
			}
		}
		page, next, pageErr := tx.Revisions("", 2)
		rest, end, restErr := tx.Revisions(next, 2)
		if len(page) != 2 || page[0].ID != "c" || len(rest) != 1 || end != "" {
			t.Errorf("revisions %v, %v", page, rest)
		}
		return errors.Join(err, pageErr, restErr)
	})
	audit(t, db, s.Store)
}

func testRecords(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var mark string
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		made, created, err := tx.TargetMark("db")
		again, recreated, againErr := tx.TargetMark("db")
		mark = made
		if !created || recreated || made != again || len(made) != 26 {
			return fmt.Errorf("mark %q %v, then %q %v", made, created, again, recreated)
		}
		return errors.Join(err, againErr, tx.PutSealed("key", []byte{1}), tx.PutSealed("key", []byte{2}),
			tx.PutIssuerKeys("https://issuer", []byte("{}"), Start()))
	}))
	View(t, s.Store, func(tx *store.Tx) error {
		got, created, err := tx.TargetMark("db")
		sealed, sealedErr := tx.Sealed("key")
		jwks, at, keysErr := tx.IssuerKeys("https://issuer")
		if got != mark || created || string(sealed) != "\x02" || string(jwks) != "{}" || !at.Equal(Start()) {
			t.Errorf("read %q %v %v %q %v", got, created, sealed, jwks, at)
		}
		_, absent := tx.Sealed("nothing")
		wantKind(t, absent, fault.NotFound)
		_, _, absent = tx.IssuerKeys("nothing")
		wantKind(t, absent, fault.NotFound)
		_, _, absent = tx.TargetMark("nothing")
		wantKind(t, absent, fault.NotFound)
		return errors.Join(err, sealedErr, keysErr)
	})
}

func testPrune(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var leases []store.Lease
	for i := range 30 {
		leases = append(leases, NewLease("reader", "db-"+strconv.Itoa(i%3)))
	}
	leases = Insert(t, s.Store, leases...)
	for i, l := range leases[:20] {
		Move(t, s.Store, l, Start().Add(time.Duration(i)*time.Hour), lease.Ended, lease.Proved)
		check(t, s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.PutDecision(store.Decision{ID: l.Decision, At: Start().Add(time.Duration(i) * time.Hour), Outcome: "allow"})
			return err
		}))
	}
	var size int64
	total, decided := int64(0), int64(0)
	for range 4 {
		check(t, s.Update(t.Context(), func(tx *store.Tx) (err error) {
			if size, err = tx.LedgerSize(); err != nil {
				return err
			}
			gone, decisions, err := tx.Prune(Start().Add(10*time.Hour), Start().Add(15*time.Hour), 6)
			total, decided = total+gone, decided+decisions
			return err
		}))
	}
	if total != 10 || decided != 15 {
		t.Errorf("pruned %d leases and %d decisions", total, decided)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		after, err := tx.LedgerSize()
		if after != size {
			t.Errorf("the ledger went from %d to %d entries", size, after)
		}
		live, liveErr := tx.Live(store.Scope{Role: "reader"})
		if live != 10 {
			t.Errorf("%d live", live)
		}
		return errors.Join(err, liveErr)
	})
}

func testProofs(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var first []byte
	for i := range 3 {
		check(t, s.Update(t.Context(), func(tx *store.Tx) error {
			for range 300 {
				leaf, err := tx.InsertLease(new(NewLease("reader", "db")))
				if err != nil {
					return err
				}
				if i == 0 {
					first = leaf
				}
			}
			return nil
		}))
	}
	View(t, s.Store, func(tx *store.Tx) error {
		at, err := tx.Position(first)
		if err != nil {
			return err
		}
		found, err := tx.Leaves(at, 1)
		if err != nil || len(found) != 1 || string(found[0]) != string(first) {
			t.Errorf("position %d holds another leaf: %v", at, err)
		}
		size, err := tx.LedgerSize()
		if err != nil {
			return err
		}
		for _, old := range []int64{1, 255, 256, 257, size - 1} {
			oldRoot, err := ledger.Root(old, tx.Hashes())
			if err != nil {
				return err
			}
			root, err := ledger.Root(size, tx.Hashes())
			if err != nil {
				return err
			}
			proof, err := ledger.ProveConsistency(size, old, tx.Hashes())
			if err != nil {
				return err
			}
			if err := ledger.VerifyConsistency(proof, size, root, old, oldRoot); err != nil {
				t.Errorf("from %d to %d: %v", old, size, err)
			}
		}
		return nil
	})
	audit(t, db, s.Store)
}

// testCount holds that counting what has not ended gives what listing it gives, for every shape of filter.
func testCount(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	a, b, c := NewLease("reader", "db"), NewLease("reader", "other"), NewLease("writer", "db")
	c.Subject = a.Subject
	stored := Insert(t, s.Store, a, b, c, NewLease("reader", "db"), NewLease("writer", "other"))
	Move(t, s.Store, stored[0], Start(), lease.Granted)
	Move(t, s.Store, stored[3], Start(), lease.Granted, lease.Ended)
	Move(t, s.Store, stored[4], Start(), lease.Ended, lease.Proved)
	for _, f := range []store.Filter{
		{Role: "reader"}, {Role: "writer"}, {Target: "db"}, {Role: "reader", Target: "db"}, {IssuerURL: a.IssuerURL},
		{IssuerURL: a.IssuerURL, Subject: a.Subject}, {Role: "reader", IssuerURL: a.IssuerURL, Subject: a.Subject},
		{Target: "db", IssuerURL: a.IssuerURL, Subject: a.Subject}, {Role: "reader", IssuerURL: a.IssuerURL},
		{Lease: a.ID}, {Role: "writer", Lease: a.ID}, {Role: "nobody"}, {},
	} {
		View(t, s.Store, func(tx *store.Tx) error {
			f.Live = true
			listed, _, err := tx.Leases(f, "", 100)
			want := 0
			for _, l := range listed {
				if l.State == lease.Pending || l.State == lease.Active {
					want++
				}
			}
			if got, countErr := tx.CountLive(f); countErr != nil || got != want {
				t.Errorf("%+v: counted %d, %v; listed %d", f, got, countErr, want)
			}
			return err
		})
	}
}
