package postgres

import (
	"context"
	"errors"
	"fmt"
	"github.com/daypass/daypass/target"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// opTimeout bounds everything that we do at a server, whatever the caller's context says: a caller that has gone
// must not leave a lane waiting for ever. The server bounds each statement by less on its own, and a lost answer is
// noticed long before (see line).
const opTimeout = 30 * time.Second

// dialer makes connections that are alike.
type dialer struct {
	base    *pgx.ConnConfig
	timeout time.Duration
}

// conn is one connection with what we must know of its backend.
type conn struct {
	*pgx.Conn
	pid     uint32
	started time.Time // of the backend; a number alone may be used again
	version int       // server_version_num
	me      uint32    // OID of the administrator
	shard   int       // the creator that a lane acts as now (16 and later)
	made    int       // logins that it has made since it took on that creator
}

// modern reports whether memberships have options and creators are members of what they create (16 and later).
func (c *conn) modern() bool { return c.version >= 160000 }

// newDialer builds a configuration from nothing but ours. The driver's parser would read PG* variables and files
// for whatever a connection string leaves open, so that it is given a string that leaves nothing open, and every
// field that matters is set again afterwards.
func newDialer(place endpoint, cfg Config, application string) (*dialer, error) {
	text := "host=localhost port=1 user=daypass password=unused dbname=daypass sslmode=disable sslrootcert='' sslcert='' sslkey='' " +
		"sslpassword='' sslcertmode=disable sslnegotiation=postgres sslsni=1 connect_timeout=10 passfile='' target_session_attrs=any " +
		"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''"
	if os.Getenv("PGSERVICE") != "" {
		// A service cannot be switched off, only answered: with one that says nothing.
		file, remove, err := emptyService()
		if err != nil {
			return nil, err
		}
		defer remove()
		text += " service=daypass servicefile='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(file) + "'"
	}
	base, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("prepare connections: %w", err)
	}
	base.TLSConfig, err = place.tls(cfg.CA)
	if err != nil {
		return nil, err
	}
	base.Host, base.Port, base.Database = place.host, place.port, place.database
	base.User, base.Password = place.user, cfg.Password.Reveal()
	base.Fallbacks, base.ValidateConnect = nil, nil
	base.RequireAuth, base.ChannelBinding = "scram-sha-256", place.channelBinding // whatever the server would rather have
	base.ConnectTimeout = place.connectTimeout
	base.DialFunc = dialLine
	base.RuntimeParams = map[string]string{
		"application_name":                    application,
		"statement_timeout":                   "15s",
		"lock_timeout":                        "5s",
		"idle_in_transaction_session_timeout": "20s",
		"standard_conforming_strings":         "on",
		"search_path":                         "pg_catalog", // nobody's functions stand before the system's
		"client_min_messages":                 "error",
		"timezone":                            "UTC",
	}
	return &dialer{base: base, timeout: place.connectTimeout}, nil
}

// emptyService writes a service file that sets nothing.
func emptyService() (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "daypass-service-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "service")
	return path, func() { os.RemoveAll(dir) }, os.WriteFile(path, []byte("[daypass]\n"), 0o600)
}

// dial connects to database (empty: the target's own), on a line that notices when an answer is lost.
func (d *dialer) dial(ctx context.Context, database string) (*conn, error) {
	c, err := d.connect(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", target.ErrUnreachable, err)
	}
	c.doubt(func(ctx context.Context) (bool, error) { return d.atWork(ctx, c.pid, c.started) })
	return c, nil
}

// try makes one connection.
func (d *dialer) try(ctx context.Context, database string) (*conn, error) {
	config := d.base.Copy()
	if database != "" {
		config.Database = database
	}
	raw, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, pid: raw.PgConn().PID()}
	if err := c.settle(ctx); err != nil {
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// settle sets what a start-up packet must not (some servers refuse it) and reads who we are.
func (c *conn) settle(ctx context.Context) error {
	err := c.QueryRow(ctx, `select current_setting('server_version_num')::int, a.usesysid, a.backend_start
		from pg_stat_activity a where a.pid = pg_backend_pid()`).Scan(&c.version, &c.me, &c.started)
	if err != nil {
		return err
	}
	// A revocation that a crash of the server undoes was none.
	settings := []string{`select set_config('synchronous_commit', 'on', false)
		where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')`}
	if c.modern() {
		settings = append(settings, "set createrole_self_grant = ''")
	}
	if c.version >= 170000 {
		settings = append(settings, "set transaction_timeout = '60s'")
	}
	for _, setting := range settings {
		if _, err := c.Exec(ctx, setting); err != nil {
			return err
		}
	}
	// Ends statements whose client is gone. Not every platform of a server can do it.
	if _, err := c.Exec(ctx, "set client_connection_check_interval = '2s'"); err != nil && broken(err) {
		return err
	}
	return nil
}

// hangUp closes the connection in an orderly way, but not for long.
func (c *conn) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.Close(ctx)
}

// script runs statements in one message, in which the first error skips the rest.
func (c *conn) script(ctx context.Context, text string) error {
	_, err := c.PgConn().Exec(ctx, text).ReadAll()
	if errors.Is(err, pgconn.ErrConnClosed) { // the driver has forgotten why
		return fmt.Errorf("%w: %w", target.ErrUnreachable, err)
	}
	return err
}

// code is the SQLSTATE of err, or empty when the server has not spoken.
func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// The SQLSTATEs that we act on.
const (
	codeUndefinedObject = "42704"
	codeDuplicateObject = "42710"
	codeUniqueViolation = "23505"
	codeDependents      = "2BP01"
	codeNotAvailable    = "55P03" // lock_timeout
	codeNoPermission    = "42501"
	codeNoSlots         = "53300" // too many connections
	codeNoMemory        = "53200" // also a full table of locks
)

// explain adds what to do about errors that only an operator can do something about: any login can take all
// connections, as far as its limit goes, and fill the table of locks, without which no statement ends anybody.
func explain(err error) error {
	pg, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && pg.Code == codeNoSlots:
		return fmt.Errorf("%w (the server has no connection left for daypass: end some, and see reserved_connections)", err)
	case answered && pg.Code == codeNoMemory && strings.Contains(pg.Hint, "max_locks_per_transaction"):
		return fmt.Errorf("%w (the server's table of locks is full: end the session with the most rows in pg_locks, and see max_locks_per_transaction)", err)
	}
	return err
}

// broken reports whether err leaves us in the dark about the connection: the server did not answer, or the answer
// was that it hangs up.
func broken(err error) bool {
	pg, answered := errors.AsType[*pgconn.PgError](err)
	return !answered || pg.Severity == "FATAL" || pg.Severity == "PANIC" || strings.HasPrefix(pg.Code, "57P")
}

// strays are backends that we lost sight of in the middle of something. What they were told may still happen, so
// that nothing is called revoked before they are gone.
type strays struct {
	mu  sync.Mutex
	set map[uint32]time.Time // backend start by process number
}

// lose closes a connection that failed and remembers its backend.
func (s *strays) lose(c *conn) {
	s.mu.Lock()
	if s.set == nil {
		s.set = map[uint32]time.Time{}
	}
	s.set[c.pid] = c.started
	s.mu.Unlock()
	c.hangUp()
}

func (s *strays) list() (pids []int32, started []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, start := range s.set {
		pids, started = append(pids, int32(pid)), append(started, start)
	}
	return pids, started
}

func (s *strays) forget(pids []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pid := range pids {
		delete(s.set, uint32(pid))
	}
}

// fence returns when no backend is left that we lost sight of: it ends them and waits.
func (s *strays) fence(ctx context.Context, c *conn) error {
	pids, started := s.list()
	if len(pids) == 0 {
		return nil
	}
	err := c.gone(ctx, `select a.pid from pg_stat_activity a join unnest($1::int[], $2::timestamptz[]) s(pid, started)
		on a.pid = s.pid and a.backend_start = s.started and a.pid <> pg_backend_pid()`, pids, started)
	if err != nil {
		return fmt.Errorf("end backends of ours: %w", err)
	}
	s.forget(pids)
	return nil
}

// gone terminates the backends whose pid query yields, and returns when it yields none.
func (c *conn) gone(ctx context.Context, query string, args ...any) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var left int
		err := c.QueryRow(ctx, "select count(pg_terminate_backend(pid)) from ("+query+") victims", args...).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return fmt.Errorf("%d backends stay: %w", left, err)
		}
	}
}

// wait lets d pass, or less when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
