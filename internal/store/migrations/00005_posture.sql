-- +goose Up

-- What sources last said of devices, clusters and principals. Empty fields: the record was taken back, and the leases
-- that hung on it are still to be looked at.
CREATE TABLE posture (
  source      TEXT NOT NULL,
  id          TEXT NOT NULL,
  fields      BYTES NOT NULL,
  reported_at BIGINT NOT NULL,
  reported_by TEXT NOT NULL,
  -- Which change of its source made it what it is, so that a change is found by whoever looks at leases.
  turn        BIGINT NOT NULL,
  -- 0 once it was found to be too old: that is a change too, and is made once.
  fresh       INTEGER NOT NULL,
  PRIMARY KEY (source, id)
);
CREATE INDEX posture_turn ON posture (source, turn);
CREATE INDEX posture_fresh ON posture (source, reported_at) WHERE fresh = 1;

-- How many records a source has, its last change, and the last one whose leases were all looked at.
CREATE TABLE posture_sources (
  source   TEXT PRIMARY KEY,
  records  BIGINT NOT NULL,
  turn     BIGINT NOT NULL,
  reviewed BIGINT NOT NULL
);

-- Which leases are of principals that a record speaks of, whether or not there is such a record.
CREATE TABLE posture_leases (
  source TEXT NOT NULL,
  id     TEXT NOT NULL,
  lease  TEXT NOT NULL,
  PRIMARY KEY (source, id, lease)
);
