package api

import "encoding/json"

// The words of the OAuth face that are ours. The others are those of their RFCs.
const (
	ScopeRole   = "role:"                                 // begins a scope that names a role
	DetailsRole = "daypass_role"                          // `type` of authorization details that name a role (RFC 9396)
	TokenLease  = "tag:daypass.dev,2026:token-type:lease" // type of lease tokens (RFC 8693 §3)
	// TokenEvidence is the type of evidence that is no JSON Web Token, such as a signed request of AWS.
	TokenEvidence = "tag:daypass.dev,2026:token-type:evidence"
)

// RoleDetails are authorization details (RFC 9396 §2) of the type [DetailsRole].
type RoleDetails struct {
	Type   string    `json:"type"`
	Role   string    `json:"role"`
	TTL    *Duration `json:"ttl,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// TokenAnswer is the answer of the token endpoint (RFC 6749 §5.1, RFC 8693 §2.2.1). Where a role was named, it holds
// the lease too, as [Acquired] does.
type TokenAnswer struct {
	AccessToken string        `json:"access_token"`
	IssuedType  string        `json:"issued_token_type"`
	TokenType   string        `json:"token_type"` // DPoP, Bearer, or N_A of a token that is not for requests
	ExpiresIn   int64         `json:"expires_in"` // seconds
	Scope       string        `json:"scope,omitempty"`
	Details     []RoleDetails `json:"authorization_details,omitempty"`

	Lease      *Lease      `json:"lease,omitempty"`
	LeaseToken string      `json:"lease_token,omitempty"`
	Credential *Credential `json:"credential,omitempty"`
	Receipt    string      `json:"receipt,omitempty"`
	Clamped    bool        `json:"clamped,omitempty"`
}

// OAuthError is a refusal of the OAuth endpoints (RFC 6749 §5.2).
type OAuthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"` // for people; names the rule that was broken
	Kind        string `json:"code,omitempty"`              // the code of the problem that other calls answer with
	DecisionID  string `json:"decision_id,omitempty"`       // of a denial: for `daypass explain`
	Request     string `json:"request_id,omitempty"`        // of the server's log, as the problems of other calls have it
}

// Introspection says what a token is (RFC 7662 §2.2). Of one that is not active nothing else is told.
type Introspection struct {
	Active    bool            `json:"active"`
	Issuer    string          `json:"iss,omitempty"`
	Subject   string          `json:"sub,omitempty"`
	Client    string          `json:"client_id,omitempty"`
	Audience  string          `json:"aud,omitempty"`
	ID        string          `json:"jti,omitempty"`
	TokenType string          `json:"token_type,omitempty"`
	Scope     string          `json:"scope,omitempty"`
	IssuedAt  int64           `json:"iat,omitempty"`
	ExpiresAt int64           `json:"exp,omitempty"`
	Confirm   json.RawMessage `json:"cnf,omitempty"` // the key that the token is bound to (RFC 7800)
	Actor     json.RawMessage `json:"act,omitempty"` // who acts for the subject (RFC 8693 §4.1)
}
