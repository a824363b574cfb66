package api

// InvitationRequest is the body of POST /v1/devices/enrolments.
type InvitationRequest struct {
	Issuer     string            `json:"issuer" doc:"name of an issuer of devices"`
	Name       string            `json:"name" doc:"of the device: 1 to 63 of a-z, 0-9, dot, underscore and hyphen"`
	Labels     map[string]string `json:"labels,omitempty" doc:"what policies may ask of the device, at most 16"`
	Thumbprint string            `json:"thumbprint,omitempty" doc:"of the one key that may use the token (RFC 7638, SHA-256); any unless given"`
	TTL        *Duration         `json:"ttl,omitempty" doc:"how long the token is good, at most 24h; 1h unless given"`
}

// Invitation is an enrolment token. It is shown once.
type Invitation struct {
	Issuer    string `json:"issuer"`
	Name      string `json:"name"`
	Token     string `json:"token" doc:"good for one device, once"`
	ExpiresAt Time   `json:"expires_at"`
}

// EnrolmentRequest is the body of POST /v1/devices. A DPoP header proves the device's key, with the hash of the token
// as `ath`.
type EnrolmentRequest struct {
	Token string `json:"token" doc:"the enrolment token"`
}

// DeviceRenewal is the body of POST /v1/devices/{issuer}/{name}/renew. A DPoP header proves the device's key.
type DeviceRenewal struct {
	NextProof string `json:"next_proof,omitempty" doc:"a DPoP proof of the key that the device will have from now on, for this request, with the hash of the proof in the header as ath; the key stays unless given"`
}

// Device is a machine that was enrolled.
type Device struct {
	Issuer     string            `json:"issuer"`
	IssuerURL  string            `json:"issuer_url" doc:"iss of what the device signs"`
	Name       string            `json:"name"`
	Audience   string            `json:"audience" doc:"aud of what the device signs"`
	Thumbprint string            `json:"thumbprint" doc:"of its key (RFC 7638)"`
	Labels     map[string]string `json:"labels,omitempty"`
	State      string            `json:"state" enum:"enrolled,expired,removed"`
	EnrolledAt Time              `json:"enrolled_at"`
	EnrolledBy string            `json:"enrolled_by" doc:"who made the enrolment token"`
	Until      Time              `json:"until" doc:"the end of its term, unless it renews it"`
	RemovedAt  *Time             `json:"removed_at,omitempty"`
}
