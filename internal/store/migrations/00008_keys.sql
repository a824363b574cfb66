-- +goose Up

-- The newest lease of a principal and key is one row at the end of a range: it is found without statistics, and
-- however often a workload comes with the same key.
DROP INDEX leases_key;
CREATE INDEX leases_key ON leases (key_hash, issuer_url, subject, seq) WHERE key_hash IS NOT NULL;
