package store

import (
	"database/sql"
	"strconv"
	"time"
)

// Replica is a process that has the store open.
type Replica struct {
	Boot   int64
	Name   string
	SeenAt time.Time // when it last showed life, by the database's clock
	Keeps  []string  // what it works for, by [Tx.Keep]
}

// Shared reports whether other processes may have the store open too.
func (s *Store) Shared() bool { return !s.dialect.Sole() }

// Replicas returns the processes that live, oldest first; none where a store has one owner.
func (tx *Tx) Replicas() (all []Replica, err error) {
	err = tx.each(`select boot, name, seen_at from replicas where seen_at > `+tx.deadline()+` order by boot`, nil,
		func(rows *sql.Rows) error {
			var r Replica
			var seen int64
			err := rows.Scan(&r.Boot, &r.Name, &seen)
			r.SeenAt = instant(seen)
			all = append(all, r)
			return err
		})
	if err != nil {
		return nil, failed("list the servers of the store", err)
	}
	for i := range all {
		err := tx.each(`select name from keepers where boot = $1 and until > `+tx.store.dialect.Clock()+` order by name`, []any{all[i].Boot},
			func(rows *sql.Rows) error {
				var name string
				err := rows.Scan(&name)
				all[i].Keeps = append(all[i].Keeps, name)
				return err
			})
		if err != nil {
			return nil, failed("list what the servers of the store work for", err)
		}
	}
	return all, nil
}

// Keep claims work that one process at a time should do, for a while from now by the database's clock, and reports
// whether it is ours. Whoever has it keeps it by claiming again in time. It keeps work from being done twice; what
// must never be done twice needs more than this.
func (tx *Tx) Keep(name string, during time.Duration) (ours bool, err error) {
	if tx.store.dialect.Sole() {
		return true, nil
	}
	now := tx.store.dialect.Clock()
	changed, err := tx.write(`insert into keepers (name, boot, until) values ($1, $2, `+now+` + $3)
		on conflict (name) do update set boot = excluded.boot, until = excluded.until
		where keepers.boot = excluded.boot or keepers.until < `+now, name, tx.store.Boot(), during.Microseconds())
	return changed == 1, failed("claim the work for "+strconv.Quote(name), err)
}

// NewestBoot is the boot that was made last, by whichever process.
func (tx *Tx) NewestBoot() (int64, error) {
	text, err := tx.meta(metaBoot)
	if err != nil {
		return 0, err
	}
	boot, err := strconv.ParseInt(text, 10, 64)
	return boot, failed("read the newest boot", err)
}
