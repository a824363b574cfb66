package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/internal/testissuer"
)

// place is an installation on either kind of store, with the target tokens.
type place struct {
	name  string
	site  *rig.Site
	admin *client.Client
	urls  []string   // of its servers
	rig   *rig.Rig   // on a file
	fleet *rig.Fleet // on PostgreSQL
}

// onFile is one server with its store in a file.
func onFile(ctx context.Context) (p *place, err error) {
	opt := rig.Options{Fsync: true}
	if opt.Serve, err = serveCommand(); err != nil {
		return nil, err
	}
	r, err := rig.Start(ctx, opt)
	if err != nil {
		return nil, err
	}
	p = &place{name: "SQLite", site: r.Site, admin: r.Admin, urls: []string{r.URL}, rig: r}
	return p, p.furnish(ctx)
}

// onPostgres is so many servers with their store in one PostgreSQL.
func onPostgres(ctx context.Context, servers int) (p *place, err error) {
	opt := rig.FleetOptions{Replicas: servers, Alone: true, Options: rig.Options{Fsync: true}}
	if opt.Serve, err = serveCommand(); err != nil {
		return nil, err
	}
	f, err := rig.StartFleet(ctx, opt)
	if err != nil {
		return nil, err
	}
	p = &place{name: "PostgreSQL 15", site: f.Site, admin: f.Replicas[0].Admin, fleet: f}
	for _, r := range f.Replicas {
		p.urls = append(p.urls, r.URL)
	}
	return p, p.furnish(ctx)
}

// furnish adds the target tokens, on all servers.
func (p *place) furnish(ctx context.Context) error {
	files := maps.Clone(p.site.Access)
	files["tokens.yaml"], files["tokens.cedar"] = tokensFile, tokensPolicy
	_, err := p.admin.ApplyAccess(ctx, files, "")
	sleep(ctx, time.Second) // by then it is in force on all of them
	for _, url := range p.urls {
		if err != nil {
			break
		}
		var clients []*client.Client
		if clients, err = p.workloads(1, url); err == nil {
			err = load(ctx, 1, time.Minute, 1, acquireRole(clients, "token")).failure
		}
	}
	if err != nil {
		err = errors.Join(err, p.close())
	}
	return err
}

// workloads are clients of the servers in turn.
func (p *place) workloads(callers int, urls ...string) ([]*client.Client, error) {
	all := make([]*client.Client, callers)
	for i := range all {
		var err error
		token := client.StaticToken(p.site.Token(testissuer.Run{RunID: strconv.Itoa(i)}))
		if all[i], err = client.New(client.Options{URL: urls[i%len(urls)], Token: token}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (p *place) close() error {
	if p.rig != nil {
		return p.rig.Close()
	}
	return p.fleet.Close()
}

// brokerTime is the processor time that the servers have used.
func (p *place) brokerTime() (all time.Duration) {
	if p.rig != nil {
		return processorTime(p.rig.BrokerPID())
	}
	for _, r := range p.fleet.Replicas {
		all += processorTime(r.PID())
	}
	return all
}

// storeTime is the processor time that the store's own server has used, 0 of a file.
func (p *place) storeTime() (time.Duration, error) {
	if p.rig != nil {
		return 0, nil
	}
	return serverTime(p.fleet.Primary())
}

// serverTime is the processor time of a PostgreSQL's processes that run now.
func serverTime(p *testbed.Postgres) (all time.Duration, err error) {
	text, err := os.ReadFile(filepath.Join(p.Dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		const parent = 1 // proc(5), after the name in brackets
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		pid := filepath.Base(filepath.Dir(path))
		if n, err := strconv.Atoi(pid); err == nil && (pid == first || fields[parent] == first) {
			all += processorTime(n)
		}
	}
	return all, nil
}

// bytesStored is what the tables and indexes take. A server on a file is down meanwhile.
func (p *place) bytesStored(ctx context.Context) (n int64, err error) {
	if p.rig == nil {
		err = p.asSuperuser(ctx, func(db *pgx.Conn) error {
			return db.QueryRow(ctx, `select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`).Scan(&n)
		})
		return n, err
	}
	err = p.onRest(ctx, func(db *sql.DB) error {
		var free, size int64
		for pragma, into := range map[string]*int64{"page_count": &n, "freelist_count": &free, "page_size": &size} {
			if err := db.QueryRowContext(ctx, "pragma "+pragma).Scan(into); err != nil {
				return err
			}
		}
		n = (n - free) * size
		return nil
	})
	return n, err
}

// forget deletes what retention would: everything but the ledger, and what that leaves empty.
func (p *place) forget(ctx context.Context) error {
	if p.rig == nil {
		return p.asSuperuser(ctx, func(db *pgx.Conn) error {
			for _, text := range []string{"delete from leases where live = 0", "delete from decisions", "vacuum full"} {
				if _, err := db.Exec(ctx, text); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return p.onRest(ctx, func(db *sql.DB) error {
		for _, text := range []string{"delete from leases where live = 0", "delete from decisions", "vacuum"} {
			if _, err := db.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// onRest works with the file while no server does.
func (p *place) onRest(ctx context.Context, work func(*sql.DB) error) error {
	p.rig.KillBroker()
	db, err := openStoreFile(p.site)
	if err != nil {
		return err
	}
	if err := errors.Join(work(db), db.Close(), p.rig.StartBroker()); err != nil {
		return err
	}
	return p.rig.Ready(ctx)
}

func (p *place) asSuperuser(ctx context.Context, work func(*pgx.Conn) error) error {
	db, err := pgx.Connect(ctx, p.fleet.Primary().Superuser(rig.StoreDatabase))
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	return work(db)
}

// written counts the bytes of the store's log until the returned function is called.
func (p *place) written(ctx context.Context) (stop func() (int64, error), err error) {
	if p.rig != nil {
		return countFrames(p.site.Path("daypass.db-shm")), nil
	}
	where := func() (at int64, err error) {
		err = p.asSuperuser(ctx, func(db *pgx.Conn) error {
			return db.QueryRow(ctx, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&at)
		})
		return at, err
	}
	before, err := where()
	return func() (int64, error) {
		after, err := where()
		return after - before, err
	}, err
}

// countFrames looks at the index of SQLite's log again and again: it says how many pages the log holds, and begins at
// none again when all were copied into the file.
func countFrames(index string) (stop func() (int64, error)) {
	const every, frame = 2 * time.Millisecond, 4096 + 24
	done, total := make(chan struct{}), make(chan int64)
	last := framesIn(index)
	go func() {
		var frames int64
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			now := framesIn(index)
			if now < last {
				last = 0
			}
			frames, last = frames+now-last, now
			select {
			case <-tick.C:
			case <-done:
				total <- frames * frame
				return
			}
		}
	}()
	return func() (int64, error) {
		close(done)
		n := <-total
		if n == 0 {
			return 0, fmt.Errorf("nothing was written to the log that %s is the index of", index)
		}
		return n, nil
	}
}

// framesIn reads mxFrame of the header of a WAL index (SQLite's file format, 2.3.1).
func framesIn(index string) int64 {
	const at = 16
	file, err := os.Open(index)
	if err != nil {
		return 0
	}
	defer file.Close()
	var word [4]byte
	if _, err := file.ReadAt(word[:], at); err != nil {
		return 0
	}
	return int64(uint32(word[0]) | uint32(word[1])<<8 | uint32(word[2])<<16 | uint32(word[3])<<24)
}
