package policy

import (
	"net/netip"
	"time"

	"github.com/daypass/daypass/identity"
)

// Action is what a principal wants to do.
type Action string

// The actions, and what each applies to.
const (
	Acquire   Action = "acquire"   // a Role
	Renew     Action = "renew"     // a Role
	Read      Action = "read"      // a Lease or the System
	Revoke    Action = "revoke"    // a Lease
	Lock      Action = "lock"      // the System
	Configure Action = "configure" // the System
	Approve   Action = "approve"   // the System
	Report    Action = "report"    // a Posture
)

// Resource is what a principal wants to do it to; made by [OnRole], [OnLease], [OnPosture] and [OnSystem].
type Resource struct {
	kind   string
	id     string
	role   string
	target string
	holder Holder
}

// Holder is the principal that holds a lease.
type Holder struct {
	Issuer  string // the issuer's name
	Subject string
}

// OnRole is the role called name.
func OnRole(name string) Resource { return Resource{kind: kindRole, id: name} }

// OnLease is a lease: its ID, role, target and holder as its row has them.
func OnLease(id, role, target string, holder Holder) Resource {
	return Resource{kind: kindLease, id: id, role: role, target: target, holder: holder}
}

// OnPosture is the source of posture called name.
func OnPosture(name string) Resource { return Resource{kind: kindPosture, id: name} }

// OnSystem is the installation itself.
func OnSystem() Resource { return Resource{kind: kindSystem, id: systemID} }

// String returns the resource as Cedar writes it, such as `Role::"orders-readonly"`.
func (r Resource) String() string { return r.uid().String() }

// Request is one question: may this principal do this here and now?
type Request struct {
	Principal     identity.Principal
	Administrator bool // the principal is of an issuer in admins.issuers: only then can read and revoke of a Lease and everything on the System be allowed
	Action        Action
	Resource      Resource
	Now           time.Time
	SourceIP      netip.Addr    // the zero Addr where there is none; policies that ask for it then fail
	TTL           time.Duration // what the request asks for, after the role's default and maximum
	Country       string        // ISO 3166-1 alpha-2, empty where unknown
	Subdivision   string        // ISO 3166-2, such as "DE-BE", empty where unknown
	// What follows is not there where it is nil: policies that ask for it then fail, or find that it is not there.
	TokenAge   *time.Duration     // since the evidence was issued
	LiveLeases *int               // other leases of the principal that may live
	Posture    map[string]Posture // by source: the records about the principal, also those that are too old
}

// Posture is what a source last said of something, such as a device: a record as its fields are declared.
type Posture struct {
	ID         string // whose record it is, within its source
	ReportedAt time.Time
	Fields     map[string]any // JSON values; whole numbers are int64 or json.Number
}

// Decision is the answer to a [Request].
type Decision struct {
	Allow   bool
	Reasons []Reason // never empty
	request Request
	engine  *Engine
}

// Reason is one policy's part in a decision, or why no policy was asked.
type Reason struct {
	Policy  string `json:"policy,omitempty"` // the policy's @id, else its file:line
	Effect  Effect `json:"effect"`
	Message string `json:"message"`
}

// Effect is what a policy did.
type Effect string

// What a policy did.
const (
	Permit Effect = "permit" // it applied and permits
	Forbid Effect = "forbid" // it applied and forbids
	Failed Effect = "error"  // it could not be evaluated: a denial
	None   Effect = "none"   // nothing applied, or nothing was asked
)
