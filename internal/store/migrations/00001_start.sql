-- One text for every database. Three words are replaced before it runs: BYTES, SERIAL_KEY and POSITION_KEY.
-- Times are microseconds since 1970 in UTC, 0 where there is none. Booleans are 0 and 1.

-- +goose Up

-- What is true of the whole store: instance, boot, epoch, ledger key, active revision.
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE leases (
  seq             SERIAL_KEY,
  id              TEXT NOT NULL UNIQUE,
  -- OR and not IN: for a list of more than two SQLite makes a table, at every write.
  state           TEXT NOT NULL CHECK (state = 'pending' OR state = 'active' OR state = 'revoking' OR state = 'revoked'),
  reason          TEXT NOT NULL CHECK (reason = '' OR reason = 'released' OR reason = 'expired' OR reason = 'locked' OR
                    reason = 'revoked' OR reason = 'superseded' OR reason = 'undelivered' OR reason = 'failed' OR
                    reason = 'interrupted' OR reason = 'withdrawn' OR reason = 'policy'),
  role            TEXT NOT NULL,
  target          TEXT NOT NULL,
  issuer          TEXT NOT NULL,
  issuer_url      TEXT NOT NULL,
  subject         TEXT NOT NULL,
  claims          BYTES NOT NULL,
  run             TEXT NOT NULL,
  decision        TEXT NOT NULL,
  revision        TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  renewable_until BIGINT NOT NULL,
  native_until    BIGINT NOT NULL,
  ended_at        BIGINT NOT NULL,
  revoked_at      BIGINT NOT NULL,
  revocation      TEXT NOT NULL,
  token_hash      BYTES NOT NULL,
  key_hash        BYTES,
  body_hash       BYTES,
  renew_by_handle INTEGER NOT NULL,
  boot            BIGINT NOT NULL,
  attempt         BIGINT NOT NULL,
  last_error      TEXT NOT NULL,
  version         BIGINT NOT NULL,
  -- When the state asks for attention: an active lease at its expiry, a revoking one at its next attempt. A
  -- pending one has its creation here and a revoked one its death. One column, so that one index serves all.
  wake            BIGINT NOT NULL,
  -- 0 once it is revoked. Beside state, because an index on state would be rewritten by every move.
  live            INTEGER NOT NULL,
  -- The ledger position of the lease's last entry; entries point back at the ones before.
  entry           BIGINT NOT NULL,
  CHECK ((state IN ('pending', 'active')) = (reason = '')),
  CHECK ((state = 'revoked') = (revoked_at > 0)),
  CHECK ((state = 'revoked') = (live = 0))
);
CREATE UNIQUE INDEX leases_token ON leases (token_hash);
CREATE INDEX leases_key ON leases (key_hash, issuer_url, subject) WHERE key_hash IS NOT NULL;
CREATE INDEX leases_wake ON leases (state, target, wake);
CREATE INDEX leases_principal ON leases (subject, issuer_url, seq);
CREATE INDEX leases_role ON leases (role, seq) WHERE live = 1;
CREATE INDEX leases_target ON leases (target, seq) WHERE live = 1;

-- How many leases each scope has in each state that may live: a limit is checked by reading one row.
CREATE TABLE tallies (
  target     TEXT NOT NULL,
  role       TEXT NOT NULL,
  issuer_url TEXT NOT NULL,
  subject    TEXT NOT NULL,
  pending    BIGINT NOT NULL,
  active     BIGINT NOT NULL,
  revoking   BIGINT NOT NULL,
  -- In this order a principal's rows are neighbours, as are the targets'.
  PRIMARY KEY (subject, issuer_url, target, role)
);

-- The ledger: leaves in order, their tree as tiles of 256 hashes, and the head with its signed checkpoint.
CREATE TABLE ledger_leaves (
  position POSITION_KEY,
  previous BIGINT NOT NULL,
  leaf     BYTES NOT NULL
);
CREATE TABLE ledger_tiles (
  level  BIGINT NOT NULL,
  n      BIGINT NOT NULL,
  hashes BYTES NOT NULL,
  PRIMARY KEY (level, n)
);
CREATE TABLE ledger_head (
  id         BIGINT PRIMARY KEY CHECK (id = 1),
  size       BIGINT NOT NULL,
  checkpoint TEXT NOT NULL
);

CREATE TABLE decisions (
  seq        SERIAL_KEY,
  id         TEXT NOT NULL UNIQUE,
  at         BIGINT NOT NULL,
  revision   TEXT NOT NULL,
  issuer     TEXT NOT NULL,
  issuer_url TEXT NOT NULL,
  subject    TEXT NOT NULL,
  action     TEXT NOT NULL,
  resource   TEXT NOT NULL,
  outcome    TEXT NOT NULL CHECK (outcome IN ('allow', 'deny')),
  reasons    BYTES NOT NULL,
  input      BYTES NOT NULL,
  salt       BYTES NOT NULL,
  lease      TEXT NOT NULL,
  count      BIGINT NOT NULL
);

CREATE TABLE locks (
  seq        SERIAL_KEY,
  id         TEXT NOT NULL UNIQUE,
  issuer     TEXT NOT NULL,
  issuer_url TEXT NOT NULL,
  subject    TEXT NOT NULL,
  role       TEXT NOT NULL,
  target     TEXT NOT NULL,
  lease      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  lifted_at  BIGINT NOT NULL,
  lifted_by  TEXT NOT NULL,
  hits       BIGINT NOT NULL,
  salt       BYTES NOT NULL
);
CREATE INDEX locks_standing ON locks (expires_at) WHERE lifted_at = 0;

CREATE TABLE revisions (
  seq        SERIAL_KEY,
  id         TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  created_by TEXT NOT NULL,
  files      BYTES NOT NULL,
  activated_at BIGINT NOT NULL,
  activated_by TEXT NOT NULL
);

CREATE TABLE issuer_keys (
  url        TEXT PRIMARY KEY,
  jwks       BYTES NOT NULL,
  fetched_at BIGINT NOT NULL
);
CREATE TABLE sealed (
  name       TEXT PRIMARY KEY,
  ciphertext BYTES NOT NULL
);
CREATE TABLE target_marks (
  name TEXT PRIMARY KEY,
  mark TEXT NOT NULL
);
