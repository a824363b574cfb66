package api

import "encoding/json"

// PostureReport is what somebody says of a device, a cluster or a principal.
type PostureReport struct {
	Fields     json.RawMessage `json:"fields" doc:"an object: the fields that the source declares"`
	ReportedAt *Time           `json:"reported_at,omitempty" doc:"when it was so; now unless given"`
}

// PostureRecord is what a source last said of something.
type PostureRecord struct {
	Source     string          `json:"source"`
	ID         string          `json:"id" doc:"what the record is about: the value of the claim that the source names"`
	Fields     json.RawMessage `json:"fields"`
	ReportedAt Time            `json:"reported_at"`
	ReportedBy string          `json:"reported_by" doc:"principal, local user or URL"`
	Believed   bool            `json:"believed" doc:"policies see the record now: it is not stale, and is what the active access files declare"`
	Until      *Time           `json:"believed_until,omitempty" doc:"when it is stale unless it is reported again; absent: the active access files declare no such source"`
}

// PostureSource is a source of records that the active access files declare.
type PostureSource struct {
	Name   string            `json:"name"`
	Of     map[string]string `json:"of" doc:"the issuers whose principals it speaks of, each with the claim that names the record; sub is the subject"`
	Fields map[string]string `json:"fields" doc:"what a record says, and the types; a question mark: it may be missing"`
	MaxAge Duration          `json:"max_age" doc:"a record older than this counts as missing"`
	URL    string            `json:"url,omitempty" doc:"where records are read; absent: they are reported"`
}
