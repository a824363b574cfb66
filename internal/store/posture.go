package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

// PostureRecord is what a source last said of something.
type PostureRecord struct {
	Source     string
	ID         string
	Fields     []byte // JSON; empty: the record was taken back
	ReportedAt time.Time
	ReportedBy string
	Turn       int64 // which change of its source made it what it is; [Tx.PutPosture] counts it
}

const postureColumns = `source, id, fields, reported_at, reported_by, turn`

func scanPosture(scan func(...any) error, more ...any) (r PostureRecord, err error) {
	var at int64
	err = scan(append([]any{&r.Source, &r.ID, &r.Fields, &at, &r.ReportedBy, &r.Turn}, more...)...)
	r.ReportedAt = instant(at)
	return r, err
}

// Posture returns the record of a source, and false where there is none.
func (tx *Tx) Posture(source, id string) (PostureRecord, bool, error) {
	r, _, found, err := tx.readPosture(source, id)
	return r, found && len(r.Fields) > 0, err
}

// readPosture also returns records that were taken back.
func (tx *Tx) readPosture(source, id string) (r PostureRecord, fresh, found bool, err error) {
	var mark int64
	// What writes records is never queued.
	err = tx.oneRowAside(`select `+postureColumns+`, fresh from posture where source = $1 and id = $2`, []any{source, id},
		func(scan func(...any) error) (err error) {
			r, err = scanPosture(scan, &mark)
			return err
		})
	if errors.Is(err, sql.ErrNoRows) {
		return PostureRecord{}, false, false, nil
	}
	return r, mark == 1, err == nil, failed("read posture "+source, err)
}

// PutPosture keeps a record, of at most so many of its source. One that was reported before what is known changes
// nothing. It returns the record as it now stands.
func (tx *Tx) PutPosture(r PostureRecord, most int) (PostureRecord, error) {
	op := "keep posture " + r.Source
	before, fresh, known, err := tx.readPosture(r.Source, r.ID)
	if err != nil {
		return r, err
	}
	there := known && len(before.Fields) > 0
	if there && r.ReportedAt.Before(before.ReportedAt) {
		return before, nil
	}
	if there && fresh && bytes.Equal(before.Fields, r.Fields) { // as it was: nobody has to look at leases
		r.Turn = before.Turn
		_, err := tx.write(`update posture set reported_at = $3, reported_by = $4 where source = $1 and id = $2`,
			r.Source, r.ID, micros(r.ReportedAt), r.ReportedBy)
		return r, failed(op, err)
	}
	more := 1
	if there {
		more = 0
	}
	if r.Turn, err = tx.turnPosture(r.Source, more, most); err != nil {
		return r, err
	}
	_, err = tx.write(`insert into posture (source, id, fields, reported_at, reported_by, turn, fresh) values ($1, $2, $3, $4, $5, $6, 1)
		on conflict (source, id) do update set fields = excluded.fields, reported_at = excluded.reported_at,
		reported_by = excluded.reported_by, turn = excluded.turn, fresh = 1`,
		r.Source, r.ID, blob(r.Fields), micros(r.ReportedAt), r.ReportedBy, r.Turn)
	return r, failed(op, err)
}

// turnPosture counts a change of a source and of the number of its records.
func (tx *Tx) turnPosture(source string, more, most int) (turn int64, err error) {
	op := "count the changes of posture " + source
	var records int64
	err = tx.one(`select records, turn from posture_sources where source = $1`, []any{source}, &records, &turn)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return 0, failed(op, err)
	}
	if more > 0 && records >= int64(most) {
		return 0, fault.New(fault.TooMany, "report posture", fmt.Sprintf("source %q has %d records, as many as it may; take some back", source, records))
	}
	turn++
	_, err = tx.write(`insert into posture_sources (source, records, turn, reviewed) values ($1, $2, $3, 0)
		on conflict (source) do update set records = $2, turn = $3`, source, records+int64(more), turn)
	return turn, failed(op, err)
}

// DropPosture takes a record back, and reports whether there was one.
func (tx *Tx) DropPosture(source, id string) (bool, error) {
	_, found, err := tx.Posture(source, id)
	if err != nil || !found {
		return false, err
	}
	turn, err := tx.turnPosture(source, -1, 0)
	if err != nil {
		return false, err
	}
	_, err = tx.write(`update posture set fields = $3, turn = $4, fresh = 0 where source = $1 and id = $2`, source, id, []byte{}, turn)
	return true, failed("take back posture "+source, err)
}

// AgePosture makes changes of records that were reported before a time, at most so many, and returns how many.
func (tx *Tx) AgePosture(source string, before time.Time, limit int) (int, error) {
	var aged []string
	op := "age posture " + source
	err := tx.each(`select id from posture where source = $1 and fresh = 1 and reported_at < $2 order by reported_at limit $3`,
		[]any{source, micros(before), limit}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			aged = append(aged, id)
			return err
		})
	if err != nil {
		return 0, failed(op, err)
	}
	for _, id := range aged {
		turn, err := tx.turnPosture(source, 0, 0)
		if err != nil {
			return 0, err
		}
		if _, err := tx.write(`update posture set fresh = 0, turn = $3 where source = $1 and id = $2`, source, id, turn); err != nil {
			return 0, failed(op, err)
		}
	}
	return len(aged), nil
}

// OldestPosture returns when the oldest record of a source was reported that was not found to be too old, and false
// where there is none.
func (tx *Tx) OldestPosture(source string) (time.Time, bool, error) {
	var oldest int64
	err := tx.one(`select coalesce(min(reported_at), 0) from posture where source = $1 and fresh = 1`, []any{source}, &oldest)
	return instant(oldest), oldest != 0, failed("read the oldest posture "+source, err)
}

// FreshenPosture is for a source whose records are believed for longer than before: those reported since a time grow
// old once more.
func (tx *Tx) FreshenPosture(source string, since time.Time) error {
	_, err := tx.write(`update posture set fresh = 1 where source = $1 and fresh = 0 and reported_at >= $2 and length(fields) > 0`,
		source, micros(since))
	return failed("freshen posture "+source, err)
}

// PostureTurns returns the sources that have changes whose leases were not looked at, sorted.
func (tx *Tx) PostureTurns() (sources []string, err error) {
	err = tx.each(`select source from posture_sources where turn > reviewed order by source`, nil, func(rows *sql.Rows) error {
		var source string
		err := rows.Scan(&source)
		sources = append(sources, source)
		return err
	})
	return sources, failed("read the changes of posture", err)
}

// PostureChanged returns the records of a source that have changed and whose leases were not looked at, in the order of
// their changes.
func (tx *Tx) PostureChanged(source string, limit int) ([]PostureRecord, error) {
	return tx.postures("read the changes of posture "+source, `select `+postureColumns+` from posture where source = $1
		and turn > (select reviewed from posture_sources where source = $1) order by turn limit $2`, source, limit)
}

// PostureReviewed notes that the leases of all changes up to one were looked at.
func (tx *Tx) PostureReviewed(source string, turn int64) error {
	op := "note the review of posture " + source
	if _, err := tx.write(`update posture_sources set reviewed = $2 where source = $1 and reviewed < $2`, source, turn); err != nil {
		return failed(op, err)
	}
	_, err := tx.write(`delete from posture where source = $1 and turn <= $2 and length(fields) = 0`, source, turn)
	return failed(op, err)
}

// Postures returns a page of a source's records by their IDs, and where the next page starts.
func (tx *Tx) Postures(source, after string, limit int) (page []PostureRecord, next string, err error) {
	page, err = tx.postures("list posture "+source, `select `+postureColumns+` from posture where source = $1 and id > $2
		and length(fields) > 0 order by id limit $3`, source, after, limit)
	if err != nil || len(page) < limit || limit == 0 {
		return page, "", err
	}
	return page, page[limit-1].ID, nil
}

func (tx *Tx) postures(op, text string, args ...any) (all []PostureRecord, err error) {
	err = tx.each(text, args, func(rows *sql.Rows) error {
		r, err := scanPosture(rows.Scan)
		all = append(all, r)
		return err
	})
	return all, failed(op, err)
}

// WatchPosture notes that a record speaks of a lease's principal: its changes are the lease's business.
func (tx *Tx) WatchPosture(source, id string, l lease.ID) error {
	err := tx.put(`insert into posture_leases (source, id, lease) values ($1, $2, $3) on conflict (source, id, lease) do nothing`,
		source, id, string(l))
	return failed("note what posture lease "+string(l)+" hangs on", err)
}

// WatchesPosture reports whether [Tx.WatchPosture] was told of a record and a lease.
func (tx *Tx) WatchesPosture(source, id string, l lease.ID) (bool, error) {
	var n int64
	err := tx.one(`select count(*) from posture_leases where source = $1 and id = $2 and lease = $3`, []any{source, id, string(l)}, &n)
	return n > 0, failed("read what posture lease "+string(l)+" hangs on", err)
}

// PostureLeases returns a page of the leases that a record speaks of and that may still be ended, and where the next
// page starts.
func (tx *Tx) PostureLeases(source, id, after string, limit int) (page []Lease, next string, err error) {
	op := "read the leases of posture " + source
	var ids []string
	err = tx.each(`select lease from posture_leases where source = $1 and id = $2 and lease > $3 order by lease limit $4`,
		[]any{source, id, after, limit}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	if err != nil {
		return nil, "", failed(op, err)
	}
	for _, id := range ids {
		l, err := tx.Lease(lease.ID(id))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, "", err
		}
		if err == nil && (l.State == lease.Pending || l.State == lease.Active) {
			page = append(page, l)
		}
	}
	if len(ids) == limit && limit > 0 {
		next = ids[limit-1]
	}
	return page, next, nil
}

// PrunePosture deletes the notes of leases that live no more, of one page of notes behind a place, and returns the place
// of the next page, nil at the end.
func (tx *Tx) PrunePosture(from []string, limit int) (next []string, err error) {
	return tx.pruneNotes("posture_leases", "source", "id", from, limit)
}

// pruneNotes deletes the rows of leases that live no more from a table whose key is two columns and a lease.
func (tx *Tx) pruneNotes(table, first, second string, from []string, limit int) (next []string, err error) {
	op := "delete notes in " + table
	if from == nil {
		from = []string{"", "", ""}
	}
	var seen, gone [][3]string
	err = tx.each(fmt.Sprintf(`select p.%[2]s, p.%[3]s, p.lease, coalesce((select l.live from leases l where l.id = p.lease), 0) from %[1]s p
		where (p.%[2]s, p.%[3]s, p.lease) > ($1, $2, $3) order by p.%[2]s, p.%[3]s, p.lease limit $4`, table, first, second),
		[]any{from[0], from[1], from[2], limit}, func(rows *sql.Rows) error {
			var key [3]string
			var live int64
			err := rows.Scan(&key[0], &key[1], &key[2], &live)
			seen = append(seen, key)
			if live == 0 {
				gone = append(gone, key)
			}
			return err
		})
	if err != nil {
		return nil, failed(op, err)
	}
	for _, key := range gone {
		if _, err := tx.write(fmt.Sprintf(`delete from %s where %s = $1 and %s = $2 and lease = $3`, table, first, second), key[0], key[1], key[2]); err != nil {
			return nil, failed(op, err)
		}
	}
	if len(seen) < limit {
		return nil, nil
	}
	last := seen[len(seen)-1]
	return last[:], nil
}

// ForgetPosture deletes records that were reported before a time, at most so many, and returns how many. What they said
// was too old for long, so that no lease hangs on them.
func (tx *Tx) ForgetPosture(before time.Time, limit int) (int, error) {
	old, err := tx.postures("find old posture", `select `+postureColumns+` from posture where reported_at < $1 limit $2`, micros(before), limit)
	if err != nil {
		return 0, err
	}
	for _, r := range old {
		op := "forget posture " + r.Source
		if _, err := tx.write(`delete from posture where source = $1 and id = $2`, r.Source, r.ID); err != nil {
			return 0, failed(op, err)
		}
		if len(r.Fields) == 0 { // it was taken back, and is not counted any more
			continue
		}
		if _, err := tx.write(`update posture_sources set records = records - 1 where source = $1`, r.Source); err != nil {
			return 0, failed(op, err)
		}
	}
	return len(old), nil
}
