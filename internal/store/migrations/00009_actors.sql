-- +goose Up

-- Who acts in which lease that lives: a lock over who acts ends it too. Leases in which nobody acts have no rows.
CREATE TABLE lease_actors (
  issuer_url TEXT NOT NULL,
  subject    TEXT NOT NULL,
  lease      TEXT NOT NULL,
  PRIMARY KEY (issuer_url, subject, lease)
);

-- Leases of before this table are not listed in it, and servers of before may still be making some. While this stands,
-- they are looked for among all that live. It goes when there are none of either.
INSERT INTO meta (name, value) SELECT 'unlisted_actors', 'yes' FROM meta WHERE name = 'boot';
ALTER TABLE replicas ADD COLUMN lists_actors INTEGER NOT NULL DEFAULT 0;
