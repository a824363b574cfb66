package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// ending is the end of a batch of leases on one connection.
type ending struct {
	p      *Postgres
	c      *conn
	failed map[string]error // by lease
	alone  bool             // c is the boss, so that there is no other connection to help
}

// run ends the leases. Its own error is for all that did not fail singly.
func (e *ending) run(ctx context.Context, leases []string) error {
	if err := e.p.strays.fence(ctx, e.c); err != nil {
		return err
	}
	found, err := e.p.find(ctx, e.c, leases)
	if err != nil {
		return err
	}
	absent := without(leases, found)
	if len(absent) > 0 {
		// A creation may be on its way that we do not know of. The tombstone waits for one that is open at the
		// server, fails when that one commits, and refuses those that come later.
		if err := e.bury(ctx, absent); err != nil {
			return err
		}
		if found, err = e.p.find(ctx, e.c, leases); err != nil {
			return err
		}
	}
	if err := e.bar(ctx, found); err != nil {
		return err
	}
	if err := e.endSessions(ctx, found); err != nil {
		return err
	}
	if err := e.p.disownGroups(ctx, e.c); err != nil {
		return err
	}
	if err := e.drop(ctx, found); err != nil {
		return err
	}
	// A session of a role that is gone lives on, without a name: look by OID once more.
	if err := e.endAll(ctx, found); err != nil {
		return err
	}
	return e.endNobodys(ctx, absent)
}

// endNobodys ends the sessions of roles that are gone. When another hand has dropped a login, nothing tells which of
// them were its own, so that all go, and absent leases fail until they have.
func (e *ending) endNobodys(ctx context.Context, absent []string) error {
	// Whom the first look calls nobody may be newer than what it read of the roles; the second read them later.
	const first = "select a.pid from pg_stat_activity a where a.usesysid is not null and not exists (select from pg_roles r where r.oid = a.usesysid)"
	const second = "select a.pid, pg_terminate_backend(a.pid) from pg_stat_activity a where a.pid = any($1) and a.usesysid is not null and not exists (select from pg_roles r where r.oid = a.usesysid)"
	rows, err := e.c.Query(ctx, first)
	if err != nil {
		return err
	}
	pids, err := collect[int32](rows)
	for pause, waited := time.Millisecond, time.Duration(0); err == nil && len(pids) > 0; pause = min(2*pause, 100*time.Millisecond) {
		var left int
		if err := e.c.QueryRow(ctx, "select count(*) from ("+second+" offset 0) a", pids).Scan(&left); err != nil || left == 0 {
			return err
		}
		if waited > 2*time.Second {
			for _, lease := range absent {
				e.failed[lease] = cmp.Or(e.failed[lease], errors.New("its login was dropped by another hand, and a session of nobody has not ended yet"))
			}
			return nil
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		waited += pause
	}
	return err
}

// find reads which logins exist, in the order of their creators.
func (p *Postgres) find(ctx context.Context, c *conn, leases []string) ([]login, error) {
	names := make([]string, len(leases))
	for i, lease := range leases {
		names[i] = p.names.login(lease)
	}
	rows, err := c.Query(ctx, `select r.rolname::text, r.oid, r.rolcanlogin, coalesce((select u.rolname::text from pg_auth_members m
			join pg_roles u on u.oid = m.member where m.roleid = r.oid and m.admin_option and starts_with(u.rolname, $2) limit 1), '')
		from pg_roles r where r.rolname = any($1)`, names, p.names.creatorPrefix())
	if err != nil {
		return nil, err
	}
	var found []login
	for rows.Next() {
		var l login
		if err := rows.Scan(&l.name, &l.oid, &l.open, &l.creator); err != nil {
			rows.Close()
			return nil, err
		}
		l.lease, _ = p.names.lease(l.name)
		found = append(found, l)
	}
	slices.SortFunc(found, func(a, b login) int {
		return cmp.Or(cmp.Compare(a.creator, b.creator), cmp.Compare(a.lease, b.lease))
	})
	return found, rows.Err()
}

func without(leases []string, found []login) []string {
	return slices.DeleteFunc(slices.Clone(leases), func(lease string) bool {
		return slices.ContainsFunc(found, func(l login) bool { return l.lease == lease })
	})
}

func oids(logins []login) []uint32 {
	list := make([]uint32, len(logins))
	for i, l := range logins {
		list[i] = l.oid
	}
	return list
}

// each writes statement for every login, under its creator.
func (e *ending) each(logins []login, statement string) string {
	var text strings.Builder
	for i, l := range logins {
		if i == 0 || l.creator != logins[i-1].creator { //nolint:gosec // i is above 0 there
			text.WriteString(e.p.as(e.c, l.creator))
		}
		fmt.Fprintf(&text, statement, quote(l.name))
	}
	return text.String()
}

// dropping writes one DROP ROLE for all logins of a creator.
func (e *ending) dropping(logins []login) string {
	var text strings.Builder
	for i, l := range logins {
		if i == 0 || l.creator != logins[i-1].creator {
			if i > 0 {
				text.WriteString(";")
			}
			text.WriteString(e.p.as(e.c, l.creator) + "drop role if exists " + quote(l.name))
			continue
		}
		text.WriteString("," + quote(l.name))
	}
	return text.String() + ";"
}

// transact runs text in a transaction that waits for no lock longer than patience.
func (c *conn) transact(ctx context.Context, patience time.Duration, text string) error {
	err := c.script(ctx, fmt.Sprintf("begin; set local lock_timeout = %d; %s commit", patience.Milliseconds(), text))
	if err != nil && !broken(err) {
		if undo := c.script(ctx, "rollback"); undo != nil {
			return undo
		}
	}
	return err
}

// impatient is how long a whole batch waits for a lock. A login can lock its own row, so that it is then dealt
// with alone.
const impatient = 500 * time.Millisecond

// bury leaves a tombstone for each lease: a role of its name that may not log in.
func (e *ending) bury(ctx context.Context, leases []string) error {
	logins := make([]login, len(leases))
	creator := e.p.names.creatorAt(rand.IntN(shards)) // one for all: taking on a role is what costs
	for i, lease := range leases {
		logins[i] = login{lease: lease, name: e.p.names.login(lease), creator: creator}
	}
	const statement = "create role %s nologin valid until 'now';"
	err := e.c.transact(ctx, impatient, e.each(logins, statement))
	if err == nil || broken(err) {
		return err
	}
	for _, l := range logins {
		err := e.c.transact(ctx, 5*time.Second, e.each([]login{l}, statement))
		switch {
		case err == nil || code(err) == codeDuplicateObject || code(err) == codeUniqueViolation:
		case broken(err):
			return err
		default:
			e.failed[l.lease] = fmt.Errorf("leave a tombstone: %w", err)
		}
	}
	return nil
}

// bar takes the right to log in from those that have it.
func (e *ending) bar(ctx context.Context, logins []login) error {
	open := slices.DeleteFunc(slices.Clone(logins), func(l login) bool { return !l.open })
	if len(open) == 0 {
		return nil
	}
	const statement = "alter role %s nologin valid until 'now';"
	write := func(logins []login) string { return e.each(logins, statement) }
	return e.inBulk(ctx, open, write, func(l login, _ error) error {
		err := e.barOne(ctx, l, e.each([]login{l}, statement))
		if err != nil && !broken(err) {
			e.failed[l.lease] = fmt.Errorf("take away its login: %w", err)
			return nil
		}
		return err
	})
}

// bulk is how many logins one transaction touches. Each takes a lock, and the server's table of locks is finite.
const bulk = 500

// inBulk runs what write makes for all logins in a few transactions. One that fails is halved until those are found that
// are to blame; singly deals with them.
func (e *ending) inBulk(ctx context.Context, logins []login, write func([]login) string, singly func(login, error) error) error {
	for chunk := range slices.Chunk(logins, bulk) {
		if err := e.halve(ctx, chunk, write, singly); err != nil {
			return err
		}
	}
	return nil
}

func (e *ending) halve(ctx context.Context, logins []login, write func([]login) string, singly func(login, error) error) error {
	err := e.c.transact(ctx, impatient, write(logins))
	if err == nil || broken(err) {
		return err
	}
	if len(logins) == 1 {
		return singly(logins[0], err)
	}
	if len(logins) == bulk {
		// A session that holds a row of its own is the likely reason. It is to end anyway.
		if _, err := e.c.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where usesysid = any($1)", oids(logins)); err != nil {
			return err
		}
	}
	half := len(logins) / 2
	if err := e.halve(ctx, logins[:half], write, singly); err != nil {
		return err
	}
	return e.halve(ctx, logins[half:], write, singly)
}

// barOne bars one login that resists: its sessions may hold its own row (by changing its password in an open
// transaction), so that they are ended beside the statement that waits for the row.
func (e *ending) barOne(ctx context.Context, l login, text string) error {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if e.alone {
			return
		}
		_ = e.p.control(ctx, func(ctx context.Context, c *conn) error { // it only helps: the statement beside it tells
			for {
				if _, err := c.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where usesysid = $1", l.oid); err != nil {
					return err
				}
				select {
				case <-stop:
					return nil
				case <-ctx.Done():
					return nil
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}()
	defer func() { close(stop); <-done }()
	var err error
	for range 5 {
		if e.alone {
			if err := e.endAll(ctx, []login{l}); err != nil {
				return err
			}
		}
		err = e.c.transact(ctx, 3*time.Second, text)
		if err == nil || broken(err) || code(err) == codeUndefinedObject {
			break
		}
		if code(err) == codeNotAvailable {
			// Nothing runs that could hold the row. Something prepared may.
			if _, err := e.p.endPrepared(ctx, e.c, l); err != nil {
				return err
			}
		}
		if code(err) == codeNoPermission {
			// Not made by our creator: a DBA has made it again. The administrator itself may still be allowed.
			text = fmt.Sprintf("alter role %s nologin valid until 'now';", quote(l.name))
		}
	}
	if code(err) == codeUndefinedObject {
		return nil // dropped by another hand
	}
	return err
}

// endSessions ends what runs as the logins. Logins that were starting up come first: they may have been let in
// before the bar, and are not yet seen as anybody's.
func (e *ending) endSessions(ctx context.Context, logins []login) error {
	if len(logins) == 0 {
		return nil
	}
	if err := e.endStarting(ctx); err != nil {
		return err
	}
	return e.endAll(ctx, logins)
}

// endAll ends the sessions of logins. A session may be deaf for a while (a long sum looks at no signal): its lease
// fails then, and the others go on.
func (e *ending) endAll(ctx context.Context, logins []login) error {
	ids := oids(logins)
	for pause, waited := time.Millisecond, time.Duration(0); ; pause = min(2*pause, 100*time.Millisecond) {
		rows, err := e.c.Query(ctx, "select distinct usesysid from (select usesysid, pg_terminate_backend(pid) from pg_stat_activity where usesysid = any($1)) a", ids)
		if err != nil {
			return err
		}
		left, err := collect[uint32](rows)
		if err != nil || len(left) == 0 {
			return err
		}
		if waited > 2*time.Second {
			for _, l := range logins {
				if slices.Contains(left, l.oid) && e.failed[l.lease] == nil {
					e.failed[l.lease] = errors.New("a session was told to end and has not ended yet")
				}
			}
			return nil
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		waited += pause
	}
}

// startingUp lists backends that are in the transaction in which they start. Before 18 they are not in
// pg_stat_activity at all; from 18 on they are, as nobody's and in no database.
const startingUp = `select l.pid from pg_locks l left join pg_stat_activity a on a.pid = l.pid
	where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.pid is not null
	and (a.pid is null or a.usesysid is null and a.datid is null)`

// endStarting waits for the backends that are starting up now, and ends those that take their time: a client can
// ask for minutes (post_auth_delay). The server lets us end only those that have passed the check of their login;
// the others will meet the bar.
func (e *ending) endStarting(ctx context.Context) error {
	read := func() ([]int32, error) {
		rows, err := e.c.Query(ctx, startingUp)
		if err != nil {
			return nil, err
		}
		return collect[int32](rows)
	}
	pids, err := read()
	for pause, waited := time.Millisecond, time.Duration(0); err == nil && len(pids) > 0 && waited < time.Second; pause *= 2 {
		if err := wait(ctx, pause); err != nil {
			return err
		}
		waited += pause
		now, err := read()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int32) bool { return !slices.Contains(now, pid) })
	}
	for _, pid := range pids {
		if _, err := e.c.Exec(ctx, "select pg_terminate_backend($1)", pid); err != nil && code(err) != codeNoPermission {
			return err
		}
	}
	return err
}

// drop removes the logins. A tombstone stays, and one on which something depends stays without memberships: it
// is as dead, and Clean takes care of what it owns.
func (e *ending) drop(ctx context.Context, logins []login) error {
	rows, err := e.c.Query(ctx, "select distinct refobjid from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = any($1)", oids(logins))
	if err != nil {
		return err
	}
	owning, err := collect[uint32](rows)
	if err != nil {
		return err
	}
	var clear, stay []login
	for _, l := range logins {
		switch {
		case e.failed[l.lease] != nil:
		case !l.open || slices.Contains(owning, l.oid):
			stay = append(stay, l)
		default:
			clear = append(clear, l)
		}
	}
	err = e.inBulk(ctx, clear, e.dropping, func(l login, _ error) error {
		stay = append(stay, l)
		return nil
	})
	if err != nil {
		return err
	}
	return e.strip(ctx, stay)
}

// strip takes all memberships from logins that stay: theirs in roles, and those of others in them.
func (e *ending) strip(ctx context.Context, logins []login) error {
	if len(logins) == 0 {
		return nil
	}
	rows, err := e.c.Query(ctx, `select m.member, format('revoke %I from %I granted by %I', r.rolname, u.rolname, g.rolname), g.rolname::text
		from pg_auth_members m join pg_roles r on r.oid = m.roleid join pg_roles u on u.oid = m.member left join pg_roles g on g.oid = m.grantor
		where m.member = any($1) or m.roleid = any($1) and not starts_with(u.rolname, $2)`, oids(logins), e.p.names.creatorPrefix())
	if err != nil {
		return err
	}
	type membership struct {
		member          uint32
		text, grantedBy string
	}
	var all []membership
	for rows.Next() {
		var m membership
		if err := rows.Scan(&m.member, &m.text, &m.grantedBy); err != nil {
			rows.Close()
			return err
		}
		all = append(all, m)
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	for _, m := range all {
		text := m.text + ";"
		if !e.c.modern() {
			text, _, _ = strings.Cut(m.text, " granted by ")
			text += ";"
		} else if strings.HasPrefix(m.grantedBy, e.p.names.creatorPrefix()) {
			text = e.p.as(e.c, m.grantedBy) + text
		}
		err := e.c.transact(ctx, impatient, text)
		if err == nil || code(err) == codeUndefinedObject {
			continue
		}
		if broken(err) {
			return err
		}
		for _, l := range logins {
			if l.oid == m.member {
				e.failed[l.lease] = fmt.Errorf("take away a membership: %w", err)
			}
		}
	}
	return nil
}
