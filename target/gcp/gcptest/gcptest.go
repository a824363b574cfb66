// Package gcptest is a stand-in for Google Cloud, for tests: the Security Token Service, the IAM Service Account Credentials
// API, IAM's service accounts, policies of projects and buckets, and one thing to do with a token, which is to list or delete
// a bucket's objects.
//
// It is not the real thing. It was written by Google's published reference of these services, and knows of them what
// Daypass's targets use. What it is strict about: our tokens are verified by their published keys, a caller may do what a
// policy gives it and nothing else, conditions are evaluated, policies are written with the etag that they were read with,
// members have to exist, and deleted accounts stay in policies as deleted ones. Tests switch on that it shows changes late.
package gcptest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is what a stand-in needs.
type Config struct {
	Provider string // the pool provider, as in Google's audiences
	Manager  string // the address of the account that manages
	Project  string // where accounts are made, by its ID
	// Verify verifies a token of ours for an audience.
	Verify func(token, audience string) (subject, id string, err error)
	Now    func() time.Time
}

// Cloud is one stand-in. Its methods may be called concurrently.
type Cloud struct {
	cfg Config
	mux *http.ServeMux

	mu       sync.Mutex // guards what follows
	accounts map[string]*account
	deleted  []*account
	policies map[string]*policy // by projects/ID, buckets/NAME, and accounts/EMAIL
	roles    map[string][]string
	tokens   map[string]token
	provider Provider
	counter  int
	lag      int           // how many looks a change is hidden from
	settle   time.Duration // how long what was disabled or unbound goes on working
	asked    int
}

type account struct {
	email, uid, display, description string
	disabled                         bool
	ended                            time.Time // when it was disabled or deleted
	hidden, ghost                    int       // looks that do not show it yet, or still
}

type token struct {
	email   string // of the account, or
	subject string // of a federated one
	name    string // jti of the token of ours that it was given for
	scopes  []string
	expires time.Time
}

// New returns a stand-in where the manager may do what Daypass asks for: accounts in its project, and to bind the given roles
// on the given resources, of which it may bind any on buckets.
func New(cfg Config, resources map[string][]string) *Cloud {
	c := &Cloud{cfg: cfg, mux: http.NewServeMux(), accounts: map[string]*account{}, policies: map[string]*policy{}, tokens: map[string]token{}}
	c.roles = map[string][]string{
		"roles/iam.workloadIdentityUser":   {"iam.serviceAccounts.getAccessToken"},
		"roles/iam.serviceAccountKeyAdmin": {"iam.serviceAccountKeys.create"},
		"roles/storage.objectViewer":       {"storage.objects.list", "storage.objects.get"},
		"roles/storage.objectAdmin":        {"storage.objects.list", "storage.objects.get", "storage.objects.delete"},
		"projects/" + cfg.Project + "/roles/daypassAccounts": {"iam.serviceAccounts.create", "iam.serviceAccounts.get", "iam.serviceAccounts.list",
			"iam.serviceAccounts.update", "iam.serviceAccounts.disable", "iam.serviceAccounts.delete", "iam.serviceAccounts.getAccessToken"},
		"roles/daypassPolicies": {"resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy", "storage.buckets.getIamPolicy", "storage.buckets.setIamPolicy"},
	}
	c.Account(cfg.Manager)
	c.Bind("projects/"+cfg.Project, "projects/"+cfg.Project+"/roles/daypassAccounts", "serviceAccount:"+cfg.Manager, "")
	for on, roles := range resources {
		only := OnlyRoles(roles...)
		if strings.HasPrefix(on, "buckets/") { // where Google documents no such condition
			only = ""
		}
		c.Bind(on, "roles/daypassPolicies", "serviceAccount:"+cfg.Manager, only)
	}
	c.routes()
	return c
}

// OnlyRoles is the condition by which a policy's writer may give and take these roles only.
func OnlyRoles(roles ...string) string {
	quoted := make([]string, len(roles))
	for i, r := range roles {
		quoted[i] = "'" + r + "'"
	}
	return "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([" + strings.Join(quoted, ", ") + "])"
}

// Account makes an account that tests own.
func (c *Cloud) Account(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.make(email)
}

func (c *Cloud) make(email string) *account {
	c.counter++
	a := &account{email: email, uid: strconv.Itoa(100000000000000000 + c.counter)}
	c.accounts[email] = a
	return a
}

// Trust lets a subject of ours be an account.
func (c *Cloud) Trust(subject, email string) {
	pool, _, _ := strings.Cut(strings.TrimPrefix(c.cfg.Provider, "//iam.googleapis.com/"), "/providers/")
	c.Bind("accounts/"+email, "roles/iam.workloadIdentityUser", "principal://iam.googleapis.com/"+pool+"/subject/"+subject, "")
}

// Bind writes a binding into the policy of a resource; condition may be empty.
func (c *Cloud) Bind(on, role, member, condition string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.policy(on)
	b := map[string]any{"role": role, "members": []any{member}}
	if condition != "" {
		b["condition"] = map[string]any{"title": "test", "expression": condition}
	}
	p.bindings = append(p.bindings, b)
	p.generation++
}

// Unbind takes a member out of the policy of a resource.
func (c *Cloud) Unbind(on, member string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.policy(on)
	p.bindings = slices.DeleteFunc(p.bindings, func(b map[string]any) bool { return slices.Contains(b["members"].([]any), any(member)) })
	p.generation++
}

// Lag hides each change from the next looks.
func (c *Cloud) Lag(looks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag = looks
}

// Settle lets what was disabled or unbound go on working for a time.
func (c *Cloud) Settle(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle = d
}

// Disturb changes a policy as somebody else would, so that an etag read before is stale.
func (c *Cloud) Disturb(on string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy(on).generation++
}

// Asked counts the requests.
func (c *Cloud) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// Members are the members of a resource's policy, with their roles.
func (c *Cloud) Members(on string) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.policy(on).bindings {
		for _, m := range b["members"].([]any) {
			all = append(all, b["role"].(string)+" "+m.(string))
		}
	}
	return all
}

// Live are the accounts whose address begins so, and that are not disabled.
func (c *Cloud) Live(prefix string) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for email, a := range c.accounts {
		if strings.HasPrefix(email, prefix) && !a.disabled {
			all = append(all, email)
		}
	}
	return all
}

// All are the accounts whose address begins so, each with its description.
func (c *Cloud) All(prefix string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]string{}
	for email, a := range c.accounts {
		if strings.HasPrefix(email, prefix) {
			all[email] = a.description
		}
	}
	return all
}

// Who tells of a token that is taken now: the account, and the ID of the token of ours that it was given for.
func (c *Cloud) Who(text string) (email, subject, name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.token(text)
	return t.email, t.subject, t.name, err
}

// Tokens reports whether a token that was given for a token of ours of this ID is taken now, of an account and not federated.
func (c *Cloud) Tokens(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for text, t := range c.tokens {
		if _, err := c.token(text); err == nil && t.name == id && t.email != "" {
			return true
		}
	}
	return false
}

// Disable disables an account, as an administrator does by hand.
func (c *Cloud) Disable(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[email]
	a.disabled, a.ended = true, c.cfg.Now()
}

// Delete deletes an account as somebody else would.
func (c *Cloud) Delete(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accounts[email]; a != nil {
		c.drop(a)
	}
}

// refusal is an error of Google's.
type refusal struct {
	code   int
	status string
	text   string
}

func (r refusal) Error() string { return r.text }

func deny(permission, on string) error {
	return refusal{http.StatusForbidden, "PERMISSION_DENIED", "Permission '" + permission + "' denied on resource '" + on + "' (or it may not exist)."}
}

func invalid(text string) error { return refusal{http.StatusBadRequest, "INVALID_ARGUMENT", text} }

func missing(text string) error { return refusal{http.StatusNotFound, "NOT_FOUND", text} }

// ServeHTTP answers a request.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.mux.ServeHTTP(w, r)
}

// handle serves one method. What it returns is written as JSON.
func (c *Cloud) handle(pattern string, serve func(r *http.Request, body map[string]any) (any, error)) {
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
				refused = refusal{http.StatusBadRequest, "INVALID_ARGUMENT", err.Error()}
			}
			w.WriteHeader(refused.code)
			out = map[string]any{"error": map[string]any{"code": refused.code, "status": refused.status, "message": refused.text}}
			if strings.HasSuffix(pattern, "/v1/token") {
				out = map[string]any{"error": refused.status, "error_description": refused.text}
			}
		}
		_ = json.NewEncoder(w).Encode(out) // the caller may have gone
	})
}

func (c *Cloud) give(t token) string {
	text := "ya29." + rand.Text()
	c.tokens[text] = t
	return text
}

// token is one that is taken now.
func (c *Cloud) token(text string) (token, error) {
	t, ok := c.tokens[text]
	now := c.cfg.Now()
	if !ok || !now.Before(t.expires) {
		return t, refusal{http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials."}
	}
	if t.email == "" {
		return t, nil
	}
	a := c.accounts[t.email]
	for _, gone := range c.deleted {
		if a == nil && gone.email == t.email {
			a = gone
		}
	}
	if a == nil || !a.ended.IsZero() && !now.Before(a.ended.Add(c.settle)) {
		return t, refusal{http.StatusUnauthorized, "UNAUTHENTICATED", "The account of the credential is disabled or gone."}
	}
	return t, nil
}

// caller is who makes a request, as a member of policies.
func (c *Cloud) caller(r *http.Request) (member string, t token, err error) {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t, err = c.token(text)
	if t.email != "" {
		return "serviceAccount:" + t.email, t, err
	}
	pool, _, _ := strings.Cut(strings.TrimPrefix(c.cfg.Provider, "//iam.googleapis.com/"), "/providers/")
	return "principal://iam.googleapis.com/" + pool + "/subject/" + t.subject, t, err
}

// may refuses who lacks a permission on all of these resources. Modified are the roles that a policy's writer changes.
func (c *Cloud) may(r *http.Request, permission string, modified []string, on ...string) (token, error) {
	member, t, err := c.caller(r)
	if err != nil {
		return t, err
	}
	for _, resource := range on {
		if c.policy(resource).gives(c, member, permission, modified) {
			return t, nil
		}
	}
	return t, deny(permission, fmt.Sprint(on))
}
