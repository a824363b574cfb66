package relocation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/delegation"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/relocation"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/ledger"
)

// keptSigner opens the ledger's key as these tests keep it.
func keptSigner(tx *store.Tx) (*ledger.Signer, error) {
	seed, err := tx.Sealed("ledger-key")
	if fault.Is(err, fault.NotFound) {
		return storetest.FixedSigner()
	}
	if err != nil {
		return nil, err
	}
	return ledger.NewSigner(storetest.Origin, seed)
}

// relocate moves a store; wrap goes around the connections of the destination, or of both.
func relocate(ctx context.Context, from, to home, wrapFrom, wrapTo wrapper) (done relocation.Moved, err error) {
	err = from.hold(ctx, wrapFrom, func(source store.Dialect) error {
		return to.fill(ctx, wrapTo, func(destination store.Dialect) error {
			done, err = relocation.Run(ctx, relocation.Plan{
				From: source, To: destination, FromName: from.place(), ToName: to.place(), Signer: keptSigner,
			})
			return err
		})
	})
	return done, err
}

// takeBack undoes a relocation.
func takeBack(ctx context.Context, from, to home) error {
	return from.hold(ctx, nil, func(source store.Dialect) error {
		p := relocation.Plan{From: source, FromName: from.place(), ToName: to.place()}
		err := to.hold(ctx, nil, func(destination store.Dialect) error {
			p.To = destination
			return relocation.TakeBack(ctx, p, false)
		})
		if errors.Is(err, store.ErrAbsent) {
			p.To = nil
			err = relocation.TakeBack(ctx, p, false)
		}
		return err
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// furnish makes a store with something in every table.
func furnish(t testing.TB, db storetest.Database, leases int) {
	t.Helper()
	storetest.Create(t, db)
	s := storetest.Serve(t, db, nil)
	batch := make([]store.Lease, leases)
	for i := range batch {
		batch[i] = storetest.NewLease(fmt.Sprint("role-", i%3), fmt.Sprint("db-", i%2))
		batch[i].Subject = fmt.Sprintf("repo:Äcme/%c_%d", 'A'+i%50, i%7)
		if i%3 == 0 {
			batch[i] = storetest.Acted(batch[i], delegation.Actor{IssuerURL: "https://agents.example", Subject: fmt.Sprint("agent-", i%5)})
		}
	}
	batch = storetest.Insert(t, s.Store, batch...)
	for i, l := range batch[:min(len(batch), 8)] {
		storetest.Move(t, s.Store, l, storetest.Start(), lease.Events()[:i%4]...)
	}
	r, err := storetest.NextKey()
	must(t, err)
	must(t, s.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Rotate(r); err != nil {
			return err
		}
		if _, err := tx.PutDecision(store.Decision{ID: "d1", At: storetest.Start(), Outcome: "allow"}); err != nil {
			return err
		}
		if _, err := tx.PutLock(store.Lock{ID: "k1", Role: "nobody", Reason: "try", CreatedAt: storetest.Start()}); err != nil {
			return err
		}
		if err := tx.PutRevision(store.Revision{ID: "r1", CreatedAt: storetest.Start(), Files: []byte(`{}`)}); err != nil {
			return err
		}
		if _, err := tx.Activate("r1", storetest.Start(), "uid:0"); err != nil {
			return err
		}
		if err := tx.PutIssuerKeys("https://issuer.example", []byte("{}"), storetest.Start()); err != nil {
			return err
		}
		if _, err := tx.PutPosture(store.PostureRecord{Source: "device", ID: "a", Fields: []byte(`{}`), ReportedAt: storetest.Start()}, 1); err != nil {
			return err
		}
		if err := tx.WatchPosture("device", "a", batch[0].ID); err != nil {
			return err
		}
		if _, err := tx.Spend("proof", "a", storetest.Start(), storetest.Start().Add(time.Hour)); err != nil {
			return err
		}
		if err := tx.EnrolDevice(storetest.NewDevice("pump"), 1); err != nil {
			return err
		}
		_, _, err := tx.TargetMark("db-1")
		return err
	}))
	must(t, s.Stop())
}

// sound opens the store, as a server would, and checks its invariants.
func sound(t testing.TB, db storetest.Database) *storetest.Running {
	t.Helper()
	signer, err := storetest.KeptSigner(t.Context(), db)
	must(t, err)
	s := storetest.ServeWith(t, db, signer, nil)
	raw, err := db.SQL()
	must(t, err)
	defer raw.Close()
	must(t, storetest.Audit(t.Context(), s.Store, raw, signer))
	return s
}

// export is the ledger of a store as auditors read it.
func export(t testing.TB, s *storetest.Running) string {
	t.Helper()
	var text bytes.Buffer
	must(t, storetest.Export(t.Context(), s.Store, &text))
	return text.String()
}

func TestAStoreMovesToPostgresAndBack(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testThereAndBack(t, newDatabase(t, version)) })
	}
}

func testThereAndBack(t *testing.T, shared home) {
	first, last := home(newFile(t)), home(newFile(t))
	furnish(t, first, 1300)
	s := sound(t, first)
	before, instance, boot := export(t, s), s.Instance(), s.Boot()
	must(t, s.Stop())

	done, err := relocate(t.Context(), first, shared, nil, nil)
	must(t, err)
	if done.Instance != instance || done.Rows["leases"] != 1300 || done.Entries != done.Rows["ledger_leaves"] {
		t.Errorf("moved %+v", done)
	}
	sameTables(t, first, shared)
	refused(t, first, store.ErrMoved, shared.place())

	s = sound(t, shared)
	if s.Instance() != instance || s.Boot() != boot+1 {
		t.Errorf("it is instance %s at boot %d, and was %s at %d", s.Instance(), s.Boot(), instance, boot)
	}
	// One more lease: the database numbers it after those that came.
	added := storetest.Insert(t, s.Store, storetest.NewLease("role-1", "db-1"))[0]
	storetest.View(t, s.Store, func(tx *store.Tx) error {
		page, _, err := tx.Leases(store.Filter{}, "", 1)
		if err == nil && (len(page) != 1 || page[0].ID != added.ID) {
			t.Errorf("the newest lease is %v and not %s", page, added.ID)
		}
		return err
	})
	if entries, _, _ := strings.Cut(before, `{"end"`); !strings.Contains(export(t, s), entries[strings.Index(entries, "\n")+1:][:2000]) {
		t.Error("the ledger does not begin with the entries from before")
	}
	if _, err := relocate(t.Context(), shared, last, nil, nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("moved while it is served: %v", err)
	}
	must(t, s.Stop())

	if _, err := relocate(t.Context(), shared, first, nil, nil); !errors.Is(err, store.ErrExists) {
		t.Errorf("moved into a store: %v", err)
	}
	_, err = relocate(t.Context(), shared, last, nil, nil)
	must(t, err)
	sameTables(t, shared, last)
	refused(t, shared, store.ErrMoved, last.place())
	s = sound(t, last)
	storetest.Insert(t, s.Store, storetest.NewLease("role-1", "db-1"))
	must(t, s.Stop())
}

// refused makes sure that a store cannot be opened.
func refused(t testing.TB, db storetest.Database, want error, hint string) {
	t.Helper()
	signer, err := storetest.KeptSigner(t.Context(), db)
	must(t, err)
	s, err := db.Open(t.Context(), store.Options{Signer: signer}, nil)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), hint) {
		t.Errorf("opened with %v", err)
	}
}

// sameTables makes sure that every table of the schema moved: a new one is in the list of those that do, and this
// test has a row in it.
func sameTables(t testing.TB, from, to storetest.Database) {
	t.Helper()
	counts := func(db storetest.Database) map[string]int {
		raw, err := db.SQL()
		must(t, err)
		defer raw.Close()
		list := `select name from sqlite_master where type = 'table' and name not like 'sqlite%'`
		if _, isFile := db.(file); !isFile {
			list = `select tablename from pg_tables where schemaname = 'public'`
		}
		rows, err := raw.QueryContext(t.Context(), list)
		must(t, err)
		defer rows.Close()
		all := map[string]int{}
		for rows.Next() {
			var name string
			must(t, rows.Scan(&name))
			all[name] = 0
		}
		must(t, rows.Err())
		for name := range all {
			var n int
			must(t, raw.QueryRowContext(t.Context(), `select count(*) from `+name).Scan(&n))
			all[name] = n
		}
		return all
	}
	before, after := counts(from), counts(to)
	for name, n := range before {
		switch name {
		case "goose_db_version", "replicas", "keepers":
		case "meta":
			if n != after[name]+2 { // the source is marked
				t.Errorf("table meta has %d rows, of %d", after[name], n)
			}
		default:
			if n == 0 || n != after[name] {
				t.Errorf("table %s has %d rows, of %d", name, after[name], n)
			}
		}
	}
}

func TestAMoveThatWasNotServedIsUndone(t *testing.T) {
	from, to := home(newFile(t)), home(newDatabase(t, 15))
	furnish(t, from, 20)
	if err := takeBack(t.Context(), from, to); err == nil {
		t.Error("undid what was not done")
	}
	_, err := relocate(t.Context(), from, to, nil, nil)
	must(t, err)
	must(t, takeBack(t.Context(), from, to))
	refused(t, to, store.ErrMoved, from.place())
	must(t, sound(t, from).Stop())
	if err := takeBack(t.Context(), from, to); err == nil {
		t.Error("undid it twice")
	}
}

func TestAStoreWhoseNewHomeIsLostServesAgainInANewEpoch(t *testing.T) {
	from, to := home(newFile(t)), home(newDatabase(t, 15))
	furnish(t, from, 20)
	_, err := relocate(t.Context(), from, to, nil, nil)
	must(t, err)
	must(t, from.hold(t.Context(), nil, func(source store.Dialect) error {
		return relocation.TakeBack(t.Context(), relocation.Plan{From: source, FromName: from.place(), ToName: to.place()}, true)
	}))
	s := sound(t, from)
	if s.Epoch() != 2 {
		t.Errorf("it is in epoch %d", s.Epoch())
	}
	must(t, s.Stop())
}

func TestAMoveThatWasServedIsNotUndone(t *testing.T) {
	from, to := home(newFile(t)), home(newDatabase(t, 15))
	furnish(t, from, 20)
	_, err := relocate(t.Context(), from, to, nil, nil)
	must(t, err)
	must(t, sound(t, to).Stop())
	if err := takeBack(t.Context(), from, to); !errors.Is(err, relocation.ErrServed) {
		t.Errorf("undone: %v", err)
	}
	refused(t, from, store.ErrMoved, to.place())
}

// TestWhatWasTakenForDeadCannotWriteToAStoreThatMoved: a server may sleep for longer than others wait for it.
func TestWhatWasTakenForDeadCannotWriteToAStoreThatMoved(t *testing.T) {
	from := newDatabase(t, 15)
	to := home(newFile(t))
	furnish(t, from, 20)
	signer, err := storetest.KeptSigner(t.Context(), from)
	must(t, err)
	asleep, err := from.Open(t.Context(), store.Options{Signer: signer}, nil) // its writer does not run
	must(t, err)
	raw, err := from.SQL()
	must(t, err)
	defer raw.Close()
	_, err = raw.ExecContext(t.Context(), `update replicas set seen_at = seen_at - 60000000`)
	must(t, err)
	_, err = relocate(t.Context(), from, to, nil, nil)
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- asleep.Run(ctx) }()
	l := storetest.NewLease("role-1", "db-1")
	if err := asleep.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.InsertLease(&l); return err }); err == nil {
		t.Error("it wrote to a store that has moved")
	}
	cancel()
	must(t, errors.Join(<-ended, asleep.Close()))
}

func TestADamagedStoreDoesNotMove(t *testing.T) {
	for name, text := range map[string]string{
		"a tally":         `update tallies set active = active + 1 where target > ''`,
		"a lease":         `update leases set role = 'another' where live = 1 and seq = 20`,
		"a leaf":          `update ledger_leaves set leaf = 'x' where position = 3`,
		"a leaf is gone":  `delete from ledger_leaves where position = 3`,
		"a tile":          `update ledger_tiles set hashes = 'x' where n = 0 and level = 0`,
		"the sealed key":  `update sealed set ciphertext = 'x'`,
		"the signed head": `update ledger_head set checkpoint = replace(checkpoint, 'daypass', 'dayless')`,
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newFile(t), home(newDatabase(t, 15))
			furnish(t, from, 300)
			raw, err := from.SQL()
			must(t, err)
			_, err = raw.ExecContext(t.Context(), text)
			must(t, errors.Join(err, raw.Close()))
			if _, err := relocate(t.Context(), from, to, nil, nil); err == nil {
				t.Error("it moved")
			}
			if err := to.hold(t.Context(), nil, func(store.Dialect) error { return nil }); !errors.Is(err, store.ErrAbsent) {
				t.Errorf("the destination is held with %v", err)
			}
		})
	}
}
