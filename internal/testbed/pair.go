package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is what a standby calls itself at its primary. pg_basebackup has another name, so that no commit takes
// a copy in the making for a standby.
const standbyName = "standby"

// Pair is a primary and its standby, in two places that keep their ports: whoever knows both finds the one that takes
// writes. While Synchronous, a commit is answered when both have it, so that a promotion loses nothing that was
// answered. Its methods are for one goroutine at a time.
type Pair struct {
	Places [2]int // the ports

	servers [2]*Postgres // nil where none runs
	primary int
}

// StartPair starts a primary and a standby that follows it.
func StartPair(ctx context.Context, opt PostgresOptions) (p *Pair, err error) {
	p = &Pair{}
	if p.servers[0], err = StartPostgres(ctx, opt); err != nil {
		return nil, err
	}
	p.Places[0] = p.servers[0].Port
	if p.Places[1], err = freePort(); err == nil {
		err = p.Follow(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Primary is the server that takes writes.
func (p *Pair) Primary() *Postgres { return p.servers[p.primary] }

// Safe reports whether there is a standby to promote.
func (p *Pair) Safe() bool { return p.servers[1-p.primary] != nil }

// Follow makes a standby of the primary in the free place, and from then on commits wait for it.
func (p *Pair) Follow(ctx context.Context) error {
	standby, err := p.Primary().standby(ctx, p.Places[1-p.primary])
	if err != nil {
		return fmt.Errorf("make a standby: %w", err)
	}
	p.servers[1-p.primary] = standby
	return p.synchronize(ctx)
}

// Leave makes commits wait for nobody.
func (p *Pair) Leave(ctx context.Context) error {
	return p.Primary().Exec(ctx, "postgres", "alter system reset synchronous_standby_names", "select pg_reload_conf()")
}

// FailOver kills the primary as a power cut does, and has the standby take its place, which may be halted. Commits wait for a standby that
// is not there until Follow or Leave.
func (p *Pair) FailOver(ctx context.Context) error {
	if !p.Safe() {
		return errors.New("there is no standby to promote")
	}
	if err := p.Primary().Kill(ctx); err != nil {
		return err
	}
	dead := p.Primary()
	p.servers[p.primary], p.primary = nil, 1-p.primary
	if p.Primary().halted() {
		if err := p.Primary().Start(ctx); err != nil {
			return err
		}
	}
	return errors.Join(p.Primary().Exec(ctx, "postgres", "select pg_promote(true, 30)"), dead.Stop())
}

// HaltStandby stops the standby, and commits wait; ResumeStandby runs it again.
func (p *Pair) HaltStandby(ctx context.Context) error { return p.servers[1-p.primary].Halt(ctx) }

// ResumeStandby runs a standby that was halted, and returns when it has everything.
func (p *Pair) ResumeStandby(ctx context.Context) error {
	if err := p.servers[1-p.primary].Start(ctx); err != nil {
		return err
	}
	return p.synchronize(ctx)
}

// Stop ends both and removes their data.
func (p *Pair) Stop() (err error) {
	for _, server := range p.servers {
		if server != nil {
			err = errors.Join(err, server.Stop())
		}
	}
	return err
}

// synchronize makes commits wait for the standby, and returns when it has all that came before.
func (p *Pair) synchronize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := p.Primary().Exec(ctx, "postgres", "alter system set synchronous_standby_names = '"+standbyName+"'", "select pg_reload_conf()"); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, p.Primary().Superuser("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// Twice, with a pause: a commit may still be answered by the old setting while the new one is being read.
	for range 2 {
		var now string
		if err := conn.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text from pg_sleep(0.3)").Scan(&now); err != nil {
			return err
		}
		for has := false; !has; {
			err := conn.QueryRow(ctx, `select exists (select from pg_stat_replication where application_name = $1 and sync_state = 'sync'
				and flush_lsn >= $2::text::pg_lsn) from pg_sleep(0.02)`, standbyName, now).Scan(&has)
			if err != nil {
				return fmt.Errorf("wait for the standby: %w", err)
			}
		}
	}
	return nil
}

// standby runs a copy of p that follows it.
func (p *Postgres) standby(ctx context.Context, port int) (s *Postgres, err error) {
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	s = &Postgres{Version: p.Version, Host: p.Host, Port: port, Dir: dir, bin: p.bin, owner: p.owner, password: p.password}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.owner.change {
		if err := os.Chown(dir, int(s.owner.uid), int(s.owner.gid)); err != nil {
			return nil, err
		}
	}
	for i := 0; i < len(p.flags); i += 2 {
		if name, _, _ := strings.Cut(p.flags[i+1], "="); name != "unix_socket_directories" && name != "primary_conninfo" {
			s.flags = append(s.flags, "-c", p.flags[i+1])
		}
	}
	way := "host=" + p.Host + " port=" + strconv.Itoa(p.Port) + " user=postgres password=" + p.password
	s.flags = append(s.flags, "-c", "unix_socket_directories="+dir, "-c", "primary_conninfo="+way+" application_name="+standbyName)
	copying := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_basebackup"), "-D", s.data(), "-d", way, "-X", "stream", "-c", "fast", "--no-sync")
	copying.SysProcAttr = attributes(s.owner.uid, s.owner.gid, s.owner.change)
	copying.Dir, copying.Env = dir, s.environment()
	if out, err := copying.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if err := s.write("data/standby.signal", ""); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// halted reports whether the server does not run.
func (p *Postgres) halted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd == nil
}
