package store

import (
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
)

// Revision is an immutable access configuration.
type Revision struct {
	ID          string // content hash
	CreatedAt   time.Time
	CreatedBy   string
	Files       []byte    // JSON: path to text; empty in lists
	ActivatedAt time.Time // when it was last activated; zero: never
	ActivatedBy string

	seq int64
}

// PutRevision keeps a revision. One that is there already stays as it is: the same ID is the same content.
func (tx *Tx) PutRevision(r Revision) error {
	_, err := tx.write(`insert into revisions (id, created_at, created_by, files, activated_at, activated_by)
		values ($1, $2, $3, $4, 0, '') on conflict (id) do nothing`, r.ID, micros(r.CreatedAt), r.CreatedBy, blob(r.Files))
	return failed("keep revision "+r.ID, err)
}

const revisionColumns = `seq, id, created_at, created_by, activated_at, activated_by`

func scanRevision(scan func(...any) error, more ...any) (r Revision, err error) {
	var created, activated int64
	err = scan(append([]any{&r.seq, &r.ID, &created, &r.CreatedBy, &activated, &r.ActivatedBy}, more...)...)
	r.CreatedAt, r.ActivatedAt = instant(created), instant(activated)
	return r, err
}

// Revision returns one revision with its files.
func (tx *Tx) Revision(id string) (r Revision, err error) {
	var files []byte
	err = tx.oneRow(`select `+revisionColumns+`, files from revisions where id = $1`, []any{id},
		func(scan func(...any) error) (err error) {
			r, err = scanRevision(scan, &files)
			return err
		})
	if errors.Is(err, sql.ErrNoRows) {
		return Revision{}, missing("read revision "+id, "revision")
	}
	r.Files = files
	return r, failed("read revision "+id, err)
}

// Revisions returns a page of all revisions without their files, newest first, and the cursor of the next page.
func (tx *Tx) Revisions(cursor string, limit int) (page []Revision, next string, err error) {
	const op = "list revisions"
	before, err := parseSeq(cursor)
	if err != nil {
		return nil, "", fault.Wrap(fault.Invalid, op, err.Error(), err)
	}
	err = tx.each(`select `+revisionColumns+` from revisions where seq < $1 order by seq desc limit $2`,
		[]any{before, limit}, func(rows *sql.Rows) error {
			r, err := scanRevision(rows.Scan)
			page = append(page, r)
			return err
		})
	if err != nil || len(page) < limit || limit == 0 {
		return page, "", failed(op, err)
	}
	return page, strconv.FormatInt(page[limit-1].seq, 36), nil
}

// Activate makes a revision the one that decides, with its entry access.activated.
func (tx *Tx) Activate(id string, at time.Time, by string) (leaf []byte, err error) {
	op := "activate revision " + id
	changed, err := tx.write(`update revisions set activated_at = $2, activated_by = $3 where id = $1`, id, micros(at), by)
	if err != nil {
		return nil, failed(op, err)
	}
	if changed != 1 {
		return nil, missing(op, "revision")
	}
	if err := tx.setMeta(metaRevision, id); err != nil {
		return nil, err
	}
	tx.group.seen.active = nil
	return tx.Append(ledger.Entry{Event: ledger.AccessActivated, Time: at, Revision: id})
}

// ActiveID returns the ID of the active revision, "" where none is. It is read once for a whole group of updates.
func (tx *Tx) ActiveID() (string, error) {
	if tx.group != nil && tx.group.seen.active != nil {
		return *tx.group.seen.active, nil
	}
	id, err := tx.meta(metaRevision)
	if err != nil {
		return "", err
	}
	if tx.group != nil {
		tx.group.seen.active = &id
	}
	return id, nil
}

// ActiveRevision returns the active revision with its files; not found where none is.
func (tx *Tx) ActiveRevision() (Revision, error) {
	id, err := tx.ActiveID()
	if err != nil {
		return Revision{}, err
	}
	if id == "" {
		return Revision{}, missing("read the active revision", "active revision")
	}
	return tx.Revision(id)
}

// WasActive reports whether a revision is or ever was active.
func (tx *Tx) WasActive(id string) (bool, error) {
	var activated int64
	err := tx.one(`select activated_at from revisions where id = $1`, []any{id}, &activated)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return activated > 0, failed("read revision "+id, err)
}
