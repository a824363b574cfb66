-- +goose Up

-- Devices that were enrolled, by the issuer that vouches for them. One that was removed, or whose term is over, stays
-- for the record until somebody enrols under its name again or the table is swept.
CREATE TABLE devices (
  issuer_url  TEXT NOT NULL,
  name        TEXT NOT NULL,
  thumbprint  TEXT NOT NULL,
  -- The public key as a JWK, and the labels as a JSON object.
  key         BYTES NOT NULL,
  labels      BYTES NOT NULL,
  enrolled_at BIGINT NOT NULL,
  enrolled_by TEXT NOT NULL,
  until       BIGINT NOT NULL,
  removed_at  BIGINT NOT NULL,
  -- 1 once the device is gone and its leases were ended.
  ended       INTEGER NOT NULL,
  PRIMARY KEY (issuer_url, name)
);
CREATE INDEX devices_until ON devices (until) WHERE ended = 0;
CREATE INDEX devices_removed ON devices (removed_at) WHERE ended = 0 AND removed_at > 0;
