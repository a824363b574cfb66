package store

import (
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/ledger"
)

// NextExpiry returns when the next active lease expires, which may have passed already; false where none is active.
func (tx *Tx) NextExpiry() (time.Time, bool, error) {
	var earliest int64
	err := tx.one(`select coalesce(min(at), 0) from (
		select (select wake from leases where state = 'active' and target = t.target order by wake limit 1) as at from tallies t
			where t.target > '' and t.role = '' and t.issuer_url = '' and t.subject = '' and t.active > 0) wakes`,
		nil, &earliest)
	return instant(earliest), earliest != 0, failed("read the next expiry", err)
}

// NextDue returns when the next revocation at a target is due, which may have passed already; false where none is.
func (tx *Tx) NextDue(target string) (time.Time, bool, error) {
	var earliest int64
	err := tx.one(`select coalesce((select wake from leases where state = 'revoking' and target = $1 order by wake limit 1), 0)`,
		[]any{target}, &earliest)
	return instant(earliest), earliest != 0, failed("read when target "+strconv.Quote(target)+" has work", err)
}

// Overdue returns pending leases that have outlived their time: whoever granted them could not record how it ended.
func (tx *Tx) Overdue(now time.Time, limit int) ([]Lease, error) {
	return tx.leases("read the overdue leases", `select `+leaseColumns+` from leases
		where state = 'pending' and expires_at <= $1 limit $2`, micros(now), limit)
}

// CountLive counts the leases of a filter that have not ended, those in which its principal acts among them: what a lock
// would end now. For the sets that are counted anyway it reads one row.
func (tx *Tx) CountLive(f Filter) (n int, err error) {
	f.Live = true
	acting, err := countLive(f, tx.Acting)
	if err != nil {
		return 0, err
	}
	if scope, counted := f.scope(); counted {
		tally, err := tx.Tally(scope)
		return tally.Pending + tally.Active + acting, err
	}
	held, err := countLive(f, tx.Leases)
	return held + acting, err
}

func countLive(f Filter, list func(Filter, string, int) ([]Lease, string, error)) (n int, err error) {
	for cursor := ""; ; {
		page, next, err := list(f, cursor, scanBudget)
		if err != nil {
			return 0, err
		}
		for _, l := range page {
			if l.State == lease.Pending || l.State == lease.Active {
				n++
			}
		}
		if next == "" {
			return n, nil
		}
		cursor = next
	}
}

// scope is the filter as one of the sets that are counted, and false where it is none.
func (f Filter) scope() (Scope, bool) {
	scope := Scope{Target: f.Target, Role: f.Role, IssuerURL: f.IssuerURL, Subject: f.Subject}
	plain := Filter{Target: f.Target, Role: f.Role, IssuerURL: f.IssuerURL, Subject: f.Subject, Live: f.Live}
	principal := f.IssuerURL != "" && f.Subject != ""
	nobody := f.IssuerURL == "" && f.Subject == ""
	switch {
	case f != plain:
		return scope, false
	case f.Target != "":
		return scope, f.Role == "" && nobody
	case f.Role != "":
		return scope, principal || nobody
	}
	return scope, principal
}

// RaiseEpoch makes the epoch later than one that a target has seen, with the entry epoch.
func (tx *Tx) RaiseEpoch(seen int64) error {
	if newest, err := tx.NewestEpoch(); err != nil || seen < newest {
		return err
	}
	if err := tx.setMeta(metaEpoch, strconv.FormatInt(seen+1, 10)); err != nil {
		return err
	}
	if _, err := tx.Append(ledger.Entry{Event: ledger.Epoch, Count: seen + 1}); err != nil {
		return err
	}
	tx.group.after = append(tx.group.after, func() { tx.store.epoch.Store(seen + 1) })
	return nil
}

// metaQuarantine prefixes the name of a target.
const metaQuarantine = "quarantine:"

// SetQuarantine keeps until when nothing unknown to the store is destroyed at a target.
func (tx *Tx) SetQuarantine(target string, until time.Time) error {
	return tx.setMeta(metaQuarantine+target, strconv.FormatInt(micros(until), 10))
}

// Quarantine returns the time of [Tx.SetQuarantine], zero where there is none.
func (tx *Tx) Quarantine(target string) (time.Time, error) {
	text, err := tx.meta(metaQuarantine + target)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	until, err := strconv.ParseInt(text, 10, 64)
	return instant(until), failed("read the quarantine of target "+strconv.Quote(target), err)
}
