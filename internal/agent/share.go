package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// LeasesVariable names the variable in which a run tells the runs inside its command which leases they may share.
// It holds no secret: their credentials are in the environment already.
const LeasesVariable = "DAYPASS_LEASES"

// lookTimeout bounds the question whether a lease of the run outside still lives.
const lookTimeout = 10 * time.Second

// offer is one lease in [LeasesVariable].
type offer struct {
	Server    string   `json:"server"`
	Role      string   `json:"role"`
	Lease     string   `json:"lease"`
	Prefix    string   `json:"prefix,omitempty"`
	Variables []string `json:"variables"` // without the prefix
	Digest    string   `json:"digest"`    // of the variables' names and values, as they were set
}

// newOffer describes a lease that may be shared and the variables that its run set.
func newOffer(server string, role RoleRef, lease string, variables []Variable) offer {
	o := offer{Server: server, Role: role.Role, Lease: lease, Prefix: role.Prefix, Digest: digest(role.Prefix, variables)}
	for _, v := range variables {
		o.Variables = append(o.Variables, strings.TrimPrefix(v.Name, role.Prefix))
	}
	return o
}

// digest tells whether variables are still what a run set. Each part has its length before it, so that no two lists
// look alike.
func digest(prefix string, variables []Variable) string {
	h := sha256.New()
	for _, v := range variables {
		name, value := strings.TrimPrefix(v.Name, prefix), v.Value.Reveal()
		fmt.Fprintf(h, "%d:%s,%d:%s,", len(name), name, len(value), value)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// variables returns the credential of an offer as it stands in env, under another prefix, and false where the
// environment does not hold it whole and unchanged: a script may have set PGDATABASE in between.
func (o offer) variables(env []string, prefix string) ([]Variable, bool) {
	var found []Variable
	for _, name := range o.Variables {
		value, ok := lookup(env, o.Prefix+name)
		if !ok {
			return nil, false
		}
		found = append(found, Variable{prefix + name, secret.New(value)})
	}
	return found, len(found) > 0 && digest(prefix, found) == o.Digest
}

// lookup returns a variable of an environment, the last one where it is given twice.
func lookup(env []string, name string) (string, bool) {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// outside reads what the runs outside offer. What cannot be read offers nothing.
func (r Run) outside() []offer {
	text, ok := lookup(r.Env, LeasesVariable)
	if !ok || text == "" {
		return nil
	}
	var offers []offer
	if err := json.Unmarshal([]byte(text), &offers); err != nil {
		r.Tell(LeasesVariable + " cannot be read and is passed over")
		return nil
	}
	return offers
}

// borrow returns the credential of a lease that the run outside holds, and false where there is none to share: then
// a lease must be acquired. A run that asks for a ttl, a reason or a receipt wants a lease that has them.
//
// Nothing here is a guard: who can write our environment can hand us any credential without a lease. The checks
// keep honest runs from using a credential that is dead, changed or another identity's.
func (r Run) borrow(ctx context.Context, role RoleRef, outside []offer) ([]Variable, bool) {
	if r.TTL != nil || r.Reason != "" || r.Acquired != nil {
		return nil, false
	}
	for _, o := range outside {
		if o.Role != role.Role || o.Server != r.server() {
			continue
		}
		variables, whole := o.variables(r.Env, role.Prefix)
		if !whole {
			r.Tell(fmt.Sprintf("lease %s of role %q is not shared: its variables have changed", o.Lease, o.Role))
			continue
		}
		if r.mayUse(ctx, o) {
			return variables, true
		}
	}
	return nil, false
}

// mayUse asks the server, with our own evidence, how an offered lease is. The server shows a lease to its holder,
// so that the answer says as well that we are the same principal. A server that gives no answer leaves the
// credential as good as it is: acquiring another would be no use either.
func (r Run) mayUse(ctx context.Context, o offer) bool {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	info, err := r.Client.Handle(o.Lease, secret.Text{}).Read(look)
	switch {
	case ctx.Err() != nil:
		return false
	case isNoAnswer(err):
		r.Tell(fmt.Sprintf("lease %s of role %q is shared with the run outside, unchecked: %v", o.Lease, o.Role, err))
		return true
	case err != nil:
		r.Tell(fmt.Sprintf("lease %s of role %q is not shared: %v", o.Lease, o.Role, err))
	case info.Role != o.Role || info.Share != api.ShareRun:
		r.Tell(fmt.Sprintf("lease %s is not shared: role %q does not say so", o.Lease, o.Role))
	case info.State != "active":
		r.Tell(fmt.Sprintf("lease %s of role %q is not shared: it has ended: %s", o.Lease, o.Role, info.Reason))
	default:
		r.Tell(fmt.Sprintf("lease %s of role %q is shared with the run outside", o.Lease, o.Role))
		return true
	}
	return false
}

// isNoAnswer reports whether a call failed without the server having said what it knows.
func isNoAnswer(err error) bool {
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		return problem.Status >= http.StatusInternalServerError || problem.Status == http.StatusTooManyRequests
	}
	return errors.Is(err, client.ErrUnreachable)
}

// server is the server's URL, written in one way.
func (r Run) server() string { return strings.TrimRight(r.Client.URL(), "/") }

// withOffers returns env with what is offered to runs inside: our own leases, and those from outside whose
// credentials env still holds.
func withOffers(env []string, own, outside []offer) ([]string, error) {
	offers := own
	for _, o := range outside {
		if _, whole := o.variables(env, o.Prefix); whole {
			offers = append(offers, o)
		}
	}
	env = slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(entry, LeasesVariable+"=") })
	if len(offers) == 0 {
		return env, nil
	}
	text, err := json.Marshal(offers)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", LeasesVariable, err)
	}
	return append(env, LeasesVariable+"="+string(text)), nil
}
