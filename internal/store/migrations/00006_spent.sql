-- +goose Up

-- What is good once and was used: IDs of tokens and proofs, and tokens that were revoked. Hashes, until a time from
-- which nobody takes them anyway.
CREATE TABLE spent (
  kind  TEXT NOT NULL,
  id    BYTES NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX spent_until ON spent (until);
