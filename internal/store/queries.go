package store

import (
	"cmp"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
)

// leases reads all leases of a statement whose columns are leaseColumns.
func (tx *Tx) leases(op, text string, args ...any) (all []Lease, err error) {
	err = tx.each(text, args, func(rows *sql.Rows) error {
		l, err := scanLease(rows.Scan)
		all = append(all, l)
		return err
	})
	return all, failed(op, err)
}

// Due returns leases of a target that are revoking and whose next try has come, longest due first.
func (tx *Tx) Due(target string, now time.Time, limit int) ([]Lease, error) {
	return tx.leases("read the leases due at target "+strconv.Quote(target), `select `+leaseColumns+` from leases
		where state = 'revoking' and target = $1 and wake <= $2 order by wake limit $3`, target, micros(now), limit)
}

// woken returns leases of a state whose time has come at any target, earliest first. The index has the target
// before the time, so each target is asked: there are few.
func (tx *Tx) woken(op string, state lease.State, upTo int64, limit int) ([]Lease, error) {
	targets, err := tx.Targets()
	if err != nil {
		return nil, err
	}
	var all []Lease
	for _, target := range targets {
		some, err := tx.leases(op, `select `+leaseColumns+` from leases
			where state = $1 and target = $2 and wake <= $3 order by wake limit $4`, string(state), target.Target, upTo, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b Lease) int { return cmp.Compare(a.wake, b.wake) })
	return all[:min(limit, len(all))], nil
}

// Expired returns active leases whose time is up, earliest first.
func (tx *Tx) Expired(now time.Time, limit int) ([]Lease, error) {
	return tx.woken("read the expired leases", lease.Active, micros(now), limit)
}

// Interrupted returns pending leases of other boots than boot whose processes have ended: nobody is granting them
// any more.
func (tx *Tx) Interrupted(boot int64, limit int) ([]Lease, error) {
	return tx.leases("read the interrupted leases", `select `+leaseColumns+` from leases
		where state = 'pending' and boot <> $1 and boot not in (select boot from replicas where seen_at > `+tx.deadline()+`)
		limit $2`, boot, limit)
}

// NextWake returns when the next lease asks for attention: the earliest expiry of an active lease or next try of a
// revoking one, which may have passed already. It reports false when there is none.
func (tx *Tx) NextWake() (time.Time, bool, error) {
	var earliest int64
	err := tx.one(`select coalesce(min(at), 0) from (
		select (select wake from leases where state = 'active' and target = t.target order by wake limit 1) as at from tallies t
			where t.target > '' and t.role = '' and t.issuer_url = '' and t.subject = '' and t.active > 0
		union all
		select (select wake from leases where state = 'revoking' and target = t.target order by wake limit 1) as at from tallies t
			where t.target > '' and t.role = '' and t.issuer_url = '' and t.subject = '' and t.revoking > 0) wakes`,
		nil, &earliest)
	return instant(earliest), earliest != 0, failed("read the next wake", err)
}

// Filter selects leases. Its fields are ANDed; the zero Filter selects all.
type Filter struct {
	IssuerURL string
	Subject   string // with IssuerURL: the principal
	Issuer    string // the issuer's name, for people
	Role      string
	Target    string
	State     lease.State
	Lease     lease.ID
	Live      bool // those that are not revoked

	acted bool // those whose claims may have actors; for lists alone
}

// scanBudget is how many rows one page may look at.
const scanBudget = 20_000

// plan is the index that a page walks, and the rest of the filter, which is checked row by row.
type plan struct {
	index               []equality // the columns that the index has before seq, with the value of each; none where it is the primary key
	ranked              string     // instead of index: the column beside seq that the index is ordered by, "" for none
	rest                []equality // the other conditions; without arguments yet, since not every statement has them
	indexLive, restLive bool
	acted               bool
	args                []any
}

// equality is a column and the value that it must have.
type equality struct{ column, value string }

func (p *plan) arg(value any) string {
	p.args = append(p.args, value)
	return "$" + strconv.Itoa(len(p.args))
}

// planFor chooses the index: the narrowest that the filter can use.
func planFor(f Filter) *plan {
	p := &plan{acted: f.acted}
	switch {
	case f.Subject != "" && f.IssuerURL != "":
		p.index = []equality{{"subject", f.Subject}, {"issuer_url", f.IssuerURL}}
		p.restLive = f.Live
	case f.Live:
		p.indexLive = true
		switch {
		case f.Role != "":
			p.index = []equality{{"role", f.Role}}
		case f.Target != "":
			p.index = []equality{{"target", f.Target}}
		default:
			p.ranked = "target"
		}
	}
	for _, is := range []equality{{"subject", f.Subject}, {"issuer_url", f.IssuerURL}, {"issuer", f.Issuer}, {"role", f.Role},
		{"target", f.Target}, {"state", string(f.State)}, {"id", string(f.Lease)}} {
		if is.value != "" && !slices.Contains(p.index, is) {
			p.rest = append(p.rest, is)
		}
	}
	return p
}

// others is the rest of the conditions.
func (p *plan) others() (all []string) {
	for _, is := range p.rest {
		all = append(all, is.column+" = "+p.arg(is.value))
	}
	if p.restLive {
		all = append(all, "live = 1")
	}
	if p.acted {
		all = append(all, mayHaveActors)
	}
	return all
}

// mayHaveActors is true of claims with [acts] in them: as text they are themselves, or their bytes in hexadecimal.
const mayHaveActors = `(cast(claims as text) like '%"act":%' or cast(claims as text) like '%22616374223a%')`

// Leases returns a page of the leases that a filter selects, newest first (with Live alone: newest first within
// each target), and the cursor of the next page, "" after the last. The work for a page is bounded, so a page may
// hold fewer leases than limit, even none, and still have a next one.
func (tx *Tx) Leases(f Filter, cursor string, limit int) (page []Lease, next string, err error) {
	const op = "list leases"
	if f.Lease != "" && cursor == "" {
		return tx.onlyLease(f)
	}
	at, err := parseCursor(cursor)
	if err != nil {
		return nil, "", fault.Wrap(fault.Invalid, op, err.Error(), err)
	}
	p := planFor(f)
	walk := p.text(at)
	budget := p.arg(scanBudget)
	page, err = tx.leases(op, `select `+leaseColumns+` from (select * from leases`+walk+` limit `+budget+`) walked`+
		where(p.others())+p.sorted()+` limit `+p.arg(limit), p.args...)
	if err != nil {
		return nil, "", err
	}
	if len(page) == limit && limit > 0 {
		last := page[limit-1]
		return page, position{last.Target, last.seq}.cursor(), nil
	}
	// The walk ended before the page was full: at the end of the index, or of the budget.
	p = planFor(f)
	walk = p.text(at)
	rows, err := tx.leases(op, `select `+leaseColumns+` from leases`+walk+` limit 1 offset `+p.arg(scanBudget-1), p.args...)
	if err != nil || len(rows) == 0 {
		return page, "", err
	}
	return page, position{rows[0].Target, rows[0].seq}.cursor(), nil
}

// text is the walk from a position on.
//
// What the columns of an index must be is told twice. PostgreSQL walks a range of the index: where it is told that the
// columns are equal to something, it may walk the primary key, which is in the same order then, past all that has ended.
// SQLite has no range over its primary key, and takes what is not distinct for equal.
func (p *plan) text(at *position) string {
	var walk []string
	if p.indexLive {
		walk = append(walk, "live = 1")
	}
	switch {
	case len(p.index) > 0:
		last := int64(math.MaxInt64)
		if at != nil {
			last = at.seq
		}
		walk = append(walk, p.each(func(is equality) string { return is.column + " is not distinct from " + p.arg(is.value) + " and " })+"seq < "+p.arg(last),
			p.columns()+" > "+p.bound(0), p.columns()+" < "+p.bound(last))
	case at != nil && p.ranked != "":
		walk = append(walk, fmt.Sprintf("(%s, seq) < (%s, %s)", p.ranked, p.arg(at.target), p.arg(at.seq)))
	case at != nil:
		walk = append(walk, "seq < "+p.arg(at.seq))
	}
	return where(walk) + p.sorted()
}

// columns are those of the index, and bound is a place in it.
func (p *plan) columns() string {
	return "(" + p.each(func(is equality) string { return is.column + ", " }) + "seq)"
}

func (p *plan) bound(seq int64) string {
	return "(" + p.each(func(is equality) string { return p.arg(is.value) + ", " }) + p.arg(seq) + ")"
}

// sorted is the order of the index, newest first.
func (p *plan) sorted() string {
	if p.ranked != "" {
		return " order by " + p.ranked + " desc, seq desc" // both one way, as the index has them
	}
	return " order by " + p.each(func(is equality) string { return is.column + " desc, " }) + "seq desc"
}

func (p *plan) each(text func(equality) string) (all string) {
	for _, is := range p.index {
		all += text(is)
	}
	return all
}

func where(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return " where " + strings.Join(conditions, " and ")
}

func (tx *Tx) onlyLease(f Filter) ([]Lease, string, error) {
	l, err := tx.Lease(f.Lease)
	if fault.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	if err != nil || !f.selects(&l) {
		return nil, "", err
	}
	return []Lease{l}, "", nil
}

// selects reports whether the filter selects a lease.
func (f Filter) selects(l *Lease) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.IssuerURL, l.IssuerURL) && is(f.Subject, l.Subject) && is(f.Issuer, l.Issuer) && is(f.Role, l.Role) &&
		is(f.Target, l.Target) && is(string(f.State), string(l.State)) && is(string(f.Lease), string(l.ID)) &&
		(!f.Live || l.State.MayLive())
}

// position is where a page ended.
type position struct {
	target string
	seq    int64
}

func (p position) cursor() string { return strconv.FormatInt(p.seq, 36) + "." + p.target }

func parseCursor(text string) (*position, error) {
	if text == "" {
		return nil, nil
	}
	seq, target, ok := strings.Cut(text, ".")
	n, err := strconv.ParseInt(seq, 36, 64)
	if !ok || err != nil {
		return nil, fmt.Errorf("%.40q is not a cursor of this list", text)
	}
	return &position{target, n}, nil
}

// Prune deletes up to limit leases that were revoked before one time, and up to limit decisions made before
// another, and returns how many went. Their ledger entries stay.
func (tx *Tx) Prune(leasesBefore, decisionsBefore time.Time, limit int) (leases, decisions int64, err error) {
	const op = "prune the store"
	// Leases that are revoked are not in the tallies, so their targets are found by stepping through the index.
	for target := ""; err == nil && leases < int64(limit); {
		err = tx.one(`select coalesce((select target from leases where state = 'revoked' and target > $1 order by target limit 1), '')`,
			[]any{target}, &target)
		if err != nil || target == "" {
			break
		}
		var n int64
		n, err = tx.deleteAll(`select seq from leases where state = 'revoked' and target = $1 and wake < $2 order by wake limit $3`,
			`delete from leases where seq = $1`, target, micros(leasesBefore), int64(limit)-leases)
		leases += n
	}
	if err == nil {
		// Decisions are in the order of their times but for the width of a race, which retention does not mind.
		decisions, err = tx.deleteAll(`select seq from (select seq, at from decisions order by seq limit $2) oldest where at < $1`,
			`delete from decisions where seq = $1`, micros(decisionsBefore), limit)
	}
	return leases, decisions, failed(op, err)
}

// deleteAll deletes what a query finds, one by one: a planner that cannot know how few these are would read the table.
func (tx *Tx) deleteAll(find, text string, args ...any) (n int64, err error) {
	var found []int64
	err = tx.each(find, args, func(rows *sql.Rows) error {
		var seq int64
		err := rows.Scan(&seq)
		found = append(found, seq)
		return err
	})
	for _, seq := range found {
		if err == nil {
			err = tx.put(text, seq)
		}
	}
	return int64(len(found)), err
}
