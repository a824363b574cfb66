package httpapi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/oauth"
)

// answerTime is how long a call may take in all, the writing of its answer included. It is more than the broker
// gives the store and a target together.
const answerTime = 2 * time.Minute

// call is one request on its way through the edge. One goroutine uses it.
type call struct {
	edge   *edge
	w      http.ResponseWriter
	r      *http.Request
	id     string // the request ID
	route  string // for logs: the pattern, never the path itself
	who    admission.Caller
	status int  // of the answer; 200 unless the call says otherwise
	wrote  bool // the head of the answer is out
}

// handler wraps what serves a call with everything that all calls have: the request ID, containment of panics,
// and problems for errors.
func (e *edge) handler(serve func(*call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{edge: e, w: w, r: r, id: rand.Text(), route: r.Pattern, status: http.StatusOK}
		h := w.Header()
		h.Set(api.HeaderRequest, c.id)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		c.allow(answerTime)
		defer c.contain()
		if err := serve(c); err != nil {
			c.fail(err)
		}
	})
}

// allow gives the rest of the call this long. A connection that cannot have a deadline has the server's own.
func (c *call) allow(d time.Duration) {
	_ = http.NewResponseController(c.w).SetWriteDeadline(c.edge.Now().Add(d))
}

// contain turns a panic into an internal problem. Its value may hold anything, so only its type is told, and the
// text of errors that the runtime itself makes; the stack shows functions and addresses.
func (c *call) contain() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
		panic(p) // net/http's own way to break off an answer
	}
	what := fmt.Sprintf("%T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	c.edge.Log.Error("a request panicked", "request", c.id, "method", c.r.Method, "path", c.route, "panic", what, "stack", string(debug.Stack()))
	if c.wrote {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	c.sendProblem(problemOf(fault.New(fault.Internal, "serve", ""), c.id))
}

// answer writes out as JSON.
func (c *call) answer(out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if err := c.send("application/json", body); err != nil {
		c.edge.Log.Debug("an answer could not be written", "request", c.id, "err", err)
	}
	return nil
}

// send writes a whole answer. An error says that the client did not get all of it.
func (c *call) send(media string, body []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.wrote = true
	c.w.WriteHeader(c.status)
	if _, err := c.w.Write(body); err != nil {
		return err
	}
	if err := http.NewResponseController(c.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// meet finds out who calls: by the evidence shown where there is any, else by the connection. So a holder who comes
// over the socket with a lease token is the holder, not an administrator. Whether the evidence is good is the
// broker's to say.
func (c *call) meet() (err error) {
	if err := c.identifyRequest(); err != nil {
		return err
	}
	if c.who.Evidence.Token, c.who.Evidence.Scheme, err = oauth.Authorization(c.r.Header); err != nil {
		return err
	}
	if c.who.Evidence.Scheme == accesstoken.SchemeDPoP {
		c.offerNonce()
	}
	if !c.who.Evidence.IsZero() {
		return nil
	}
	peer, local := c.r.Context().Value(peerKey{}).(Peer)
	switch {
	case !local:
		return fault.New(fault.Unauthenticated, "read the Authorization header", "send a workload token or a lease token as Authorization: Bearer (RFC 6750 §3)")
	case !peer.MayManage:
		return fault.New(fault.Denied, "administer", fmt.Sprintf("user %d is no administrator here; see admins in daypass.yaml", peer.UID))
	}
	c.who.Local, c.who.UID = true, peer.UID
	return nil
}

// identifyRequest notes where the request comes from, and what shows that its sender holds a key. A page of another site
// has no part in that: browsers show a client certificate whoever makes them ask.
func (c *call) identifyRequest() error {
	if http.NewCrossOriginProtection().Check(c.r) != nil {
		return fault.New(fault.Denied, "read the Origin header", "a page of another site asks for this in a browser; that is not served (RFC 6454 §7)")
	}
	c.who.Origin = admission.Origin{Request: c.id, SourceIP: sourceIP(c.r, c.edge.TrustedProxies)}
	proof, err := oauth.Proof(c.r.Header)
	if err != nil {
		return err
	}
	c.who.Evidence.Proof, c.who.Evidence.Method, c.who.Evidence.URL = proof, c.r.Method, c.edge.URL+c.r.URL.EscapedPath()
	// A proxy's certificate is the proxy's: it says nothing of whoever it speaks for, and would make all of them one.
	if hop, ok := parseHop(c.r.RemoteAddr); c.r.TLS != nil && ok && !isTrusted(hop, c.edge.TrustedProxies) {
		c.who.Evidence.Chain = c.r.TLS.PeerCertificates
	}
	return nil
}

// offerNonce gives the nonce of the next proof: RFC 9449 §8.2.
func (c *call) offerNonce() {
	if nonce := c.edge.Broker.Nonce(); nonce != "" {
		c.w.Header().Set(dpop.HeaderNonce, nonce)
	}
}

// idempotencyKey returns the one Idempotency-Key, or none.
func (c *call) idempotencyKey() (string, error) {
	values := c.r.Header.Values("Idempotency-Key")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", malformed("there is more than one Idempotency-Key (RFC 9110 §5.3)")
	}
	key := values[0]
	if key == "" || len(key) > api.MaxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", malformed(fmt.Sprintf("an Idempotency-Key has 1 to %d printable ASCII characters and no space", api.MaxKey))
	}
	return key, nil
}

// query is the request's query, each name at most once and all of them known.
type query struct{ values url.Values }

func (c *call) query(known ...string) (query, error) {
	if len(c.r.URL.RawQuery) > 64<<10 {
		return query{}, malformed("the query is too long")
	}
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return query{}, malformed("the query cannot be read (RFC 3986 §2.1)")
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			if len(known) == 0 {
				return query{}, malformed("this call takes no query")
			}
			return query{}, malformed("the query has an unknown parameter; known are " + strings.Join(known, ", "))
		}
		if len(given) > 1 {
			return query{}, malformed("query parameter " + name + " is given twice")
		}
	}
	return query{values}, nil
}

func (q query) text(name string) string { return q.values.Get(name) }

// number reads a whole number from low to high, or gives what stands for none.
func (q query) number(name string, low, high, otherwise int64) (int64, error) {
	if !q.values.Has(name) {
		return otherwise, nil
	}
	text := q.text(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high || strings.HasPrefix(text, "+") {
		return 0, malformed(fmt.Sprintf("%s is a whole number from %d to %d", name, low, high))
	}
	return n, nil
}

// page reads limit and cursor of a list that is asked for nothing else.
func (c *call) page() (limit int, cursor string, err error) {
	q, err := c.query("limit", "cursor")
	if err != nil {
		return 0, "", err
	}
	return q.page()
}

// page reads limit and cursor.
func (q query) page() (limit int, cursor string, err error) {
	n, err := q.number("limit", 1, api.MaxPage, api.DefaultPage)
	cursor = q.text("cursor")
	if err == nil && len(cursor) > 200 {
		err = malformed("the cursor is not one of this list")
	}
	return int(n), cursor, err
}

// duration reads a duration up to most.
func (q query) duration(name string, most time.Duration) (time.Duration, error) {
	if !q.values.Has(name) {
		return 0, nil
	}
	d, err := api.ParseDuration(q.text(name))
	if err != nil || time.Duration(d) > most {
		return 0, malformed(fmt.Sprintf("%s is a whole number and s, m or h, at most %s", name, api.Duration(most)))
	}
	return time.Duration(d), nil
}
