// Package api holds the wire types of the HTTP API: what is sent, what comes back, how errors look, and the
// limits of both. Server and clients share it and nothing else.
//
// Times are RFC 3339 in UTC with milliseconds ([Time]); durations match ^[0-9]+(s|m|h)$ ([Duration]). Within /v1
// changes only add. The package imports the standard library only.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of the API.
const (
	MaxBody       = 64 << 10 // bytes of a request body; access configurations may have [MaxAccess]
	MaxAccess     = 8 << 20  // bytes of an access configuration
	MaxToken      = 16 << 10
	MaxReason     = 500 // bytes of a free-text reason
	MaxKey        = 128 // bytes of an Idempotency-Key
	MaxPage       = 1000
	DefaultPage   = 100
	MaxWait       = 60 * time.Second
	MediaProblem  = "application/problem+json"
	HeaderRequest = "Daypass-Request-Id"
)

// AcquireRequest is the body of POST /v1/leases.
type AcquireRequest struct {
	Role   string    `json:"role" doc:"name of the role"`
	TTL    *Duration `json:"ttl,omitempty" doc:"how long the lease should live; the role's default unless given"`
	Reason string    `json:"reason,omitempty" maxLength:"500" doc:"why, in the caller's words; kept with the decision"`
}

// Acquired is the answer of POST /v1/leases. Its lease token and credential are shown once.
type Acquired struct {
	Lease      Lease      `json:"lease"`
	LeaseToken string     `json:"lease_token" doc:"reads and releases this lease, and renews it where the role says so"`
	Credential Credential `json:"credential"`
	Receipt    string     `json:"receipt" doc:"signed promise that the ledger holds this lease; see daypass ledger verify"`
	Clamped    bool       `json:"clamped,omitempty" doc:"the role's maximum was shorter than the ttl asked for"`
}

// Lease is a lease as the API shows it.
type Lease struct {
	ID             string   `json:"id" doc:"20 characters of lowercase base32"`
	Role           string   `json:"role"`
	Target         string   `json:"target"`
	Principal      string   `json:"principal" doc:"issuer name, colon, subject"`
	Actors         []string `json:"actors,omitempty" doc:"who acts for the principal, as a principal is written, the one that does so now first; an issuer that is not configured is named by its URL"`
	State          string   `json:"state" enum:"pending,active,revoking,revoked"`
	Reason         string   `json:"reason,omitempty" doc:"why it ended"`
	CreatedAt      Time     `json:"created_at"`
	ExpiresAt      Time     `json:"expires_at"`
	RenewableUntil Time     `json:"renewable_until"`
	Revocation     string   `json:"revocation" enum:"instant,assisted,bounded"`
	RevokedAt      *Time    `json:"revoked_at,omitempty" doc:"when the target proved the credential's death"`
	DecisionID     string   `json:"decision_id,omitempty"`
	RunID          string   `json:"run,omitempty" doc:"the run of the workload that holds it, where its platform names one"`
	Share          string   `json:"share,omitempty" enum:"run" doc:"its role lets what one run runs use one lease together; absent: it does not"`
}

// ShareRun is the Share of a lease that what one run runs may use together.
const ShareRun = "run"

// Credential is a credential as the API shows it: `type` and the fields of that type, in one flat object.
type Credential struct {
	Type   string
	Fields map[string]any
}

// MarshalJSON writes one flat object.
func (c Credential) MarshalJSON() ([]byte, error) {
	flat := map[string]any{"type": c.Type}
	for name, value := range c.Fields {
		if name == "type" {
			return nil, errors.New(`api: a credential field cannot be named "type"`)
		}
		flat[name] = value
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads one flat object.
func (c *Credential) UnmarshalJSON(data []byte) error {
	var flat map[string]any
	if err := json.Unmarshal(data, &flat); err != nil {
		return err
	}
	kind, ok := flat["type"].(string)
	if !ok {
		return errors.New("api: a credential needs a type")
	}
	delete(flat, "type")
	*c = Credential{Type: kind, Fields: flat}
	return nil
}

// RenewRequest is the body of POST /v1/leases/{id}/renew.
type RenewRequest struct {
	TTL *Duration `json:"ttl,omitempty" doc:"how long from now; the role's default unless given"`
}

// Match selects leases. Its keys are ANDed; an empty match is refused.
type Match struct {
	Principal string `json:"principal,omitempty" doc:"issuer name, colon, subject"`
	Issuer    string `json:"issuer,omitempty"`
	Role      string `json:"role,omitempty"`
	Target    string `json:"target,omitempty"`
	Lease     string `json:"lease,omitempty"`
}

// IsEmpty reports whether the match would select everything.
func (m Match) IsEmpty() bool { return m == Match{} }

// LockRequest is the body of POST /v1/locks.
type LockRequest struct {
	Match     Match  `json:"match"`
	Reason    string `json:"reason" minLength:"1" maxLength:"500"`
	ExpiresAt *Time  `json:"expires_at,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty" doc:"count what it would end, and change nothing"`
}

// Lock is an order that ends the leases it matches and refuses new ones.
type Lock struct {
	ID        string `json:"id,omitempty"`
	Match     Match  `json:"match"`
	Reason    string `json:"reason"`
	CreatedAt Time   `json:"created_at"`
	CreatedBy string `json:"created_by"`
	ExpiresAt *Time  `json:"expires_at,omitempty"`
	LiftedAt  *Time  `json:"lifted_at,omitempty"`
	Hits      int    `json:"hits" doc:"live leases it ended, or would end"`
	DryRun    bool   `json:"dry_run,omitempty"`
}

// Decision is a stored decision with its full input.
type Decision struct {
	ID        string          `json:"id"`
	At        Time            `json:"at"`
	Revision  string          `json:"revision"`
	Principal string          `json:"principal"`
	Actors    []string        `json:"actors,omitempty" doc:"who acts for the principal, as in a lease"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"`
	Outcome   string          `json:"outcome" enum:"allow,deny"`
	Reasons   []Explanation   `json:"reasons"`
	Input     json.RawMessage `json:"input" doc:"principal, action, resource and context as the policies saw them"`
	Count     int             `json:"count" doc:"how many equal denials this record stands for"`
	Lease     string          `json:"lease,omitempty"`
}

// Explanation is one policy's part in a decision.
type Explanation struct {
	Policy  string `json:"policy,omitempty" doc:"file:line of the policy, or its @id"`
	Effect  string `json:"effect" enum:"permit,forbid,error,none,lock,limit"`
	Message string `json:"message"`
}

// AccessRequest is the body of PUT /v1/access.
type AccessRequest struct {
	Files map[string]string `json:"files" doc:"path below the access directory, to text"`
}

// Revision is an immutable access configuration.
type Revision struct {
	ID          string   `json:"id" doc:"content hash"`
	CreatedAt   Time     `json:"created_at"`
	CreatedBy   string   `json:"created_by"`
	Active      bool     `json:"active"`
	ActivatedAt *Time    `json:"activated_at,omitempty"`
	Notes       []string `json:"notes,omitempty" doc:"what the activation leaves behind, such as targets that drain"`

	Findings []AccessFinding `json:"findings,omitempty" doc:"what is wider in the files than it need be; told when a revision is made active"`
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page"`
}

// Problem is an RFC 9457 problem document.
type Problem struct {
	Type       string `json:"type" doc:"tag: URI of the code"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty"`
	Instance   string `json:"instance,omitempty" doc:"request ID"`
	Code       string `json:"code" doc:"stable word"`
	DecisionID string `json:"decision_id,omitempty"`
	RetryAfter int    `json:"retry_after,omitempty" doc:"seconds"`
	// Errors are the mistakes in access files that were refused.
	Errors []Mistake `json:"errors,omitempty" doc:"every mistake in the access files that were refused"`
}

// Error makes a Problem an error for clients.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	return fmt.Sprintf("%s (%s)", text, p.Code)
}

// Time is a time on the wire: RFC 3339, UTC, milliseconds.
type Time struct{ time.Time }

// timeFormat is RFC 3339 with exactly three decimals.
const timeFormat = "2006-01-02T15:04:05.000Z"

// At returns t for the wire.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// String returns the wire form.
func (t Time) String() string { return t.UTC().Format(timeFormat) }

// MarshalJSON writes the wire form.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads any RFC 3339 time.
func (t *Time) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return errors.New("a time is a string, such as 2026-01-02T15:04:05.000Z")
	}
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time, such as 2026-01-02T15:04:05.000Z", text)
	}
	t.Time = parsed.UTC()
	return nil
}

// Duration is a duration on the wire and in files: a whole number and one of s, m, h.
type Duration time.Duration

// ParseDuration reads the wire form.
func ParseDuration(text string) (Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour}
	refused := fmt.Errorf("%q is not a duration: write a whole number and s, m or h, such as 15m", text)
	if len(text) < 2 {
		return 0, refused
	}
	unit, ok := units[text[len(text)-1]]
	digits := text[:len(text)-1]
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || digits[0] == '+' {
		return 0, refused
	}
	const maxHours = 24 * 366
	if time.Duration(n) > maxHours*time.Hour/unit {
		return 0, fmt.Errorf("%q is too long: at most %dh", text, maxHours)
	}
	return Duration(time.Duration(n) * unit), nil
}

// ParsePeriod reads a length of time that files may give in days: a whole number and s, m, h or d.
func ParsePeriod(text string) (time.Duration, error) {
	const maxDays = 36500
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n > maxDays {
			return 0, fmt.Errorf("%q is not a number of days up to %d, such as 30d", text, maxDays)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a period: write a whole number and s, m, h or d, such as 30d", text)
	}
	return time.Duration(d), nil
}

// String returns the shortest wire form.
func (d Duration) String() string {
	whole := time.Duration(d).Truncate(time.Second)
	switch {
	case whole != 0 && whole%time.Hour == 0:
		return strconv.FormatInt(int64(whole/time.Hour), 10) + "h"
	case whole != 0 && whole%time.Minute == 0:
		return strconv.FormatInt(int64(whole/time.Minute), 10) + "m"
	}
	return strconv.FormatInt(int64(whole/time.Second), 10) + "s"
}

// MarshalText writes the wire form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the wire form.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}
