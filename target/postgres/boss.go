package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/target"
)

// boss is the connection that holds the session lock of the instance and target. Whoever holds it is the only
// Daypass at work here; two copies of one store would kill each other's logins. It also carries whatever is rare.
type boss struct {
	free chan struct{} // holds a token while somebody uses what follows
	conn *conn
	met  bool        // the mark was seen on this connection
	mark target.Mark // what this process stands for
	// known: a server without our mark is another server.
	known bool
}

// close gives the lock back first: the server takes its time to see that a connection has ended, and whoever comes
// next may come at once.
func (b *boss) close() {
	if b.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = b.conn.Exec(ctx, "select pg_advisory_unlock_all()") // the end of the connection does it too
		cancel()
		b.conn.hangUp()
		b.conn = nil
	}
}

// control runs do on the connection of the boss, alone. It connects when needed.
func (p *Postgres) control(ctx context.Context, do func(context.Context, *conn) error) error {
	return p.controlled(ctx, false, do)
}

func (p *Postgres) controlled(ctx context.Context, unmarked bool, do func(context.Context, *conn) error) error {
	select {
	case p.boss.free <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.boss.free }()
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	reused := p.boss.conn != nil
	err := p.try(ctx, unmarked, do)
	if reused && p.boss.conn == nil && ctx.Err() == nil {
		// The connection had died while it was idle, as after a restart of the server; everything that runs here
		// may be run again.
		err = p.try(ctx, unmarked, do)
	}
	return err
}

// try runs do once, and drops the connection when it broke. The token is held.
func (p *Postgres) try(ctx context.Context, unmarked bool, do func(context.Context, *conn) error) error {
	b := &p.boss
	err := p.takeOffice(ctx)
	if err == nil && !unmarked {
		err = p.meet(ctx)
	}
	if err == nil {
		err = do(ctx, b.conn)
	}
	if b.conn != nil && (b.conn.IsClosed() || b.conn.PgConn().TxStatus() != 'I') {
		p.strays.lose(b.conn)
		b.conn, b.met = nil, false
	}
	return err
}

// errElsewhere says that this is not our server, or not ours alone. It says nothing about the connection.
var errElsewhere = errors.New("not here")

// takeOffice connects, takes the lock of the instance and ends what earlier boots left running.
func (p *Postgres) takeOffice(ctx context.Context) error {
	b := &p.boss
	if b.conn != nil {
		return nil
	}
	c, err := p.dialer.dial(ctx, "")
	if err != nil {
		return err
	}
	err = p.strays.fence(ctx, c)
	if err == nil {
		err = p.lock(ctx, c)
	}
	if err == nil {
		err = p.endOldBoots(ctx, c)
	}
	if err != nil {
		p.strays.lose(c) // it may hold the lock for a while, and is not to be taken for another Daypass
		return err
	}
	b.conn, b.met = c, false
	return nil
}

// lockClass is the half of our advisory locks that says which instance and target they are of.
func (p *Postgres) lockClass() int32 {
	hash := fnv.New32a()
	hash.Write([]byte(p.names.applicationPrefix() + p.boss.mark.Target))
	return int32(hash.Sum32())
}

// lock takes a session lock that says who is at work, and then looks for others of us who hold one. Any login may
// take any advisory lock, hold it with a session that hears no signal, and queue for it: so nobody here waits for
// a lock. Its other half is random, which makes it free, and what counts is only whether another session of our own
// administrator has one of the class. Whoever comes at the same time sees the other, since both take before they
// look. One of an earlier boot is a process that died or was copied, and yields.
func (p *Postgres) lock(ctx context.Context, c *conn) error {
	for held := false; !held; {
		err := c.QueryRow(ctx, "select pg_try_advisory_lock($1::int, $2::int)", p.lockClass(), int32(rand.Uint32())).Scan(&held)
		if err == nil && !held {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("take the lock of instance %s: %w", p.names.instance, err)
		}
	}
	const others = `select distinct a.application_name from pg_locks l join pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.objsubid = 2 and l.granted and l.classid::int8 = $1 and a.datname = current_database()
		and a.usesysid = $2 and a.pid <> pg_backend_pid()`
	rows, err := c.Query(ctx, others, int64(uint32(p.lockClass())), c.me)
	if err != nil {
		return err
	}
	names, err := collect[string](rows)
	if err != nil {
		return err
	}
	peers, err := p.peers(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		boot, ours := p.bootOf(name)
		if ours && slices.Contains(peers, boot) {
			continue
		}
		if !ours || boot >= p.cfg.Boot {
			return fmt.Errorf("another daypass of instance %s (%q) is at work on %s: %w: %w",
				p.names.instance, name, p.place.title(), errElsewhere, target.ErrNotDone)
		}
	}
	return nil // endOldBoots ends those of earlier boots
}

// peers are the boots of the other processes of our store.
func (p *Postgres) peers(ctx context.Context) ([]int64, error) {
	if p.cfg.Peers == nil {
		return nil, nil
	}
	peers, err := p.cfg.Peers(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask who else works for this store: %w", err)
	}
	return peers, nil
}

// bootOf reads the boot from the application name of a connection of ours.
func (p *Postgres) bootOf(application string) (int64, bool) {
	text, ours := strings.CutPrefix(application, p.names.applicationPrefix())
	boot, err := strconv.ParseInt(text, 10, 64)
	return boot, ours && err == nil
}

// endOldBoots ends the backends of earlier boots and waits until they are gone: a killed process leaves backends
// that still carry out what they were told. Only our own login counts, since anybody can use our name.
func (p *Postgres) endOldBoots(ctx context.Context, c *conn) error {
	rows, err := c.Query(ctx, `select distinct application_name from pg_stat_activity
		where usesysid = $1 and starts_with(application_name, $2)`, c.me, p.names.applicationPrefix())
	if err != nil {
		return err
	}
	all, err := collect[string](rows)
	if err != nil {
		return err
	}
	peers, err := p.peers(ctx)
	if err != nil {
		return err
	}
	var old []string
	for _, name := range all {
		if boot, ours := p.bootOf(name); ours && boot < p.cfg.Boot && !slices.Contains(peers, boot) {
			old = append(old, name)
		}
	}
	if len(old) == 0 {
		return nil
	}
	p.log.InfoContext(ctx, "ending connections of earlier boots", "target", p.place.title(), "boots", strings.Join(old, " "))
	err = c.gone(ctx, "select pid from pg_stat_activity where usesysid = $1 and application_name = any($2)", c.me, old)
	if err != nil {
		return fmt.Errorf("end connections of earlier boots: %w", err)
	}
	return nil
}

// connect makes a connection for a lane. The boss comes first, so that no lane works without the lock, and the
// mark is looked at again: a name may lead to another server from one connection to the next.
func (p *Postgres) connect(ctx context.Context) (*conn, error) {
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		if err := c.Ping(ctx); err != nil { // a later boot may have ended it
			return err
		}
		return p.furnish(ctx, c)
	})
	if err != nil {
		return nil, err
	}
	c, err := p.dialer.dial(ctx, "")
	if err != nil {
		return nil, err
	}
	seen, err := p.readMark(ctx, c)
	if err == nil && seen.Target != p.cfg.Mark.Target {
		err = fmt.Errorf("%s bears the mark of target %q: %w: %w", p.place.title(), seen.Target, errElsewhere, target.ErrNotDone)
	}
	if err != nil {
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// furnish makes the creators, which everything else needs on 16 and later. A DBA who drops one gets it back at the
// next connection.
func (p *Postgres) furnish(ctx context.Context, c *conn) error {
	if !c.modern() {
		return nil
	}
	want := p.names.creators()
	rows, err := c.Query(ctx, "select rolname from pg_roles where rolname = any($1)", want)
	if err != nil {
		return err
	}
	found, err := collect[string](rows)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, name := range found {
		have[name] = true
	}
	var script strings.Builder
	for _, name := range want {
		if have[name] {
			continue
		}
		// The administrator may act as the creator, but does not inherit from it: what it inherits is looked through
		// at every statement.
		fmt.Fprintf(&script, "create role %[1]s nologin createrole; grant %[1]s to current_user with inherit false, set true;", quote(name))
	}
	if script.Len() == 0 {
		return nil
	}
	if err := c.script(ctx, "begin;"+script.String()+"commit"); err != nil {
		if !broken(err) {
			_ = c.script(ctx, "rollback") // a connection that cannot even do that is seen at its next use
		}
		return fmt.Errorf("make the roles of daypass: %w", err)
	}
	return nil
}
