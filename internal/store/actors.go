package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/daypass/daypass/internal/delegation"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

// A lease in which somebody acts for its principal has a row for each who does, from the transaction that records it to
// the one that records its death. Of a lease without actors nothing is written or asked here.

// acts is in the claims of every lease in which somebody acts, and in few others.
var acts = []byte(`"act":`)

// Actors returns who acts for the lease's principal, the one that does so now first. Texts are as the store keeps them.
func (l *Lease) Actors() []delegation.Actor {
	if !bytes.Contains(l.Claims, acts) {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(l.Claims, &claims) != nil {
		return nil // it was verified, so it can be read; what cannot names nobody
	}
	chain := delegation.Chain(claims, l.IssuerURL)
	for i, actor := range chain {
		kept := plain([]any{actor.IssuerURL, actor.Subject})
		chain[i] = delegation.Actor{IssuerURL: kept[0].(string), Subject: kept[1].(string)}
	}
	return chain
}

// actedBy returns the first actor of the lease whom the filter names, and false where it names none.
func (l *Lease) actedBy(f Filter) (delegation.Actor, bool) {
	if f.IssuerURL == "" {
		return delegation.Actor{}, false
	}
	for _, actor := range l.Actors() {
		if actor.IssuerURL == f.IssuerURL && (f.Subject == "" || f.Subject == actor.Subject) {
			return actor, true
		}
	}
	return delegation.Actor{}, false
}

// concerns reports whether the filter selects a lease by its principal, or by one who acts for it.
func (f Filter) concerns(l *Lease) bool {
	if f.selects(l) {
		return true
	}
	_, found := l.actedBy(f)
	f.IssuerURL, f.Subject = "", ""
	return found && f.selects(l)
}

func (tx *Tx) putActors(l *Lease) error {
	for _, actor := range l.Actors() {
		err := tx.put(`insert into lease_actors (issuer_url, subject, lease) values ($1, $2, $3)
			on conflict (issuer_url, subject, lease) do nothing`, actor.IssuerURL, actor.Subject, string(l.ID))
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) dropActors(l *Lease) error {
	for _, actor := range l.Actors() {
		err := tx.put(`delete from lease_actors where issuer_url = $1 and subject = $2 and lease = $3`,
			actor.IssuerURL, actor.Subject, string(l.ID))
		if err != nil {
			return err
		}
	}
	return nil
}

// The parts of a walk over the leases in which a principal acts: what its cursor begins with.
const (
	listedLeases   = "l" // those that the table has
	unlistedLeases = "u" // those of before the table
)

// Acting returns a page of the live leases in which a principal that the filter names acts for another, and the cursor
// of the next page, "" after the last. Those that it holds itself are not among them: see [Tx.Leases]. Like there, a page
// may hold fewer leases than limit and still have a next one.
func (tx *Tx) Acting(f Filter, cursor string, limit int) (page []Lease, next string, err error) {
	const op = "list the leases that a principal acts in"
	switch part, at := cursor[:min(1, len(cursor))], cursor[min(1, len(cursor)):]; {
	case f.IssuerURL == "":
		return nil, "", nil
	case f.Lease != "":
		return tx.onlyActing(f)
	case part == "" || part == listedLeases:
		page, next, err = tx.listed(f, at, limit)
		if next != "" {
			return page, listedLeases + next, err
		}
		some, someErr := tx.unlisted()
		if err == nil && someErr == nil && some {
			next = unlistedLeases
		}
		if err == nil {
			err = someErr
		}
		return page, next, err
	case part == unlistedLeases:
		if page, next, err = tx.unlistedPage(f, at, limit); next != "" {
			next = unlistedLeases + next
		}
		return page, next, err
	}
	return nil, "", fault.New(fault.Invalid, op, fmt.Sprintf("%.40q is not a cursor of this list", cursor))
}

func (tx *Tx) onlyActing(f Filter) ([]Lease, string, error) {
	l, err := tx.Lease(f.Lease)
	if fault.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	f.Live = true
	if err != nil || f.selects(&l) || !f.concerns(&l) {
		return nil, "", err
	}
	return []Lease{l}, "", nil
}

// actorRow is a row of the table.
type actorRow struct {
	subject string
	lease   lease.ID
}

// listed is a page of the leases that the table has.
func (tx *Tx) listed(f Filter, cursor string, limit int) (page []Lease, next string, err error) {
	const op = "list the leases that a principal acts in"
	after, subject, _ := strings.Cut(cursor, ".")
	text, args := `select subject, lease from lease_actors where issuer_url = $1 and subject = $2 and lease > $3
		order by lease limit $4`, []any{f.IssuerURL, f.Subject, after, limit}
	if f.Subject == "" {
		text, args = `select subject, lease from lease_actors where issuer_url = $1 and (subject, lease) > ($2, $3)
			order by subject, lease limit $4`, []any{f.IssuerURL, subject, after, limit}
	}
	var found []actorRow
	err = tx.each(text, args, func(rows *sql.Rows) error {
		var r actorRow
		err := rows.Scan(&r.subject, &r.lease)
		found = append(found, r)
		return err
	})
	if err != nil {
		return nil, "", failed(op, err)
	}
	leases, err := tx.leasesByID(op, found)
	if err != nil {
		return nil, "", err
	}
	f.Live = true
	for _, r := range found {
		l, there := leases[r.lease]
		first, _ := l.actedBy(f)
		if there && first.Subject == r.subject && !f.selects(&l) && f.concerns(&l) { // once, by the first who is named
			page = append(page, l)
		}
	}
	if len(found) == limit && limit > 0 {
		last := found[limit-1]
		next = string(last.lease) + "." + last.subject
	}
	return page, next, nil
}

// leaseBatch is how many leases one statement reads: always as many, so that there is one statement.
const leaseBatch = 50

var leasesByIDText = `select ` + leaseColumns + ` from leases where id in ` + tuples(1, leaseBatch)

// leasesByID reads the leases that rows name.
func (tx *Tx) leasesByID(op string, found []actorRow) (map[lease.ID]Lease, error) {
	leases := make(map[lease.ID]Lease, len(found))
	for some := range slices.Chunk(found, leaseBatch) {
		args := make([]any, leaseBatch)
		for i := range args {
			args[i] = "" // no lease has this ID
			if i < len(some) {
				args[i] = string(some[i].lease)
			}
		}
		batch, err := tx.leases(op, leasesByIDText, args...)
		if err != nil {
			return nil, err
		}
		for _, l := range batch {
			leases[l.ID] = l
		}
	}
	return leases, nil
}

// metaUnlisted stands while there may be leases in which somebody acts and that the table does not have: those of builds
// that did not know it. A migration sets it.
const metaUnlisted = "unlisted_actors"

// unlisted reports whether there may be leases that the table should have and has not.
func (tx *Tx) unlisted() (bool, error) {
	mark, err := tx.meta(metaUnlisted)
	if err != nil || mark != "" {
		return mark != "", err
	}
	return tx.olderServe()
}

// olderServe reports whether a server of a build that does not know the table is on the list of those that live.
func (tx *Tx) olderServe() (bool, error) {
	if tx.store.dialect.Sole() {
		return false, nil
	}
	var older int
	err := tx.one(`select count(*) from replicas where lists_actors = 0`, nil, &older)
	return older > 0, failed("look for older servers of the store", err)
}

// unlistedPage is a page of the leases that the table should have and has not, found among all that live.
func (tx *Tx) unlistedPage(f Filter, cursor string, limit int) (page []Lease, next string, err error) {
	among := Filter{Role: f.Role, Target: f.Target, Live: true, acted: true}
	found, next, err := tx.Leases(among, cursor, limit)
	if err != nil {
		return nil, "", err
	}
	f.Live = true
	for _, l := range found {
		if f.selects(&l) || !f.concerns(&l) {
			continue
		}
		actor, _ := l.actedBy(f)
		has, err := tx.lists(actor, l.ID)
		if err != nil {
			return nil, "", err
		}
		if !has {
			page = append(page, l)
		}
	}
	return page, next, nil
}

// lists reports whether the table has an actor of a lease.
func (tx *Tx) lists(actor delegation.Actor, id lease.ID) (bool, error) {
	var n int
	err := tx.one(`select count(*) from lease_actors where issuer_url = $1 and subject = $2 and lease = $3`,
		[]any{actor.IssuerURL, actor.Subject, string(id)}, &n)
	return n > 0, failed("look up who acts in lease "+string(id), err)
}

// tidyActors deletes what servers that do not know the table left in it, and says that it is complete once it is: when no
// such server is there, and no lease of theirs lives.
func (s *Store) tidyActors(ctx context.Context) error {
	for from, more := []string(nil), true; more; more = from != nil {
		err := s.Update(ctx, func(tx *Tx) (err error) {
			from, err = tx.pruneNotes("lease_actors", "issuer_url", "subject", from, prunePage)
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.completeActors(ctx)
}

// completeActors takes the mark away when nothing is left that it stands for.
func (s *Store) completeActors(ctx context.Context) error {
	done := false
	for cursor, more := "", true; more; more = done && cursor != "" {
		err := s.View(ctx, func(tx *Tx) (err error) {
			done = false
			mark, err := tx.meta(metaUnlisted)
			if err != nil || mark == "" {
				return err
			}
			if older, err := tx.olderServe(); err != nil || older {
				return err
			}
			done, cursor, err = tx.allListed(cursor)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !done {
		return nil
	}
	return s.Update(ctx, func(tx *Tx) error {
		if older, err := tx.olderServe(); err != nil || older {
			return err
		}
		_, err := tx.write(`delete from meta where name = $1`, metaUnlisted)
		return failed("say that the table of actors is complete", err)
	})
}

// allListed reports whether the table has the actors of a page of the leases that live, and where the next page starts.
func (tx *Tx) allListed(cursor string) (all bool, next string, err error) {
	page, next, err := tx.Leases(Filter{Live: true, acted: true}, cursor, prunePage)
	for _, l := range page {
		for _, actor := range l.Actors() {
			if has, err := tx.lists(actor, l.ID); err != nil || !has {
				return false, "", err
			}
		}
	}
	return err == nil, next, err
}
