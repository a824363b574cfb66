// Package httpapi is the HTTP edge: it decodes strictly, names the caller, asks the broker, and answers with JSON
// or a problem document (RFC 9457).
//
// It promises:
//
//   - A credential leaves in one answer only, written in one place (wire.go). Requests, errors, panics and logs
//     never hold it, and an answer that could not be written ends its lease.
//   - Everything that a stranger sends is bounded, and what two readers could read differently is refused: unknown
//     or repeated names, trailing data, bytes that are not UTF-8. What was wrong is named, never quoted.
//   - Every call has a request ID, in its answer, its problem and its log line.
//   - Local administration is a property of the connection ([Peer]) that no header can claim.
//
// The calls are one table (routes.go), from which the OpenAPI document is made. What OAuth clients say and are told is in
// their language (internal/oauth); what is done about it is as for everybody. The package decides nothing: who
// may do what is the broker's business. It must not import concrete targets or issuers, and reads no clock.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/revoker"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/trace"
)

// Config is what the edge needs. All fields but TrustedProxies, Tracer and Refused are required.
type Config struct {
	Guard   *admission.Guard
	Broker  *broker.Broker
	Devices *enrolment.Register
	Posture *posture.Records
	Fleet   *revoker.Fleet // for the checks of targets
	Store   *store.Store   // the ledger is read from it, and nothing else
	Metrics prometheus.Gatherer
	// Documents are what our issuer publishes.
	Documents func(context.Context) ([]issuer.Document, error)
	// URL is our own, and IssuerURL what our issuer calls itself.
	URL, IssuerURL string
	// OAuth counts the answers of the OAuth endpoints, by endpoint and code of RFC 6749, or ok.
	OAuth func(endpoint, outcome string)
	// Problem counts the problems that other calls are answered with, by code: one of [Codes].
	Problem func(code string)
	// Refused hears where a request came from whose evidence was missing or not accepted. It returns at once. nil: nobody
	// wants to know.
	Refused func(from netip.Addr)
	// Status tells how the broker and its parts are doing; who may ask is checked before.
	Status func(context.Context) (api.Status, error)
	// Ready returns why no lease can be acquired now, a sentence each; nothing when it can.
	Ready func(context.Context) []string
	// TrustedProxies are believed about where a request came from. See [sourceIP].
	TrustedProxies []netip.Prefix
	// Tracer takes up the traces that callers are in; nil where nothing is traced.
	Tracer *trace.Tracer
	Now    func() time.Time
	Log    *slog.Logger
}

// Peer is what the kernel tells of who connected to the administration socket.
type Peer struct {
	UID       uint32
	MayManage bool // the user is an administrator
}

type peerKey struct{}

// WithPeer returns the context of a connection to the administration socket. Connections without it, all of TCP,
// are never local.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// edge is the handler.
type edge struct {
	Config
	mux     *http.ServeMux
	metrics http.Handler
	openapi []byte
}

// New returns the handler of all calls. It serves the TCP listener and the socket alike.
func New(cfg Config) http.Handler {
	cfg.Log = boundRefusals(cfg.Log)
	e := &edge{Config: cfg, mux: http.NewServeMux(), metrics: metricsHandler(cfg.Metrics)}
	table := e.routes()
	methods := map[string][]string{}
	for _, r := range table {
		e.mux.Handle(r.method+" "+r.path, e.handler(r.guarded()))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for pattern, allowed := range methods {
		refuse := refuseMethod(allowed)
		if endpoint, ok := oauthEndpoints()[pattern]; ok {
			refuse = inOAuth(endpoint, refuse)
		}
		e.mux.Handle(pattern, e.handler(refuse))
	}
	e.mux.Handle("/", e.handler(func(*call) error { return unknownPath() }))
	e.openapi = document(table)
	return e
}

// ServeHTTP answers one request. Paths that the multiplexer would redirect are unknown instead: nobody who sends a
// token should be sent elsewhere with it.
func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isClean(r.URL.Path) {
		e.handler(func(*call) error { return unknownPath() }).ServeHTTP(w, r)
		return
	}
	e.mux.ServeHTTP(w, r)
}

// isClean reports whether the mux takes a path as it is. Another one it would answer with a redirect.
func isClean(p string) bool {
	clean := path.Clean(p)
	return strings.HasPrefix(p, "/") && (clean == p || clean != "/" && clean+"/" == p)
}
