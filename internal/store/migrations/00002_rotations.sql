-- +goose Up

-- The changes of the ledger's signing key: each with the checkpoint that the old and the new key signed, which
-- exports carry. Who asked for it stands here, because the ledger holds no personal data.
CREATE TABLE ledger_rotations (
  size       BIGINT PRIMARY KEY,
  checkpoint TEXT NOT NULL,
  rotated_by TEXT NOT NULL
);
