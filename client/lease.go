package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// Lease is a lease that this process holds. Its methods may be called concurrently.
type Lease struct {
	// Credential opens the target until the lease ends. It is empty on a handle made by [Client.Handle].
	Credential Credential
	// Receipt is the server's signed promise that its ledger holds this lease. Keep it where the server cannot
	// reach: `daypass ledger verify --against` checks it offline.
	Receipt string
	// Clamped says that the role allows less than the ttl that was asked for.
	Clamped bool

	client *Client
	token  secret.Text
	ttl    *api.Duration // as asked for; renewals ask for the same

	mu   sync.Mutex
	info api.Lease // guarded by mu: as the server last told
}

// AcquireOption changes how [Client.Acquire] asks.
type AcquireOption func(*call)

// WithIdempotencyKey asks under a key of the caller's, up to [api.MaxKey] printable characters: when the same
// principal asks again under it, the earlier lease ends and a fresh one takes its place. Without this option each
// Acquire has a random key, which covers its own repetitions only.
func WithIdempotencyKey(key string) AcquireOption {
	return func(k *call) { k.header.Set("Idempotency-Key", key) }
}

// Acquire asks for a lease of a role. The lease is live when it returns; release it when the work is done.
func (c *Client) Acquire(ctx context.Context, r api.AcquireRequest, options ...AcquireOption) (*Lease, error) {
	k := call{method: http.MethodPost, path: "/v1/leases", body: r, as: c.token, header: http.Header{}, safe: true}
	WithIdempotencyKey(secret.Random().Reveal())(&k) // random, but no secret: it only names the request
	for _, option := range options {
		option(&k)
	}
	var got api.Acquired
	if _, err := c.do(ctx, k, &got); err != nil {
		return nil, fmt.Errorf("acquire role %q: %w", r.Role, err)
	}
	if got.Lease.ID == "" || got.LeaseToken == "" {
		return nil, fmt.Errorf("acquire role %q: the answer of %s holds no lease", r.Role, c.shown)
	}
	return &Lease{
		Credential: newCredential(got.Credential),
		Receipt:    got.Receipt,
		Clamped:    got.Clamped,
		client:     c,
		token:      secret.New(got.LeaseToken),
		ttl:        r.TTL,
		info:       got.Lease,
	}, nil
}

// Handle returns a handle of a lease that was acquired elsewhere. With an empty token calls carry the client's
// own evidence, which does for the holder and, where policies allow it, for administrators. Nobody is called.
func (c *Client) Handle(id string, token secret.Text) *Lease {
	return &Lease{client: c, token: token, info: api.Lease{ID: id}}
}

// ID returns the lease's ID.
func (l *Lease) ID() string { return l.Info().ID }

// Token returns the lease token: it reads and releases this lease, and renews it where its role says so.
func (l *Lease) Token() secret.Text { return l.token }

// Info returns what the server last told about the lease, without asking again.
func (l *Lease) Info() api.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.info
}

// keep remembers what the server told.
func (l *Lease) keep(info api.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.info = info
}

// Read asks the server how the lease is.
func (l *Lease) Read(ctx context.Context) (api.Lease, error) {
	info, _, err := l.read(ctx)
	return info, err
}

// read is Read with the server's time of the answer.
func (l *Lease) read(ctx context.Context) (info api.Lease, date time.Time, err error) {
	got, err := l.client.do(ctx, call{method: http.MethodGet, path: l.path(), as: l.holder(), safe: true}, &info)
	if err != nil {
		return info, date, fmt.Errorf("read lease %s: %w", l.ID(), err)
	}
	l.keep(info)
	return info, got.date, nil
}

// Renew makes the lease live for ttl from now, or for the role's default when ttl is nil, within the role's
// maximum. It shows fresh evidence where the client has any and falls back on the lease token, with which some
// roles allow renewals.
func (l *Lease) Renew(ctx context.Context, ttl *api.Duration) (api.Lease, error) {
	info, _, err := l.renew(ctx, ttl)
	return info, err
}

// renew is Renew with the server's time of the answer.
func (l *Lease) renew(ctx context.Context, ttl *api.Duration) (info api.Lease, date time.Time, err error) {
	k := call{method: http.MethodPost, path: l.path("renew"), body: api.RenewRequest{TTL: ttl}, as: l.client.token, safe: true}
	proves := l.client.token != nil || l.client.cert != nil
	if !proves {
		k.as = bearer(l.token)
	}
	got, err := l.client.do(ctx, k, &info)
	if isUnproven(err) && proves && !l.token.IsZero() {
		k.as = bearer(l.token)
		var second error
		if got, second = l.client.do(ctx, k, &info); second == nil {
			err = nil
		}
	}
	if err != nil {
		return info, date, fmt.Errorf("renew lease %s: %w", l.ID(), err)
	}
	l.keep(info)
	return info, got.date, nil
}

// isUnproven reports whether a call failed because our evidence is none, is bad, or is not the holder's: another
// job of a pipeline has another subject.
func isUnproven(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	return errors.Is(err, ErrNoToken) || errors.Is(err, ErrNoCertificate) || ok && (problem.Status == http.StatusUnauthorized || problem.Status == http.StatusNotFound)
}

// Release ends the lease and with it the credential. With a wait, at most [api.MaxWait], the server answers when
// the target has proved the credential's death or the time is over: see the State of the result. Releasing again
// does no harm.
func (l *Lease) Release(ctx context.Context, wait time.Duration) (api.Lease, error) {
	k := call{method: http.MethodDelete, path: l.path(), as: l.holder(), wait: wait, safe: true}
	if wait > 0 {
		k.query = url.Values{"wait": {api.Duration(max(wait, time.Second)).String()}}
	}
	info := l.Info()
	if _, err := l.client.do(ctx, k, &info); err != nil {
		return info, fmt.Errorf("release lease %s: %w", l.ID(), err)
	}
	l.keep(info)
	return info, nil
}

// holder is who reads and releases: the lease token, and the client's own evidence where there is none.
func (l *Lease) holder() TokenSource {
	if !l.token.IsZero() {
		return bearer(l.token)
	}
	return l.client.token
}

// path returns the path of the lease or of something below it.
func (l *Lease) path(below ...string) string {
	return path(append([]string{"v1", "leases", l.ID()}, below...)...)
}
