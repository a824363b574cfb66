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
}
