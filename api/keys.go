package api

// KeyRotation is the answer of POST /v1/keys/rotate: the key that signs the ledger from now on (administrators).
type KeyRotation struct {
	Key   string `json:"key" doc:"the new verifier key, as C2SP signed notes write it"`
	Entry int64  `json:"entry" doc:"index of the ledger's entry about it"`
}
