package storetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/delegation"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// The issuer of these tests' actors.
const actorsURL = "https://agents.example"

// Acted returns a lease in which actors act, the first of them now.
func Acted(l store.Lease, actors ...delegation.Actor) store.Lease {
	claims := map[string]any{"repository": "acme/orders"}
	var act map[string]any
	for _, actor := range slices.Backward(actors) {
		one := map[string]any{"sub": actor.Subject}
		if actor.IssuerURL != "" {
			one["iss"] = actor.IssuerURL
		}
		if act != nil {
			one["act"] = act
		}
		act = one
	}
	claims["act"] = act
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err) // maps of texts cannot fail
	}
	l.Claims = text
	return l
}

// actor is one of these tests' actors.
func actor(subject string) delegation.Actor {
	return delegation.Actor{IssuerURL: actorsURL, Subject: subject}
}

// party is a lease with what its parties are, told by the test and not by the store.
type party struct {
	name   string
	lease  store.Lease
	actors []delegation.Actor // without the lease's own principal
}

func parties() []party {
	own := delegation.Actor{Subject: "gateway"} // of the principal's issuer: the claim names none
	foreign := NewLease("reader", "db")
	foreign.IssuerURL, foreign.Subject, foreign.Issuer = actorsURL, "gateway", "agents"
	all := []party{
		{name: "nobody acts", lease: NewLease("reader", "db")},
		{name: "one acts", lease: NewLease("reader", "db"), actors: []delegation.Actor{actor("gateway")}},
		{name: "one acts for another role", lease: NewLease("writer", "db"), actors: []delegation.Actor{actor("gateway")}},
		{name: "one acts at another target", lease: NewLease("reader", "other"), actors: []delegation.Actor{actor("gateway")}},
		{name: "another acts", lease: NewLease("reader", "db"), actors: []delegation.Actor{actor("other")}},
		{name: "the last of a chain", lease: NewLease("reader", "db"), actors: []delegation.Actor{actor("a"), actor("b"), actor("c"), actor("gateway")}},
		{name: "one acts twice", lease: NewLease("reader", "db"), actors: []delegation.Actor{actor("gateway"), actor("b"), actor("gateway")}},
		{name: "the same name of another issuer", lease: NewLease("reader", "db"), actors: []delegation.Actor{{IssuerURL: "https://elsewhere.example", Subject: "gateway"}}},
		{name: "one of the principal's own issuer", lease: NewLease("reader", "db"), actors: []delegation.Actor{own}},
		{name: "the principal itself", lease: foreign, actors: []delegation.Actor{actor("gateway"), actor("b")}},
		{name: "a claim that only looks like it", lease: NewLease("reader", "db")},
	}
	for i, p := range all {
		if len(p.actors) > 0 {
			all[i].lease = Acted(p.lease, p.actors...)
		}
		for j, a := range p.actors {
			if a.IssuerURL == "" {
				all[i].actors = slices.Clone(p.actors)
				all[i].actors[j].IssuerURL = p.lease.IssuerURL
			}
		}
	}
	all[len(all)-1].lease.Claims = []byte(`{"Act":{"iss":"` + actorsURL + `","sub":"gateway"},"note":"\"act\":","fact":{"act":{"sub":"gateway"}}}`)
	return all
}

// wants is the rule, in other words than the store's: whether a filter with a principal means a lease by who acts in it.
func (p party) wants(f store.Filter) (acting, held bool) {
	is := func(want, have string) bool { return want == "" || want == have }
	if !is(f.Role, p.lease.Role) || !is(f.Target, p.lease.Target) || !is(string(f.Lease), string(p.lease.ID)) {
		return false, false
	}
	if held = f.IssuerURL == p.lease.IssuerURL && is(f.Subject, p.lease.Subject); held {
		return false, true
	}
	return slices.ContainsFunc(p.actors, func(a delegation.Actor) bool {
		return f.IssuerURL == a.IssuerURL && is(f.Subject, a.Subject)
	}), false
}

func filters(all []party) []store.Filter {
	github := all[0].lease.IssuerURL
	return []store.Filter{
		{IssuerURL: actorsURL, Subject: "gateway"}, {IssuerURL: actorsURL}, {IssuerURL: actorsURL, Subject: "b"},
		{IssuerURL: actorsURL, Subject: "nobody"}, {IssuerURL: "https://elsewhere.example"}, {IssuerURL: github}, {IssuerURL: github, Subject: "gateway"},
		{IssuerURL: actorsURL, Subject: "gateway", Role: "writer"}, {IssuerURL: actorsURL, Subject: "gateway", Target: "other"},
		{IssuerURL: actorsURL, Role: "reader", Target: "db"}, {IssuerURL: actorsURL, Lease: all[5].lease.ID},
		{IssuerURL: actorsURL, Subject: "gateway", Lease: all[4].lease.ID}, {IssuerURL: actorsURL, Lease: all[9].lease.ID},
		{IssuerURL: all[3].lease.IssuerURL, Subject: all[3].lease.Subject},
	}
}

func testActors(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	all := parties()
	for i, p := range all {
		all[i].lease = Insert(t, s.Store, p.lease)[0]
		got := all[i].lease.Actors()
		if !slices.Equal(got, p.actors) {
			t.Errorf("%s: %v act", p.name, got)
		}
	}
	checkActing(t, s.Store, all)
	// What a lock means before a lease lives is what it means after.
	for _, f := range filters(all) {
		k := store.Lock{ID: "k", IssuerURL: f.IssuerURL, Subject: f.Subject, Role: f.Role, Target: f.Target, Lease: f.Lease}
		for _, p := range all {
			acting, held := p.wants(f)
			if k.Matches(&p.lease) != (acting || held) {
				t.Errorf("%s: a lock of %+v matches: %v", p.name, f, !acting && !held)
			}
		}
	}
	audit(t, db, s.Store)
	// Whatever their state, until their death is proved; then they are gone, and nothing is left of them.
	for i, p := range all {
		events := lease.Events()[:i%4]
		if i%4 == 2 {
			events = []lease.Event{lease.Ended}
		}
		all[i].lease = Move(t, s.Store, p.lease, Start(), events...)
	}
	check(t, s.Stop())
	s = Serve(t, db, nil)
	checkActing(t, s.Store, all)
	audit(t, db, s.Store)
	for _, p := range all {
		if l := p.lease; l.State == lease.Active {
			check(t, s.Update(t.Context(), func(tx *store.Tx) error {
				_, err := tx.MoveAll(&l, store.Why{Reason: lease.Locked, Now: Start()}, lease.Ended, lease.Proved)
				return err
			}))
		} else if l.State != lease.Revoked {
			for l.State != lease.Revoked {
				e := lease.Ended
				if l.State == lease.Revoking {
					e = lease.Proved
				}
				l = Move(t, s.Store, l, Start(), e)
			}
		}
	}
	audit(t, db, s.Store)
	if n := len(actorRows(t, db)); n != 0 {
		t.Errorf("the dead have left %d rows", n)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		_, _, err := tx.Acting(store.Filter{IssuerURL: actorsURL}, "nonsense", 10)
		wantKind(t, err, fault.Invalid)
		page, next, err := tx.Acting(store.Filter{Role: "reader"}, "", 10)
		if len(page) != 0 || next != "" {
			t.Errorf("a filter without a principal has actors: %v", page)
		}
		return err
	})
}

// checkActing compares what the store lists and counts with what it should.
func checkActing(t testing.TB, s *store.Store, all []party) {
	t.Helper()
	for _, f := range filters(all) {
		want, count := map[lease.ID]bool{}, 0
		for _, p := range all {
			acting, held := p.wants(f)
			if acting && p.lease.State.MayLive() {
				want[p.lease.ID] = true
			}
			if (acting || held) && (p.lease.State == lease.Pending || p.lease.State == lease.Active) {
				count++
			}
		}
		for _, limit := range []int{1, 2, 100} {
			if err := walkActing(t, s, f, limit, want); err != nil {
				t.Errorf("%+v, %d a page: %v", f, limit, err)
			}
		}
		View(t, s, func(tx *store.Tx) error {
			n, err := tx.CountLive(f)
			if n != count {
				t.Errorf("%+v: a lock would end %d, want %d", f, n, count)
			}
			return err
		})
	}
}

func walkActing(t testing.TB, s *store.Store, f store.Filter, limit int, want map[lease.ID]bool) error {
	seen := map[lease.ID]bool{}
	for cursor, first := "", true; first || cursor != ""; first = false {
		var page []store.Lease
		View(t, s, func(tx *store.Tx) (err error) {
			page, cursor, err = tx.Acting(f, cursor, limit)
			return err
		})
		if len(page) > limit {
			return fmt.Errorf("a page of %d", len(page))
		}
		for _, l := range page {
			if seen[l.ID] || !want[l.ID] {
				return fmt.Errorf("lease %s came twice, or is not wanted", l.ID)
			}
			seen[l.ID] = true
		}
	}
	if len(seen) != len(want) {
		return fmt.Errorf("saw %d leases of %d", len(seen), len(want))
	}
	return nil
}

// testUnacted holds that a lease without actors costs nothing of all this, also under locks.
func testUnacted(t *testing.T, db Database) {
	faults := &Faults{}
	s := Serve(t, db, faults.Wrap)
	check(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutLock(store.Lock{ID: "k", IssuerURL: actorsURL, Subject: "gateway", Reason: "leaked", CreatedAt: Start()})
		return err
	}))
	statements := func(l store.Lease) (all, about int) {
		faults.Watch(func(text string, _ []driver.NamedValue) {
			all++
			if strings.Contains(text, "lease_actors") {
				about++
			}
		})
		defer faults.Watch(nil)
		check(t, s.Update(t.Context(), story(l)))
		l, err := read(s.Store, l.ID)
		check(t, err)
		Move(t, s.Store, l, Start(), lease.Ended, lease.Proved)
		return all, about
	}
	statements(NewLease("reader", "db")) // what is prepared once
	before, about := statements(NewLease("reader", "db"))
	if about != 0 {
		t.Errorf("%d statements are about the actors of a lease that has none", about)
	}
	with, about := statements(Acted(NewLease("reader", "db"), actor("a"), actor("b")))
	if about != 4 || with != before+4 {
		t.Errorf("%d statements are about two actors, and there are %d for %d", about, with, before)
	}
	audit(t, db, s.Store)
}

func read(s *store.Store, id lease.ID) (l store.Lease, err error) {
	err = s.View(context.Background(), func(tx *store.Tx) (err error) {
		l, err = tx.Lease(id)
		return err
	})
	return l, err
}

// testActorFaults crosses every statement of such a lease's beginning and end with what can befall it: the rows are there
// if and only if the lease lives.
func testActorFaults(t *testing.T, db Database) {
	faults := &Faults{}
	for at, hit := 0, true; hit; at++ {
		for _, fate := range []Fault{NotDone, DoneLost} {
			s := Serve(t, db, faults.Wrap)
			old := Insert(t, s.Store, Acted(NewLease("reader", "db"), actor("old")))[0]
			fresh := Acted(NewLease("reader", "db"), actor("a"), actor("b"))
			count := 0
			hit = false
			faults.Decide(func(string) Fault {
				if count++; count-1 == at {
					hit = true
					return fate
				}
				return None
			})
			_ = s.Update(t.Context(), func(tx *store.Tx) error { // the audit tells what became of it
				moved := old
				if _, err := tx.MoveAll(&moved, store.Why{Reason: lease.Expired, Now: Start()}, lease.Ended, lease.Proved); err != nil {
					return err
				}
				return story(fresh)(tx)
			})
			faults.Decide(nil)
			_ = s.Stop() // a fault may have stopped it
			s = Serve(t, db, nil)
			audit(t, db, s.Store)
			check(t, s.Stop())
		}
	}
	// One member's failure takes its own rows along, and nobody else's.
	s := Serve(t, db, nil)
	good, bad := Acted(NewLease("reader", "db"), actor("good")), Acted(NewLease("reader", "db"), actor("bad"))
	boom := errors.New("boom")
	errs := together(t, s.Store,
		func(tx *store.Tx) error { _, err := tx.InsertLease(new(good)); return err },
		func(tx *store.Tx) error { _, err := tx.InsertLease(new(bad)); return errors.Join(err, boom) })
	if errs[0] != nil || !errors.Is(errs[1], boom) {
		t.Errorf("got %v", errs)
	}
	audit(t, db, s.Store)
}

// testUnlistedActors is a store in which a build that does not know the table made leases, and goes on doing so.
func testUnlistedActors(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	all := parties()
	for i, p := range all {
		all[i].lease = Insert(t, s.Store, p.lease)[0]
	}
	check(t, s.Stop())
	raw, err := db.SQL()
	check(t, err)
	defer raw.Close()
	do := func(text string) {
		t.Helper()
		_, err := raw.ExecContext(t.Context(), text)
		check(t, err)
	}
	mark := func() (n int) {
		check(t, raw.QueryRowContext(t.Context(), `select count(*) from meta where name = 'unlisted_actors'`).Scan(&n))
		return n
	}
	tidy := func() {
		t.Helper()
		_, err := s.Retain(t.Context(), time.Time{}, time.Time{})
		check(t, err)
	}
	// The migration finds every second of them made already.
	do(`drop table lease_actors`)
	do(`delete from meta where name = 'unlisted_actors'`)
	do(`alter table replicas drop column lists_actors`)
	do(`delete from goose_db_version where version_id = 9`)
	s = Serve(t, db, nil)
	if mark() != 1 || len(actorRows(t, db)) != 0 {
		t.Fatal("the migration has not said that the table is not complete")
	}
	more := parties()
	for i, p := range more {
		more[i].lease = Insert(t, s.Store, p.lease)[0]
	}
	both := append(all, more...)
	checkActing(t, s.Store, both)
	// While one of them lives the mark stays, whoever starts anew; rows without a lease go.
	do(`insert into lease_actors (issuer_url, subject, lease) values ('` + actorsURL + `', 'gateway', 'nobody')`)
	tidy()
	if mark() != 1 || slices.Contains(actorRows(t, db), actorsURL+" gateway nobody") {
		t.Error("the mark went too early, or a row without a lease stayed")
	}
	for i, p := range all {
		all[i].lease = Move(t, s.Store, p.lease, Start(), lease.Ended, lease.Proved)
	}
	checkActing(t, s.Store, more)
	if s.Shared() { // another server, of such a build, serves too
		do(`insert into replicas (boot, name, last_group, seen_at) values (4711, 'older', 1, 0)`)
		tidy()
		if mark() != 1 {
			t.Error("the mark went although an older server serves")
		}
		do(`delete from replicas where boot = 4711`)
	}
	tidy()
	if mark() != 0 {
		t.Error("the mark stays although the table is complete")
	}
	checkActing(t, s.Store, more)
	audit(t, db, s.Store)
	check(t, s.Stop())
	s = Serve(t, db, nil)
	if mark() != 0 {
		t.Error("a start brings the mark back")
	}
}

// auditActors checks that the table has the actors of the leases that live, and nothing else.
func auditActors(ctx context.Context, db *sql.DB, leases map[lease.ID]store.Lease) error {
	want := map[string]bool{}
	for _, l := range leases {
		for _, a := range l.Actors() {
			if l.State.MayLive() {
				want[a.IssuerURL+" "+a.Subject+" "+string(l.ID)] = true
			}
		}
	}
	have, err := queryActors(ctx, db)
	if err != nil {
		return err
	}
	for _, row := range have {
		if !want[row] {
			return fmt.Errorf("the table of actors has %q, which no lease has", row)
		}
		delete(want, row)
	}
	for row := range want {
		return fmt.Errorf("the table of actors lacks %q", row)
	}
	return nil
}

func actorRows(t testing.TB, db Database) []string {
	t.Helper()
	raw, err := db.SQL()
	check(t, err)
	defer raw.Close()
	rows, err := queryActors(t.Context(), raw)
	check(t, err)
	return rows
}

func queryActors(ctx context.Context, db *sql.DB) (all []string, err error) {
	rows, err := db.QueryContext(ctx, `select issuer_url, subject, lease from lease_actors`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var url, subject, id string
		if err := rows.Scan(&url, &subject, &id); err != nil {
			return nil, err
		}
		all = append(all, url+" "+subject+" "+id)
	}
	return all, rows.Err()
}
