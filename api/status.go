package api

// Status is the answer of GET /v1/status: how the broker and each part it depends on are doing (administrators).
type Status struct {
	Version   string         `json:"version"`
	Instance  string         `json:"instance" doc:"6 characters of lowercase base32; in the names of all credentials"`
	Boot      int64          `json:"boot" doc:"counts the starts of the broker"`
	Epoch     int64          `json:"epoch" doc:"counts the restores of the store"`
	StartedAt Time           `json:"started_at"`
	Now       Time           `json:"now"`
	Ready     bool           `json:"ready" doc:"whether leases can be acquired now"`
	Revision  string         `json:"revision,omitempty" doc:"the active access revision"`
	Leases    LeaseCounts    `json:"leases"`
	Locks     int            `json:"locks" doc:"locks in force"`
	Servers   []ServerStatus `json:"servers,omitempty" doc:"that share the store, where several can"`
	Queues    QueueStatus    `json:"queues"`
	Targets   []TargetStatus `json:"targets"`
	Issuers   []IssuerStatus `json:"issuers"`
	Ledger    LedgerStatus   `json:"ledger"`
	Alerts    []AlertStatus  `json:"alerts,omitempty" doc:"that this server has open, oldest first"`
	Warnings  []string       `json:"warnings,omitempty" doc:"what an administrator should look at, a sentence each"`
}

// ServerStatus is one of the servers that share a store.
type ServerStatus struct {
	Boot   int64    `json:"boot" doc:"the start of it that this is"`
	Name   string   `json:"name" doc:"its host and process"`
	SeenAt Time     `json:"seen_at" doc:"when it last showed life, by the store's clock"`
	Self   bool     `json:"self,omitempty" doc:"it is the one that answers"`
	Keeps  []string `json:"keeps,omitempty" doc:"the targets whose revocations and sweeps are its work now"`
}

// QueueStatus is the work that waits, beside what waits for one target.
type QueueStatus struct {
	Store       int   `json:"store" doc:"updates that wait for the store's writer"`
	ExpiredFrom *Time `json:"expired_from,omitempty" doc:"expiry of the oldest active lease that has passed it; absent while none has"`
}

// LeaseCounts counts leases by state. Revoked ones are history and are not counted.
type LeaseCounts struct {
	Pending  int `json:"pending"`
	Active   int `json:"active"`
	Revoking int `json:"revoking"`
}

// TargetStatus is how one target is doing.
type TargetStatus struct {
	Name           string      `json:"name"`
	Kind           string      `json:"kind"`
	Health         string      `json:"health" enum:"ok,failing,unknown" doc:"as the last calls to it went"`
	Draining       bool        `json:"draining,omitempty" doc:"it left the access configuration and only revokes"`
	Leases         LeaseCounts `json:"leases"`
	OldestRevoking *Time       `json:"oldest_revoking,omitempty" doc:"since when the oldest lease waits for the proof of its end"`
	DueFrom        *Time       `json:"due_from,omitempty" doc:"since when the oldest revocation that is due waits for its next attempt; absent while none is due"`
	RetryAt        *Time       `json:"retry_at,omitempty" doc:"when a target that does not answer is asked again"`
	Error          string      `json:"error,omitempty" doc:"what the last failed call said"`
}

// IssuerStatus is how one issuer's keys are doing.
type IssuerStatus struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Health    string `json:"health" enum:"ok,failing,unknown" doc:"failing: the keys in use are the last good ones"`
	Keys      int    `json:"keys" doc:"keys in use"`
	FetchedAt *Time  `json:"fetched_at,omitempty"`
	Error     string `json:"error,omitempty"`
}

// AlertStatus is one open alert.
type AlertStatus struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject" doc:"what it is about: an issuer's name, or what a stranger wrote, as short printable ASCII"`
	Summary string `json:"summary"`
	Advice  string `json:"advice" doc:"what to do about it"`
	Count   int64  `json:"count,omitempty" doc:"how often it was seen"`
	Since   Time   `json:"since"`
	Last    Time   `json:"last" doc:"when it was seen last"`
}

// LedgerStatus is the head of the ledger.
type LedgerStatus struct {
	Origin string `json:"origin" doc:"the name in its checkpoints"`
	Key    string `json:"key" doc:"verifier key, as C2SP signed notes write it"`
	Size   int64  `json:"size" doc:"number of entries"`
}

// TargetCheck is the answer of POST /v1/targets/{name}/check.
type TargetCheck struct {
	Target   string    `json:"target"`
	Findings []Finding `json:"findings"`
}

// Finding is one thing that a check of a target noticed.
type Finding struct {
	Severity string `json:"severity" enum:"note,warning,problem"`
	Role     string `json:"role,omitempty" doc:"the role that it is about; absent: the target"`
	Message  string `json:"message"`
	Fix      string `json:"fix,omitempty" doc:"what to type"`
}

// AccessCheck is the answer of POST /v1/access/check: every mistake at once, and none when the files could be
// activated. The call answers 200 either way.
type AccessCheck struct {
	Revision string    `json:"revision,omitempty" doc:"the content hash that these files would have"`
	Errors   []Mistake `json:"errors,omitempty"`

	Findings []AccessFinding `json:"findings,omitempty" doc:"what is wider than it need be, in files without mistakes"`
}

// AccessFinding is one thing that is wider in access files than it need be. It stops nobody.
type AccessFinding struct {
	Rule     string `json:"rule" doc:"see the reference of lint rules"`
	Severity string `json:"severity" enum:"note,warning,problem"`
	File     string `json:"file"`
	Line     int    `json:"line,omitempty" doc:"from 1"`
	Column   int    `json:"column,omitempty" doc:"from 1"`
	Message  string `json:"message" doc:"why it matters"`
	Hint     string `json:"hint,omitempty" doc:"what to write"`
	Excerpt  string `json:"excerpt,omitempty" doc:"the line itself"`
	Accepted string `json:"accepted,omitempty" doc:"the reason that the policy gives for it"`
	Strict   bool   `json:"strict,omitempty" doc:"a strict check fails on it: it is no note, and nobody accepted it"`
}

// Mistake is the place of a finding, and what is said of it.
func (f AccessFinding) Mistake() Mistake {
	return Mistake{File: f.File, Line: f.Line, Column: f.Column, Message: f.Message, Hint: f.Hint, Excerpt: f.Excerpt}
}

// Mistake is one thing wrong in an access file.
type Mistake struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty" doc:"from 1"`
	Column  int    `json:"column,omitempty" doc:"from 1"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Excerpt string `json:"excerpt,omitempty" doc:"the line itself"`
}

// AccessSchema is the answer of GET /v1/schema: the Cedar schema of the active revision.
type AccessSchema struct {
	Schema string `json:"schema"`
}

// LedgerEntry is one leaf of the ledger with its place.
type LedgerEntry struct {
	Index int64  `json:"index"`
	Leaf  []byte `json:"leaf" doc:"base64 of the canonical bytes, which are JSON themselves"`
}

// LedgerProof shows that the ledger of Checkpoint holds a leaf at Index (GET /v1/ledger/proof?leaf=…, where leaf is
// URL-safe base64 of the canonical bytes, such as a receipt holds).
type LedgerProof struct {
	Index      int64    `json:"index"`
	Size       int64    `json:"size"`
	Hashes     [][]byte `json:"hashes" doc:"RFC 6962 audit path, base64"`
	Checkpoint string   `json:"checkpoint" doc:"signed note (C2SP tlog-checkpoint)"`
}

// Readiness is the answer of GET /healthz and GET /readyz: 200 when ready, 503 when not.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty" doc:"why no lease can be acquired now, a sentence each"`
}
