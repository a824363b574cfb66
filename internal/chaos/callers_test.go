package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/secret"
)

const (
	answerTime = 12 * time.Second // how long a caller waits for an answer
	tryTime    = 5 * time.Second  // and for the target
	renewal    = time.Minute      // what callers ask for: more than any of them was given first, so that it never shortens
)

// record is what one caller knows of a lease that it was given.
type record struct {
	life
	replica string
	receipt string
	url     secret.Text // of the credential
	token   secret.Text
	until   time.Time // as told last
}

// records are what all callers know.
type records struct {
	mu       sync.Mutex // guards what follows, and each record
	leases   map[string]*record
	twice    []string       // leases that were handed out again
	problems map[string]int // requests that were refused or lost, by code
}

func (r *records) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// caller is a workload: one principal that goes from replica to replica.
type caller struct {
	w       *world
	name    string
	random  *rand.Rand
	clients []*client.Client // one for each replica
}

func newCaller(w *world, n int, seed uint64) (*caller, error) {
	c := &caller{w: w, name: strconv.Itoa(n), random: rand.New(rand.NewPCG(seed, uint64(n)+1))}
	for _, r := range w.fleet.Replicas {
		one, err := w.fleet.Workload(c.name, r)
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, one)
	}
	return c, nil
}

// anywhere is a random replica.
func (c *caller) anywhere() (*client.Client, *rig.Replica) {
	i := c.random.IntN(len(c.clients))
	return c.clients[i], c.w.fleet.Replicas[i]
}

// run works until ctx ends. What is held then is left to whoever audits.
func (c *caller) run(ctx context.Context) {
	for ctx.Err() == nil {
		l := c.acquire(ctx)
		if l == nil {
			c.idle(ctx, 200*time.Millisecond)
			continue
		}
		c.try(ctx, l)
		c.use(ctx, l)
	}
}

// use holds a lease for a while and then ends it or lets it expire.
func (c *caller) use(ctx context.Context, l *record) {
	for range c.random.IntN(4) {
		c.idle(ctx, 1500*time.Millisecond)
		switch c.random.IntN(4) {
		case 0:
			c.renew(ctx, l)
		case 1:
			c.try(ctx, l)
		default:
			c.read(ctx, l)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if c.random.IntN(3) > 0 {
		c.release(ctx, l)
	} else if left := time.Until(l.until); left < 12*time.Second {
		c.w.pause(ctx, left+time.Duration(c.random.IntN(2000))*time.Millisecond) // it expires
	}
	for range c.random.IntN(3) {
		c.read(ctx, l)
		c.try(ctx, l)
	}
}

func (c *caller) idle(ctx context.Context, most time.Duration) {
	c.w.pause(ctx, time.Duration(c.random.Int64N(int64(most))))
}

func (c *caller) acquire(ctx context.Context) *record {
	at, replica := c.anywhere()
	role := []string{"grants-fast", "member-fast"}[c.random.IntN(2)]
	ttl := api.Duration(time.Duration(5+c.random.IntN(40)) * time.Second)
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	asked := time.Now()
	got, err := at.Acquire(ctx, api.AcquireRequest{Role: role, TTL: &ttl})
	told := time.Now()
	if c.w.failed("acquire", err) {
		return nil
	}
	info := got.Info()
	l := &record{
		life:    life{id: got.ID(), promises: []promise{{told, info.ExpiresAt.Time}}, seen: []observation{{asked, told, info.State, replica.Name}}},
		replica: replica.Name, receipt: got.Receipt, url: got.Credential.Secret("url"), token: got.Token(), until: info.ExpiresAt.Time,
	}
	c.w.records.change(func() {
		if other := c.w.records.leases[l.id]; other != nil {
			c.w.records.twice = append(c.w.records.twice, fmt.Sprintf("%s by %s and %s", l.id, other.replica, l.replica))
		}
		c.w.records.leases[l.id] = l
	})
	return l
}

// ask puts one question about a lease to a random replica and records the answer.
func (c *caller) ask(ctx context.Context, what string, l *record, question func(context.Context, *client.Lease) (api.Lease, error)) (api.Lease, bool) {
	at, replica := c.anywhere()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	o := observation{asked: time.Now(), by: what + " at " + replica.Name}
	info, err := question(ctx, at.Handle(l.id, l.token))
	o.told, o.what = time.Now(), info.State
	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "not_found" {
		o.what, err = missing, nil
	}
	if c.w.failed(what, err) {
		return info, false
	}
	c.w.records.change(func() { l.seen = append(l.seen, o) })
	return info, o.what != missing
}

func (c *caller) read(ctx context.Context, l *record) {
	c.ask(ctx, "read", l, func(ctx context.Context, h *client.Lease) (api.Lease, error) { return h.Read(ctx) })
}

func (c *caller) renew(ctx context.Context, l *record) {
	ttl := api.Duration(renewal)
	info, ok := c.ask(ctx, "renew", l, func(ctx context.Context, h *client.Lease) (api.Lease, error) { return h.Renew(ctx, &ttl) })
	if ok {
		c.w.records.change(func() {
			l.promises, l.until = append(l.promises, promise{time.Now(), info.ExpiresAt.Time}), info.ExpiresAt.Time
		})
	}
}

func (c *caller) release(ctx context.Context, l *record) {
	c.w.ending(l)
	wait := time.Duration(c.random.IntN(2)) * 10 * time.Second
	c.ask(ctx, "release", l, func(ctx context.Context, h *client.Lease) (api.Lease, error) { return h.Release(ctx, wait) })
}

// try opens the target with a lease's credential, and records what the target says of it. One that cannot be asked
// says nothing.
func (c *caller) try(ctx context.Context, l *record) {
	if o, told := tryCredential(ctx, l.url); told {
		c.w.records.change(func() { l.seen = append(l.seen, o) })
	}
}

func tryCredential(ctx context.Context, url secret.Text) (o observation, told bool) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	o = observation{asked: time.Now(), what: opens, by: "the target"}
	db, err := pgx.Connect(ctx, url.Reveal())
	o.told = time.Now()
	if err == nil {
		_ = db.Close(context.WithoutCancel(ctx)) // it was only a trial
		return o, true
	}
	o.what = refused
	said, ok := errors.AsType[*pgconn.PgError](err)
	return o, ok && strings.HasPrefix(said.Code, "28") // the others say how the server is
}
