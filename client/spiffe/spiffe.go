// Package spiffe proves to a Daypass server who a workload is by what the SPIFFE Workload API gives it, with no file in
// between.
//
// [Workload] is both kinds of evidence, and a program uses one of them: a JWT-SVID for the server as [client.Options].Token, or
// the X509-SVID as [client.Options].Certificate, which the API replaces long before it expires. Neither leaves the process but to
// the server.
//
// The package imports client, secret, and the Workload API's client of go-spiffe, with gRPC: who does not import it does not
// pay for that. It reads no clock and no environment.
package spiffe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// EndpointVariable names the Workload API in the environment of a workload [SPIFFE Workload Endpoint, 4].
const EndpointVariable = workloadapi.SocketEnv

// Options say where the Workload API is and what is asked of it. Endpoint and Now are required.
type Options struct {
	// Endpoint is the Workload API, as [EndpointVariable] has it: unix:///path/to/socket or tcp://IP:PORT.
	Endpoint string
	// Audience is the server's URL exactly as its configuration writes it: JWT-SVIDs are asked for it alone.
	Audience string
	// ID is the SPIFFE ID to be known by, where the workload has more than one. Empty: the first that the API gives.
	ID string
	// Wait is for how long an API is waited for that does not answer, or does not know the workload yet, as agents do in the
	// first seconds of a workload. Zero: five seconds.
	Wait time.Duration
	Now  func() time.Time
}

// Workload is a workload as the Workload API knows it. Its methods may be called concurrently.
type Workload struct {
	options Options
	id      spiffeid.ID // zero: the first that there is
	api     *workloadapi.Client

	mu      sync.Mutex     // guards what follows
	stop    func()         // ends the watch; nil while there is none
	news    chan struct{}  // closed when something is told: an X509-SVID or a failure
	svid    *x509svid.SVID // the last one; nil before the first
	failure error          // of the watch since the last one
}

var (
	_ client.TokenSource       = (*Workload)(nil)
	_ client.CertificateSource = (*Workload)(nil)
)

// New returns a workload. It asks nobody yet.
func New(o Options) (*Workload, error) {
	w := &Workload{options: o, news: make(chan struct{})}
	if w.options.Wait == 0 {
		w.options.Wait = 5 * time.Second
	}
	var err error
	if o.ID != "" {
		if w.id, err = spiffeid.FromString(o.ID); err != nil {
			return nil, fmt.Errorf("%.200q is not a SPIFFE ID, such as spiffe://example.org/orders", o.ID)
		}
	}
	if o.Endpoint == "" || workloadapi.ValidateAddress(o.Endpoint) != nil {
		return nil, fmt.Errorf("%.200q is not the address of a Workload API: write unix:///path/to/socket or tcp://IP:PORT", o.Endpoint)
	}
	w.api, err = workloadapi.New(context.Background(), workloadapi.WithAddr(o.Endpoint), workloadapi.WithBackoffStrategy(steady{}))
	if err != nil {
		return nil, fmt.Errorf("reach the Workload API at %s: %w", o.Endpoint, err)
	}
	return w, nil
}

// Close ends what runs for the workload.
func (w *Workload) Close() error {
	w.mu.Lock()
	if w.stop != nil {
		w.stop()
	}
	w.mu.Unlock()
	return w.api.Close()
}

// Token returns a JWT-SVID for the server, fresh from the Workload API.
func (w *Workload) Token(ctx context.Context) (secret.Text, error) {
	if w.options.Audience == "" {
		return secret.Text{}, errors.New("ask for a JWT-SVID: the server that it is for is not named")
	}
	ctx, cancel := context.WithTimeout(ctx, w.options.Wait+answerTime)
	defer cancel()
	late := time.NewTimer(w.options.Wait)
	defer late.Stop()
	for pause := firstPause; ; pause *= 2 {
		svid, err := w.api.FetchJWTSVID(ctx, jwtsvid.Params{Audience: w.options.Audience, Subject: w.id})
		if err == nil {
			return secret.New(svid.Marshal()), nil
		}
		if !passing(err) {
			return secret.Text{}, w.explain("a JWT-SVID", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-late.C:
			timer.Stop()
			return secret.Text{}, w.explain("a JWT-SVID", err)
		case <-ctx.Done():
			timer.Stop()
			return secret.Text{}, w.explain("a JWT-SVID", status.FromContextError(ctx.Err()).Err())
		}
	}
}

// answerTime is how long one answer of an API may take that is there.
const answerTime = 10 * time.Second

// firstPause is after the first answer that there is nothing yet.
const firstPause = 100 * time.Millisecond

// passing reports whether an agent that answers so may answer otherwise in a moment.
func passing(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.PermissionDenied
}

// explain says what an error of the Workload API means.
func (w *Workload) explain(what string, err error) error {
	at := fmt.Sprintf("ask the Workload API at %s for %s", w.options.Endpoint, what)
	switch code := status.Code(err); code {
	case codes.PermissionDenied:
		return fmt.Errorf("%s: it knows no identity for this process, or not this one; is the workload registered with its agent?", at)
	case codes.Unavailable:
		return fmt.Errorf("%s: nobody answers; does the agent run, and is its socket here? (%s)", at, status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: no answer in time", at)
	case codes.Canceled:
		return fmt.Errorf("%s: %w", at, context.Canceled)
	case codes.Unknown: // no word of the API, but of its client
		return fmt.Errorf("%s: %w", at, err)
	default:
		return fmt.Errorf("%s: it answers %s: %s", at, code, status.Convert(err).Message())
	}
}

// Certificate returns the X509-SVID that the Workload API gave last. The first call begins to listen to it.
func (w *Workload) Certificate(ctx context.Context) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, w.options.Wait+answerTime)
	defer cancel()
	waited := time.NewTimer(w.options.Wait)
	defer waited.Stop()
	late := false
	for {
		svid, news, failure := w.watched()
		switch {
		case svid != nil:
			return w.present(svid, failure)
		case failure != nil && (late || !passing(failure)):
			return nil, w.explain("an X509-SVID", failure)
		}
		select {
		case <-news:
		case <-waited.C:
			late = true
		case <-ctx.Done():
			return nil, w.explain("an X509-SVID", status.FromContextError(ctx.Err()).Err())
		}
	}
}

// present is an X509-SVID as TLS takes it, while it is good.
func (w *Workload) present(svid *x509svid.SVID, failure error) (*tls.Certificate, error) {
	leaf := svid.Certificates[0]
	if w.options.Now().After(leaf.NotAfter) {
		err := fmt.Errorf("the X509-SVID of %s expired at %s, and there is no other", svid.ID, leaf.NotAfter.UTC().Format(time.RFC3339))
		if failure != nil {
			err = fmt.Errorf("%w: %w", err, w.explain("an X509-SVID", failure))
		}
		return nil, err
	}
	certificate := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: leaf}
	for _, c := range svid.Certificates {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate, nil
}

// watched is what the watch told last, and what is closed when it tells more. A watch that ended begins again.
func (w *Workload) watched() (*x509svid.SVID, <-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		w.stop = stop
		go func() {
			defer stop()
			err := w.api.WatchX509Context(ctx, watcher{w})
			w.mu.Lock()
			w.stop = nil
			w.mu.Unlock()
			w.tell(nil, err)
		}()
	}
	return w.svid, w.news, w.failure
}

// tell keeps what the watch says.
func (w *Workload) tell(svid *x509svid.SVID, failure error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure = failure; svid != nil {
		w.svid = svid
	}
	close(w.news)
	w.news = make(chan struct{})
}

// watcher hears the Workload API.
type watcher struct{ *Workload }

// OnX509ContextUpdate implements [workloadapi.X509ContextWatcher].
func (w watcher) OnX509ContextUpdate(all *workloadapi.X509Context) {
	for _, svid := range all.SVIDs {
		if w.id.IsZero() || svid.ID == w.id {
			w.tell(svid, nil)
			return
		}
	}
	w.tell(nil, status.Error(codes.PermissionDenied, ""))
}

// OnX509ContextWatchError implements [workloadapi.X509ContextWatcher].
func (w watcher) OnX509ContextWatchError(err error) { w.tell(nil, err) }

// steady asks an agent that went away again every second.
type steady struct{}

// NewBackoff implements [workloadapi.BackoffStrategy].
func (s steady) NewBackoff() workloadapi.Backoff { return s }

// Next implements [workloadapi.Backoff].
func (steady) Next() time.Duration { return time.Second }

// Reset implements [workloadapi.Backoff].
func (steady) Reset() {}
