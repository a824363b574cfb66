package postgres

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/daypass/daypass/target"
)

// quiet is how long a line may say nothing before we ask elsewhere what has become of it.
const quiet = 2 * time.Second

// line is the way to a backend. On it an answer can get lost without anybody hanging up: whatever stands between us
// and the server (a proxy, a firewall, an address that moves) forgets the connection. Waiting for a limit would take
// as long as the slowest honest statement. So that, where nothing comes for a while, the server is asked by another
// way: while it works, we wait on; when it waits for us as we wait for it, the line is closed. What became of the
// request is then as unknown as after any other loss, and is settled in the same ways.
type line struct {
	net.Conn
	atWork atomic.Pointer[atWork] // nil: nobody can be asked yet
	lost   atomic.Bool            // we closed it
}

// atWork reports whether a backend works on what it was told.
type atWork func(context.Context) (bool, error)

// lostError is what a line says that was closed in doubt. The driver keeps the cause of a failure only when it is
// a timeout, which this is.
type lostError struct{}

func (lostError) Error() string   { return "the server waits for us, and its answer has not come" }
func (lostError) Timeout() bool   { return true }
func (lostError) Temporary() bool { return false }
func (lostError) Unwrap() error   { return target.ErrUnreachable }

var _ net.Error = lostError{}

// dialLine makes a line. Idle ones are kept known to whatever forgets connections that nothing passes on, and one
// whose other end is gone shows before it is used.
func dialLine(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}}
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &line{Conn: raw}, nil
}

// doubt makes the line of c ask in times of silence.
func (c *conn) doubt(ask atWork) {
	raw := c.PgConn().Conn()
	if encrypted, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = encrypted.NetConn()
	}
	raw.(*line).atWork.Store(&ask)
}

// Read waits for the server. The driver reads only when it is owed an answer.
func (l *line) Read(b []byte) (int, error) {
	if ask := l.atWork.Load(); ask != nil {
		ctx, cancel := context.WithCancel(context.Background())
		timer := time.AfterFunc(quiet, func() { l.watch(ctx, *ask) })
		defer func() { timer.Stop(); cancel() }()
	}
	n, err := l.Conn.Read(b)
	if err != nil && l.lost.Load() {
		err = lostError{}
	}
	return n, err
}

// watch asks again and again until the read that waits has ended, and ends it when it waits in vain. A server that
// cannot be asked tells nothing: the limits of the operation hold then.
func (l *line) watch(ctx context.Context, ask atWork) {
	for {
		if working, err := ask(ctx); err == nil && !working && ctx.Err() == nil {
			l.lost.Store(true)
			l.Close()
			return
		}
		if wait(ctx, quiet) != nil {
			return
		}
	}
}

// atWork asks, on a connection of its own, whether a backend does anything but wait for its client.
func (d *dialer) atWork(ctx context.Context, pid uint32, started time.Time) (working bool, err error) {
	c, err := d.connect(ctx, "")
	if err != nil {
		return false, err
	}
	defer c.hangUp()
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	err = c.QueryRow(ctx, `select exists (select from pg_stat_activity
		where pid = $1 and backend_start = $2 and wait_event is distinct from 'ClientRead')`, int32(pid), started).Scan(&working)
	return working, err
}

// connect makes a connection. Answers get lost here too, and there is nobody to ask yet: after a silence it begins
// anew beside the first try, which may still come through, and takes the one that is there first.
func (d *dialer) connect(ctx context.Context, database string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	type outcome struct {
		c   *conn
		err error
	}
	outcomes := make(chan outcome)
	try := func() {
		c, err := d.try(ctx, database)
		select {
		case outcomes <- outcome{c, err}:
		case <-ctx.Done():
			if err == nil {
				c.hangUp()
			}
		}
	}
	go try()
	again := time.AfterFunc(quiet, try)
	defer again.Stop()
	select {
	case first := <-outcomes:
		return first.c, first.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	}
}
