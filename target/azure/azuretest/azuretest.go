// Package azuretest is a stand-in for Azure, for tests: Entra's token endpoint, what Microsoft Graph has of applications,
// service principals, federated credentials and deleted items, the Resource Manager's role assignments, and one thing to do
// with a token, which is to read or delete a resource group.
//
// It is not the real thing. It was written by Microsoft's published reference of these services, and knows of them what
// Daypass's targets use. What it is strict about: assertions are verified by our published keys and have to fit a federated
// credential, an application may change what it made and nothing else, only who may assign roles assigns them, and only the
// roles that it may, deleted objects stay in the directory's deleted items and count, and unique names are unique. Tokens live
// on until they expire, whoever deletes what. Tests switch on that it shows changes late.
package azuretest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what a stand-in needs.
type Config struct {
	Tenant  string
	Manager string // the client ID of the application that manages
	Issuer  string // ours
	// Verify verifies a token of ours for an audience.
	Verify func(token, audience string) (subject, id string, err error)
	Now    func() time.Time
}

// Cloud is one stand-in. Its methods may be called concurrently.
type Cloud struct {
	cfg Config
	mux *http.ServeMux

	mu          sync.Mutex // guards what follows
	life        time.Duration
	apps        []*object
	principals  []*object
	deleted     []*object
	assignments map[string]*assignment // by their ID, in lower case
	grants      map[string][]string    // of the manager: scope, in lower case, to the roles that it may assign there
	graph       bool                   // the manager may use Graph
	tokens      map[string]token
	entra       Entra
	owners      map[string]string // the application of each service principal that ever was
	counter     int
	lag         int
	settle      time.Duration
	asked       int
	url         string
}

// object is an application or a service principal.
type object struct {
	kind        string // application or servicePrincipal
	id, appID   string
	unique      string
	display     string
	description string
	notes       string
	owner       string                // the client ID of who made it
	federated   map[string]federation // of an application, by name
	hidden      int                   // looks that do not show it yet
}

type federation struct {
	issuer, subject string
	audiences       []any
	hidden          int
}

type assignment struct {
	id, scope, role, principal, description string
	removed                                 time.Time // zero while it counts
}

type token struct {
	appID, audience, name string
	expires               time.Time
}

// New returns a stand-in whose manager trusts a subject of ours, may use Graph for what it owns, and may assign these roles
// at these scopes.
func New(cfg Config, subject string, grants map[string][]string) *Cloud {
	c := &Cloud{
		cfg: cfg, mux: http.NewServeMux(), life: time.Hour, assignments: map[string]*assignment{}, grants: map[string][]string{},
		tokens: map[string]token{}, owners: map[string]string{}, graph: true,
	}
	for scope, roles := range grants {
		c.grants[strings.ToLower(scope)] = roles
	}
	c.Application(cfg.Manager, subject)
	c.routes()
	return c
}

// Application makes an application that tests own, with a service principal, which trusts subjects of ours.
func (c *Cloud) Application(clientID string, subjects ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	app := &object{kind: "application", id: c.guid(), appID: clientID, display: "test " + clientID, owner: "tests", federated: map[string]federation{}}
	for i, s := range subjects {
		app.federated[fmt.Sprint(i)] = federation{issuer: c.cfg.Issuer, subject: s, audiences: []any{audience}}
	}
	c.apps = append(c.apps, app)
	c.enlist(&object{kind: "servicePrincipal", id: c.guid(), appID: clientID, display: app.display, owner: "tests"})
}

// Impostor makes an application as any user may: of a name to show like another's, and without a unique one.
func (c *Cloud) Impostor(display, notes string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apps = append(c.apps, &object{kind: "application", id: c.guid(), appID: c.guid(), display: display, notes: notes, owner: "a user"})
}

func (c *Cloud) enlist(principal *object) {
	c.principals = append(c.principals, principal)
	c.owners[principal.id] = principal.appID
}

// audience is `aud` of the assertions that Entra takes.
const audience = "api://AzureADTokenExchange"

// Assign gives a role to an application of tests.
func (c *Cloud) Assign(clientID, scope, role string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := strings.ToLower(scope) + "/providers/microsoft.authorization/roleassignments/" + c.guid()
	c.assignments[id] = &assignment{id: id, scope: strings.ToLower(scope), role: role, principal: c.principal(clientID).id}
}

// Life sets how long tokens live.
func (c *Cloud) Life(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = d
}

// Lag hides each new object from the next looks.
func (c *Cloud) Lag(looks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = looks
}

// Settle lets a role assignment that was deleted count for a time.
func (c *Cloud) Settle(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle = d
}

// Demote takes what the manager may do away.
func (c *Cloud) Demote() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.graph, c.grants = false, map[string][]string{}
}

// Distrust takes the federated credentials of an application away.
func (c *Cloud) Distrust(clientID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.application(clientID).federated = map[string]federation{}
}

// Asked counts the requests.
func (c *Cloud) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// Objects names what there is whose display name begins so: applications that have not ended, service principals, role
// assignments, and what waits in deleted items.
func (c *Cloud) Objects(prefix string) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range slices.Concat(c.apps, c.principals, c.deleted) {
		if strings.HasPrefix(o.display, prefix) && (o.kind != "application" || o.notes == "" || slices.Contains(c.deleted, o)) {
			all = append(all, o.kind+" "+o.display)
		}
	}
	for _, a := range c.assignments {
		if a.removed.IsZero() && strings.HasPrefix(a.description, prefix) {
			all = append(all, "assignment at "+a.scope)
		}
	}
	return all
}

// Applications are those whose display name begins so, each with its description and its notes.
func (c *Cloud) Applications(prefix string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]string{}
	for _, o := range c.apps {
		if strings.HasPrefix(o.display, prefix) {
			all[o.display] = o.description + " " + o.notes
		}
	}
	return all
}

// Delete deletes an application as somebody else would, into deleted items.
func (c *Cloud) Delete(display string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.apps {
		if o.display == display {
			c.drop(o)
			return
		}
	}
}

// Who tells of a token that is taken now: the application, and the ID of the token of ours that it was given for.
func (c *Cloud) Who(text string) (clientID, name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.token(text)
	return t.appID, t.name, err
}

// Tokens reports whether a token that was given for a token of ours of this ID is taken now.
func (c *Cloud) Tokens(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for text, t := range c.tokens {
		if _, err := c.token(text); err == nil && t.name == id {
			return true
		}
	}
	return false
}

func (c *Cloud) guid() string {
	c.counter++
	sum := sha256.Sum256(fmt.Append(nil, c.counter))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// refusal is an error of Microsoft's.
type refusal struct {
	status     int
	code, text string
}

func (r refusal) Error() string { return r.text }

func missing(what string) error {
	return refusal{http.StatusNotFound, "Request_ResourceNotFound", "Resource '" + what + "' does not exist or one of its queried reference-property objects are not present."}
}

func forbidden() error {
	return refusal{http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."}
}

// ServeHTTP answers a request.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	c.url = scheme + r.Host
	c.mux.ServeHTTP(w, r)
}

// answer is a status and what is written as JSON, nothing where it is nil.
type answer struct {
	status int
	body   any
}

func ok(body any) (answer, error) { return answer{http.StatusOK, body}, nil }

func done() (answer, error) { return answer{http.StatusNoContent, nil}, nil }

// handle serves one method.
func (c *Cloud) handle(pattern string, serve func(r *http.Request, body map[string]any) (answer, error)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{}
		if r.Header.Get("Content-Type") == "application/json" {
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				body = nil
			}
		}
		w.Header().Set("Content-Type", "application/json")
		out, err := serve(r, body)
		if err != nil {
			refused, ok := errors.AsType[refusal](err)
			if !ok {
				refused = refusal{http.StatusBadRequest, "Request_BadRequest", err.Error()}
			}
			out = answer{refused.status, map[string]any{"error": map[string]any{"code": refused.code, "message": refused.text}}}
			if strings.HasSuffix(pattern, "/token") {
				out.body = map[string]any{"error": refused.code, "error_description": refused.text}
			}
		}
		w.WriteHeader(out.status)
		if out.body != nil {
			_ = json.NewEncoder(w).Encode(out.body) // the caller may have gone
		}
	})
}

// token is one that is taken now: deleting what it is of does not end it.
func (c *Cloud) token(text string) (token, error) {
	t, ok := c.tokens[text]
	if !ok || !c.cfg.Now().Before(t.expires) {
		return t, refusal{http.StatusUnauthorized, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."}
	}
	return t, nil
}

// bearer is the token of a request, which has to be for a resource.
func (c *Cloud) bearer(r *http.Request, resource string) (token, error) {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t, err := c.token(text)
	if err == nil && t.audience != resource {
		err = refusal{http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience."}
	}
	return t, err
}

func (c *Cloud) application(appID string) *object {
	for _, o := range c.apps {
		if o.appID == appID {
			return o
		}
	}
	return nil
}

func (c *Cloud) principal(appID string) *object {
	for _, o := range c.principals {
		if o.appID == appID {
			return o
		}
	}
	return nil
}

func hide(looks *int) bool {
	if *looks > 0 {
		*looks--
		return true
	}
	return false
}

// configuration is what clients read before they ask for tokens.
func (c *Cloud) configuration(*http.Request, map[string]any) (answer, error) {
	at := c.url + "/" + c.cfg.Tenant
	return ok(map[string]any{
		"issuer": at + "/v2.0", "token_endpoint": at + "/oauth2/v2.0/token", "authorization_endpoint": at + "/oauth2/v2.0/authorize",
	})
}
