package api

// KeyRotation is the answer of POST /v1/keys/rotate: the key that signs the ledger from now on (administrators).
type KeyRotation struct {
	Key   string `json:"key" doc:"the new verifier key, as C2SP signed notes write it"`
	Entry int64  `json:"entry" doc:"index of the ledger's entry about it"`
}

// IssuerRotationRequest is the body of POST /v1/keys/issuer/rotate (administrators).
type IssuerRotationRequest struct {
	Withdraw bool `json:"withdraw,omitempty" doc:"keys were stolen: take all that were published out of the documents at once, and sign with fresh ones"`
}

// IssuerRotation is its answer.
type IssuerRotation struct {
	Signing string `json:"signing" doc:"what the IDs of the keys begin with that sign tokens from now on"`
	Next    string `json:"next" doc:"and of those that will sign after them, which are published already"`
}
