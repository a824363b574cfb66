package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// grantItem is one login that waits to be made.
type grantItem struct {
	lease    string
	group    string
	rights   Rights
	ttl      time.Duration
	verifier string
	state    atomic.Int32
	answer   chan error // buffered: the lane never waits for a caller that has gone
}

// The states of an item: whoever moves it out of waiting, lane or caller, decides.
const (
	waiting int32 = iota
	taken
	givenUp
)

// errAgain asks for the groups and creators to be made again, and for one more try: a DBA has dropped one.
var errAgain = errors.New("a role of daypass is gone")

// Grant makes the login of a lease. The login is a member of its role's group and of nothing else; its expiry is
// counted by the server's clock.
func (p *Postgres) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	credential, err := p.grant(ctx, g)
	if err != nil {
		return target.Credential{}, fmt.Errorf("grant lease %s on %s: %w", g.Lease, p.place.title(), explain(err))
	}
	return credential, nil
}

func (p *Postgres) grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	if err := target.CheckLease(g.Lease); err != nil {
		return target.Credential{}, err
	}
	if err := ctx.Err(); err != nil {
		return target.Credential{}, target.NotDone(err)
	}
	if g.TTL <= 0 {
		return target.Credential{}, target.NotDone(fmt.Errorf("a ttl of %v", g.TTL))
	}
	rights, err := ParseRights(g.Rights)
	if err != nil {
		return target.Credential{}, target.NotDone(err)
	}
	if !p.book.open(g.Lease) {
		return target.Credential{}, target.NotDone(errors.New("the lease is being revoked"))
	}
	rounds := cmp.Or(rights.ScramIterations, defaultRounds)
	fresh, err := p.passwords.next(rounds)
	if err != nil {
		p.book.close(g.Lease)
		return target.Credential{}, target.NotDone(err)
	}
	held := p.groupOf(g.Role, rights)
	for try := 0; ; try++ {
		if err := p.ensureGroup(ctx, held); err != nil {
			p.book.close(g.Lease)
			return target.Credential{}, target.NotDone(err)
		}
		item := &grantItem{lease: g.Lease, group: held.name, rights: rights, ttl: g.TTL, verifier: fresh.verifier, answer: make(chan error, 1)}
		err := p.hand(ctx, item, rounds)
		if errors.Is(err, errAgain) && try < grantLanes && p.book.open(g.Lease) {
			p.groups.forget(held.name)
			continue
		}
		if err == nil {
			// A Narrow that came meanwhile did not know this login. The group in order again tells the next one.
			if again := p.ensureGroup(ctx, held); again != nil {
				err = fmt.Errorf("the login was made, but: %v", again) //nolint:errorlint // it may wrap that nothing was done
			}
		}
		if err != nil {
			return target.Credential{}, err
		}
		return p.credential(p.names.login(g.Lease), fresh.text), nil
	}
}

// hand gives an item to the lanes and waits for its answer. From here on the lane closes the lease's page in the
// book, unless it never saw the item.
func (p *Postgres) hand(ctx context.Context, item *grantItem, rounds int) error {
	if err := p.grants.put(item); err != nil {
		p.book.close(item.lease)
		return err
	}
	p.passwords.refill(rounds) // while the server works
	select {
	case err := <-item.answer:
		return err
	case <-ctx.Done():
		if item.state.CompareAndSwap(waiting, givenUp) {
			p.book.close(item.lease)
			return target.NotDone(ctx.Err())
		}
		return fmt.Errorf("the outcome is unknown: %w", ctx.Err())
	}
}

// credential is what the workload gets.
func (p *Postgres) credential(login string, password secret.Text) target.Credential {
	host, port, sslmode := p.place.told(p.cfg.Client)
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(login, password.Reveal()), Path: "/" + p.place.database,
		Host: net.JoinHostPort(host, strconv.Itoa(port)), RawQuery: "sslmode=" + sslmode,
	}
	if strings.HasPrefix(host, "/") {
		u.Host, u.RawQuery = "", url.Values{"host": {host}, "port": {strconv.Itoa(port)}}.Encode()
	}
	attributes := map[string]any{"username": login, "host": host, "port": port, "database": p.place.database, "sslmode": sslmode}
	if p.cfg.ClientCA != "" {
		attributes["sslrootcert"] = p.cfg.ClientCA
	}
	return target.Credential{
		Type:       Kind,
		Attributes: attributes,
		Secrets:    map[string]secret.Text{"password": password, "url": secret.New(u.String())},
		Revocation: target.Instant,
	}
}

// runGrants is a lane: it makes logins, batch after batch, on a connection of its own.
func (p *Postgres) runGrants(ctx context.Context) {
	var c *conn
	defer func() {
		if c != nil {
			c.hangUp()
		}
	}()
	for {
		batch := slices.DeleteFunc(p.grants.take(ctx), func(item *grantItem) bool {
			return !item.state.CompareAndSwap(waiting, taken)
		})
		if ctx.Err() != nil {
			p.answer(batch, target.NotDone(errors.New("the target is closed")))
			return
		}
		if len(batch) > 0 {
			c = p.grantBatch(ctx, c, batch)
		}
	}
}

// answer tells all of a batch the same.
func (p *Postgres) answer(batch []*grantItem, err error) {
	for _, item := range batch {
		p.book.close(item.lease)
		item.answer <- err
	}
}

// grantBatch makes the logins of a batch, and returns the connection to go on with, nil when it broke.
func (p *Postgres) grantBatch(ctx context.Context, c *conn, batch []*grantItem) *conn {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for fresh := false; ; {
		if c == nil {
			var err error
			if c, err = p.connect(ctx); err != nil {
				p.answer(batch, target.NotDone(err))
				return nil
			}
			fresh = true
		}
		err := p.actAsCreator(ctx, c, len(batch))
		var tx transaction
		if err == nil {
			tx, err = c.begin(ctx)
		}
		if err == nil {
			return p.fill(ctx, c, tx, batch)
		}
		// Nothing was asked for yet, so that a connection that died while it was idle is simply made again.
		p.strays.lose(c)
		c = nil
		if fresh || ctx.Err() != nil {
			p.answer(batch, target.NotDone(err))
			return nil
		}
	}
}

// turn is how many logins a lane makes as one creator before it goes on to the next. Taking on a role costs as much
// as there are logins, since the server then walks through all that the administrator is a member of.
const turn = 200

// actAsCreator makes the connection act as a creator (16 and later), for a while.
func (p *Postgres) actAsCreator(ctx context.Context, c *conn, logins int) error {
	if !c.modern() || c.made > 0 && c.made < turn {
		c.made += logins
		return nil
	}
	c.shard, c.made = rand.IntN(shards), logins
	return c.script(ctx, "set role "+quote(p.names.creatorAt(c.shard)))
}

// transaction is an open transaction: its number settles a lost answer, its time is the server's clock.
type transaction struct {
	xid string
	now time.Time
}

func (c *conn) begin(ctx context.Context) (transaction, error) {
	results, err := c.PgConn().Exec(ctx, "begin; select pg_current_xact_id()::text, (extract(epoch from clock_timestamp()) * 1000000)::int8").ReadAll()
	if err != nil {
		return transaction{}, fmt.Errorf("begin: %w", err)
	}
	row := results[1].Rows[0]
	micros, err := strconv.ParseInt(string(row[1]), 10, 64)
	return transaction{xid: string(row[0]), now: time.UnixMicro(micros).UTC()}, err
}

// fill makes all logins at once and hopes for the best: one message, one commit. When one is bad, nothing was
// done, and they are made again one by one.
func (p *Postgres) fill(ctx context.Context, c *conn, tx transaction, batch []*grantItem) *conn {
	err := c.script(ctx, p.creations(c, tx, batch)+"commit")
	if err == nil {
		p.answer(batch, nil)
		return c
	}
	if broken(err) {
		p.settle(ctx, c, tx, batch, err)
		return nil
	}
	if err = c.script(ctx, "rollback"); err == nil {
		tx, err = c.begin(ctx)
	}
	if err != nil {
		p.strays.lose(c)
		p.answer(batch, target.NotDone(err)) // no commit was ever sent
		return nil
	}
	return p.fillSingly(ctx, c, tx, batch)
}

// fillSingly gives each login a savepoint, so that a bad one spoils none of the others.
func (p *Postgres) fillSingly(ctx context.Context, c *conn, tx transaction, batch []*grantItem) *conn {
	var good []*grantItem
	for i, item := range batch {
		err := p.createOne(ctx, c, tx, item)
		switch {
		case err == nil:
			good = append(good, item)
		case broken(err) && !errors.Is(err, target.ErrNotDone):
			p.strays.lose(c)
			p.answer(good, target.NotDone(err)) // no commit was ever sent
			p.answer(batch[i:], target.NotDone(err))
			return nil
		default:
			p.answer([]*grantItem{item}, target.NotDone(err))
		}
	}
	err := c.script(ctx, "commit")
	switch {
	case err == nil:
		p.answer(good, nil)
	case broken(err):
		p.settle(ctx, c, tx, good, err)
		return nil
	default:
		p.answer(good, target.NotDone(err))
	}
	return c
}

// createOne makes one login under a savepoint. An error of the server undoes it.
func (p *Postgres) createOne(ctx context.Context, c *conn, tx transaction, item *grantItem) error {
	err := c.script(ctx, "savepoint d;"+p.creations(c, tx, []*grantItem{item})+"release d")
	if err == nil || broken(err) {
		return err
	}
	if undo := c.script(ctx, "rollback to d"); undo != nil {
		return undo
	}
	switch code(err) {
	case codeDuplicateObject, codeUniqueViolation:
		return p.replace(ctx, c, tx, item)
	case codeUndefinedObject, codeNoPermission:
		// A DBA has dropped the group, or the creator that this lane acts as.
		c.made = 0
		return fmt.Errorf("%w: %w", err, errAgain)
	}
	return err
}

// replace gives a login that exists a new password: the answer of the first grant was lost. A login that may not
// log in is a tombstone or has been revoked, and stays as it is.
func (p *Postgres) replace(ctx context.Context, c *conn, tx transaction, item *grantItem) error {
	found, err := p.find(ctx, c, []string{item.lease})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("the login has gone meanwhile: %w", target.ErrNotDone)
	}
	if !found[0].open {
		return fmt.Errorf("the lease was revoked: %w", target.ErrNotDone)
	}
	text := p.as(c, found[0].creator) + fmt.Sprintf("alter role %s password %s valid until %s;", quote(found[0].name), literal(item.verifier), p.until(tx, item.ttl))
	err = c.script(ctx, "savepoint d;"+text+p.as(c, p.names.creatorAt(c.shard))+"release d")
	if err != nil && !broken(err) {
		if undo := c.script(ctx, "rollback to d"); undo != nil {
			return undo
		}
	}
	return err
}

// as is the statement that takes on a creator, for the transaction, where logins have one (16 and later). A login
// that none of ours made is the administrator's own, or a DBA's.
func (p *Postgres) as(c *conn, creator string) string {
	switch {
	case !c.modern():
		return ""
	case creator == "":
		return "set local role none;"
	}
	return "set local role " + quote(creator) + ";"
}

// until is the expiry that the server enforces.
func (p *Postgres) until(tx transaction, ttl time.Duration) string {
	return literal(tx.now.Add(ttl + p.grace).Format("2006-01-02 15:04:05.999999+00"))
}

// creations is the text that makes the logins of a batch. All creations come first and the memberships last:
// a membership locks its group until commit, and would make the lanes wait for each other.
func (p *Postgres) creations(c *conn, tx transaction, batch []*grantItem) string {
	var text strings.Builder
	members, owned := map[string][]string{}, map[string][]string{}
	for _, item := range batch {
		name := p.names.login(item.lease)
		p.writeLogin(&text, tx, item, name)
		members[item.group] = append(members[item.group], name)
		if item.rights.Owner != "" {
			owned[item.rights.Owner] = append(owned[item.rights.Owner], name)
		}
	}
	writeMembers(&text, c, members, " with inherit true, set false;")
	writeMembers(&text, c, owned, " with inherit true, set true;")
	return text.String()
}

func writeMembers(text *strings.Builder, c *conn, members map[string][]string, modern string) {
	for _, role := range sortedKeys(members) {
		fmt.Fprintf(text, "grant %s to %s", quote(role), quoteAll(members[role]))
		if c.modern() {
			text.WriteString(modern)
		} else {
			text.WriteString(";")
		}
	}
}

// sortedKeys keeps the order of locks the same in all lanes.
func sortedKeys[T any](m map[string]T) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// defaultConnections is enough for the pool of one workload, and far from what a server has.
const defaultConnections = 20

// writeLogin adds the creation of one login and its settings.
func (p *Postgres) writeLogin(text *strings.Builder, tx transaction, item *grantItem, name string) {
	fmt.Fprintf(text, "create role %s login inherit connection limit %d password %s valid until %s;",
		quote(name), cmp.Or(item.rights.ConnectionLimit, defaultConnections), literal(item.verifier), p.until(tx, item.ttl))
	if len(item.rights.SearchPath) > 0 {
		fmt.Fprintf(text, "alter role %s set search_path = %s;", quote(name), quoteAll(item.rights.SearchPath))
	}
	if item.rights.Owner != "" {
		fmt.Fprintf(text, "alter role %s set role = %s;", quote(name), quote(item.rights.Owner))
	}
}

// settle finds out what became of a transaction whose answer was lost, for all its leases at once: the backend
// is ended, and then the server knows. Where it cannot be asked, the outcome stays unknown.
func (p *Postgres) settle(ctx context.Context, c *conn, tx transaction, batch []*grantItem, cause error) {
	p.strays.lose(c)
	p.log.WarnContext(ctx, "the answer to a commit was lost", "target", p.place.title(), "leases", len(batch), "err", cause)
	// The old context may be what ended; what was begun is settled all the same, for a time of its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	var status *string
	ask := func(ctx context.Context, c *conn) error {
		if err := p.strays.fence(ctx, c); err != nil {
			return err
		}
		return c.QueryRow(ctx, "select pg_xact_status($1::text::xid8)", tx.xid).Scan(&status)
	}
	err := p.control(ctx, ask)
	for err != nil && wait(ctx, 200*time.Millisecond) == nil {
		err = p.control(ctx, ask)
	}
	switch {
	case err == nil && status != nil && *status == "committed":
		p.answer(batch, nil)
	case err == nil && status != nil && *status == "aborted":
		p.answer(batch, target.NotDone(cause))
	default:
		p.answer(batch, fmt.Errorf("the outcome is unknown: %w", errors.Join(cause, err)))
	}
}
