// Package client talks to a Daypass server: it acquires leases, holds them and releases them, and it administers.
//
// # Getting a credential
//
// A workload needs the server's URL and its own evidence: the token that its platform gives it. It names a role
// and gets a lease with a credential:
//
//	c, err := client.New(client.Options{
//		URL:   "https://daypass.example.com",
//		Token: client.FileToken("/var/run/secrets/tokens/daypass"),
//	})
//	if err != nil { … }
//	lease, err := c.Acquire(ctx, api.AcquireRequest{Role: "orders-readonly"})
//	if err != nil { … }
//	defer lease.Release(context.WithoutCancel(ctx), 0)
//
//	db, err := pgx.Connect(ctx, lease.Credential.Secret("url").Reveal())
//
// The credential did not exist a moment ago and dies with the lease. The server shows it once and does not keep
// it; a lost answer is not a lost credential, because [Client.Acquire] asks again under the same idempotency key
// and the server replaces what it made before.
//
// # Holding it
//
// A lease lives for minutes. Work that may take longer holds it: [Lease.Hold] blocks, renews after two thirds of
// each life, and returns when the lease cannot be kept, for instance because an administrator locked it:
//
//	work, stop := context.WithCancelCause(ctx)
//	go func() { stop(lease.Hold(work)) }()
//	… use work as the context of everything that needs the credential
//
// Hold trusts no local clock: it counts on the server's Date header and on timers.
//
// Where many goroutines need the same role at the same time and the role says `share: run`, [Sharing] has them use
// one held lease together.
//
// # Errors
//
// What the server refuses is an [api.Problem]; its Code is stable and its Instance is the request ID that the
// server's log shows:
//
//	if problem, ok := errors.AsType[*api.Problem](err); ok && problem.Code == "denied" {
//		log.Printf("ask an administrator to run: daypass explain %s", problem.DecisionID)
//	}
//
// A server that cannot be reached is [ErrUnreachable], missing evidence is [ErrNoToken] or [ErrNoCertificate], and a lease that ended
// under [Lease.Hold] is a [LostError].
//
// # What it takes care of
//
// A server that gives access tokens gets the evidence once: what the calls carry from then on is a token that is
// bound to a key of this process (RFC 9449), and worth nothing to who steals it. The client asks the server's metadata
// whether it does, and falls back on the evidence itself only where the server has no token endpoint, never after a
// refusal. A fresh token is asked for, with fresh evidence, at half of the old one's life, and when a call was refused
// that an old token may be the reason for.
//
// Tokens and secret fields are [secret.Text], which cannot be logged by accident. The token goes to the URL you
// gave and nowhere else: redirects are not followed, and plain http is refused unless the host is this machine.
// Answers are bounded and calls have deadlines. A request is sent again only where that is safe: reads, releases,
// acquisitions (under their key), and what the server itself asked to repeat (429 and 503 with a time).
//
// # Administration
//
// Where the server runs, its socket needs no token: URL "unix:///run/daypass/admin.sock". The kernel tells the
// server who calls.
//
// Everything here follows the API's promise: within /v1 it only grows. The package imports api, dpop, secret and the
// standard library.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// ErrUnreachable marks errors of calls that got no answer from a Daypass server.
var ErrUnreachable = errors.New("no answer from the server")

// Options say which server to talk to and as whom. Only URL is required.
type Options struct {
	// URL is the server's address: https://host[:port][/path], http:// on this machine only, or
	// unix:///path/to/admin.sock for administration.
	URL string
	// Token gives the evidence of each call. Calls over the socket need none.
	Token TokenSource
	// Certificate gives the certificate by which a server knows the workload whose issuer is of the kind mtls or spiffe.
	// Beside a Token it is shown too, and the token says who we are. It cannot be combined with HTTP, and needs https.
	Certificate CertificateSource
	// HTTP supplies the transport, for instance one with a proxy. Its cookie jar,
	// redirect policy and timeout are not used. Nil: a transport of our own.
	HTTP *http.Client
	// CAFile holds the PEM certificates to trust instead of the system's. It cannot be combined with HTTP.
	CAFile string
	// UserAgent is sent with each call. Empty: "daypass-go".
	UserAgent string
}

// Client talks to one server. Its methods may be called concurrently.
type Client struct {
	base  *url.URL    // scheme and host of requests; for sockets a placeholder host
	shown string      // the URL as it was given: for errors
	token TokenSource // nil, or [own]
	http  *http.Client
	cert  *presenting // nil: no certificate is shown
	agent string

	socket  bool // the server is at a socket
	session *session
}

// New returns a client for o. It reads CAFile and calls nobody.
func New(o Options) (*Client, error) {
	base, socket, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(o, socket)
	if err != nil {
		return nil, err
	}
	agent := o.UserAgent
	if agent == "" {
		agent = "daypass-go"
	}
	c := &Client{
		base:    base,
		shown:   o.URL,
		agent:   agent,
		http:    &http.Client{Transport: transport, CheckRedirect: keepRedirect},
		socket:  socket != "",
		session: newSession(),
	}
	if o.Token != nil {
		c.token = own{o.Token}
	}
	if o.Certificate != nil {
		plain, ours := transport.(*http.Transport)
		if !ours || o.HTTP != nil {
			return nil, errors.New("client options: HTTP brings its own certificate, so Certificate cannot be set beside it")
		}
		if base.Scheme != "https" {
			return nil, fmt.Errorf("server URL %q: a client certificate is shown in TLS alone; use https", o.URL)
		}
		c.cert = &presenting{source: o.Certificate, plain: plain}
		c.http.Transport = c.cert
	}
	return c, nil
}

// URL returns the server's address as it was given.
func (c *Client) URL() string { return c.shown }

// keepRedirect hands a redirect back as the answer: a bearer token goes where it was addressed to.
func keepRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// parseURL returns the base of requests and, for unix URLs, the socket's path.
func parseURL(text string) (base *url.URL, socket string, err error) {
	u, err := url.Parse(text)
	if err != nil || text == "" {
		return nil, "", fmt.Errorf("server URL %q: not a URL, such as https://daypass.example.com", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, "", fmt.Errorf("server URL %q: user, query and fragment are not allowed", u.Redacted())
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return &url.URL{Scheme: "http", Host: "daypass.socket"}, u.Path, nil
	case u.Scheme == "unix":
		return nil, "", fmt.Errorf("server URL %q: write unix:// and an absolute path, such as unix:///run/daypass/admin.sock", text)
	case u.Host == "":
		return nil, "", fmt.Errorf("server URL %q: no host; write https://host[:port]", text)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}, "", nil
	case u.Scheme == "http":
		return nil, "", fmt.Errorf("server URL %q: plain http would send tokens in clear; use https (http is for this machine only)", text)
	}
	return nil, "", fmt.Errorf("server URL %q: the scheme must be https or unix", text)
}

// isLoopback reports whether host is this machine by its name or address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// newTransport returns the round tripper for o.
func newTransport(o Options, socket string) (http.RoundTripper, error) {
	if o.HTTP != nil && o.CAFile != "" {
		return nil, errors.New("client options: HTTP brings its own trust, so CAFile cannot be set beside it")
	}
	if o.HTTP != nil && o.HTTP.Transport != nil {
		return o.HTTP.Transport, nil
	}
	own := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if socket != "" {
		own.Proxy = nil
		own.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		own.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !own.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %q holds no PEM certificate", o.CAFile)
		}
	}
	return own, nil
}
