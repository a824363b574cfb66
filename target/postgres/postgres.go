// Package postgres makes and destroys PostgreSQL logins (15 and later; tried on 15 and 18).
//
// It owns every role at the server whose name begins with dp_, dpg_, dpc_, dpm_ or dpx_ and the instance:
// the logins of leases, the groups that hold the rights of roles, the creators that make logins on
// PostgreSQL 16 and later, the mark of the target, and the stashes of what leases made in the name of a group. It
// promises what [target.Target] asks: rights come only through a group, no statement holds a claim, a login dies
// by OID with its sessions, and a lost answer is settled by the server's own word. It connects lazily: a
// server that is down makes calls fail, never [New].
//
// Connect to the server itself, not through a transaction pooler: the promises about late statements are promises
// about our own backends. The package imports target, secret and pgx, and nothing that decides or records.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/daypass/daypass/target"
)

// Kind is the type of the credentials, and the name of this kind of target in access files.
const Kind = "postgres"

// Postgres is one database as a target. Its methods may be called concurrently.
type Postgres struct {
	names  names
	place  endpoint
	cfg    Config
	grace  time.Duration
	log    *slog.Logger
	dialer *dialer
	grants *queue[*grantItem]
	ends   *queue[*endItem]
	book   book     // which leases are being granted or revoked
	strays strays   // backends that we lost sight of
	boss   boss     // the one connection that holds the lock of the instance
	groups groupSet // groups that are known to be in order

	passwords passwords // made ahead

	disarming sync.Mutex // two that disarm the same things would fail each other

	stop  context.CancelFunc
	lanes sync.WaitGroup
}

var (
	_ target.Target   = (*Postgres)(nil)
	_ target.Lister   = (*Postgres)(nil)
	_ target.Renewer  = (*Postgres)(nil)
	_ target.Narrower = (*Postgres)(nil)
	_ target.Marker   = (*Postgres)(nil)
	_ target.Checker  = (*Postgres)(nil)
	_ target.Clock    = (*Postgres)(nil)
	_ target.Cleaner  = (*Postgres)(nil)
)

// Connections: a backend uses one core, so that one connection for grants gives half of what two cores can do.
const (
	grantLanes = 3
	endLanes   = 2
)

// New makes a target of cfg and connects to nothing yet. The context bounds the construction only; Close ends
// the target.
func New(_ context.Context, cfg Config) (*Postgres, error) {
	n, err := newNames(cfg.Instance)
	if err != nil {
		return nil, err
	}
	place, err := cfg.Settings.parse()
	if err != nil {
		return nil, err
	}
	if cfg.Mark.Instance == "" {
		cfg.Mark.Instance = cfg.Instance
	}
	if cfg.Mark.Target == "" || cfg.Mark.Instance != cfg.Instance {
		return nil, errors.New("mark: want the instance and the random name of the target")
	}
	if err := cfg.Client.Validate(); err != nil {
		return nil, err
	}
	if cfg.Boot == 0 {
		cfg.Boot = cfg.Mark.Boot
	}
	dialer, err := newDialer(place, cfg, n.application(cfg.Boot))
	if err != nil {
		return nil, err
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.groupConnections == 0 {
		cfg.groupConnections = grantLanes
	}
	p := &Postgres{names: n, place: place, cfg: cfg, grace: cfg.Grace, log: cfg.Log, dialer: dialer}
	p.boss.free = make(chan struct{}, 1)
	p.boss.mark, p.boss.known = cfg.Mark, cfg.Known
	p.grants = newQueue[*grantItem](cfg.groupConnections, 64)
	p.passwords = make(passwords, sparePasswords)
	p.ends = newQueue[*endItem](endLanes, 2500)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for range cfg.groupConnections {
		p.lanes.Go(func() { p.runGrants(ctx) })
	}
	for range endLanes {
		p.lanes.Go(func() { p.runEnds(ctx) })
	}
	return p, nil
}

// Close ends the connections. Calls in progress fail.
func (p *Postgres) Close() {
	p.stop()
	p.lanes.Wait()
	p.boss.free <- struct{}{}
	p.boss.close()
	<-p.boss.free
}

// Now tells the server's time.
func (p *Postgres) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := p.control(ctx, func(ctx context.Context, c *conn) error {
		return c.QueryRow(ctx, "select clock_timestamp()").Scan(&now)
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock of %s: %w", p.place.title(), err)
	}
	return now.UTC(), nil
}
