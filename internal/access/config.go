package access

import (
	"encoding/json"
	"time"

	"github.com/daypass/daypass/internal/source"
)

// Files is an access directory: path below it, with forward slashes, to text.
type Files map[string]string

// Section is one part of a file that is for somebody else to understand. Decode is strict: it refuses unknown
// fields, repeated keys and wrong types, all at once and with their places, as [source.Errors].
type Section interface {
	Decode(into any) error
}

// Kind is a kind of target, such as postgres: it knows what its sections mean. The results are kept as
// canonical JSON. A result with a method `Validate() error` is asked; errors that have a method
// `Field() string` ("grants[0].on") are shown at that field.
type Kind struct {
	Settings func(Section) (any, error) // the section of a Target that is named like the kind
	Client   func(Section) (any, error) // the `client` section of a Target; nil: a Target has none
	Rights   func(Section) (any, error) // the section of a Role that is named like the kind; nil: a Role has none
}

// IssuerKind is a kind of issuer beside oidc, such as spiffe.
type IssuerKind struct {
	// Settings reads the section of an Issuer that is named like the kind. The result is kept and asked like that
	// of [Kind], and has a method `URL(issuer string) string`: what tells this issuer from every other, for ever,
	// given its name in the files.
	Settings   func(Section) (any, error)
	Vocabulary string // the preset that says what its principals carry
	Declares   bool   // its evidence may carry more, which files declare as `claims`, each optional
	Instead    string // where it may not: why, or what to do instead; shown as a hint
}

// Kinds are what access files may speak of, by the name of their section.
type Kinds struct {
	Targets map[string]Kind
	Issuers map[string]IssuerKind // beside oidc
}

// Config is a whole access configuration. It is immutable.
type Config struct {
	Hash     string            // the revision: a function of paths and texts alone
	Issuers  map[string]Issuer // by name
	Targets  map[string]Target // by name
	Roles    map[string]Role   // by name
	Policies []PolicyFile      // sorted by path

	Postures map[string]Posture // by name
}

// PolicyFile is one file of Cedar policies.
type PolicyFile struct {
	Path string
	Text string
}

// KindOIDC is the kind of issuers that sign OpenID Connect tokens.
const KindOIDC = "oidc"

// Issuer is who vouches for workloads.
type Issuer struct {
	Name      string
	Kind      string               // [KindOIDC] or a key of [Kinds].Issuers
	URL       string               // tells it from every other issuer, for ever: `iss` of its tokens, or its like
	Preset    string               // empty for a generic issuer
	OIDC      OIDC                 // of kind oidc
	Settings  json.RawMessage      // of other kinds: canonical JSON of what [IssuerKind].Settings returned
	Type      string               // Cedar type of its principals, such as "GitHub::Workload"
	Claims    map[string]ClaimType // what policies may ask of its principals
	SingleUse bool                 // its evidence is good once, by its ID, such as the `jti` of tokens
	Run       []string             // claims that together name the run that evidence belongs to
	Place     source.Place         // where the file says so
}

// OIDC is how tokens of an issuer are checked.
type OIDC struct {
	URL      string // exactly the `iss` of its tokens
	Audience string // exactly the `aud` of its tokens; empty: the server's own URL
	CAFile   string // certificates to trust for this issuer; empty: the system's
}

// Target is a system where credentials are made.
type Target struct {
	Name     string
	Kind     string          // key of [Kinds].Targets
	Settings json.RawMessage // canonical JSON of what [Kind].Settings returned
	Client   json.RawMessage // canonical JSON of what [Kind].Client returned; nil where the file has none
	Place    source.Place
}

// Role is a named set of rights at one target.
type Role struct {
	Name   string
	Target string
	TTL    TTL
	Limits Limits
	Labels map[string]string
	Renew  Renew
	Share  Share
	Rights json.RawMessage // canonical JSON of what [Kind].Rights returned; nil where the kind has none
	Place  source.Place
}

// TTL is how long leases of a role live.
type TTL struct {
	Default time.Duration // where the request does not say
	Max     time.Duration // the longest life, renewals included
	Over    Over
}

// Over says what happens to a request for more than the maximum.
type Over string

// What happens to a request for more than the maximum.
const (
	Clamp  Over = "clamp"  // it gets the maximum, and is told
	Refuse Over = "refuse" // it is refused
)

// Limits bound the live leases of a role. Zero is no bound of its own.
type Limits struct {
	Live         int // of the role
	PerPrincipal int // of the role for one principal
}

// Renew says what a renewal has to show.
type Renew string

// What a renewal has to show.
const (
	Evidence Renew = "evidence" // fresh evidence
	Handle   Renew = "handle"   // the lease token is enough
)

// Share says who may use one lease of the role together. The server only tells it: workloads do it among
// themselves, since a credential is shown once.
type Share string

// Who may use one lease together.
const (
	ShareNone Share = ""    // nobody: each who asks gets a lease
	ShareRun  Share = "run" // what one principal runs inside a run that holds a lease of the role
)
