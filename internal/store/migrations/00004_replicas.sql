-- +goose Up

-- The processes that write to one database, by their boot. Each writes its own row with every group, so that after
-- a lost answer it can ask which of its groups was committed last. In a file, which has one owner, there are none.
CREATE TABLE replicas (
  boot       BIGINT PRIMARY KEY,
  name       TEXT NOT NULL,
  last_group BIGINT NOT NULL,
  seen_at    BIGINT NOT NULL
);

-- Which of them does what one should do, such as the revocations and sweeps of a target, and until when.
CREATE TABLE keepers (
  name  TEXT PRIMARY KEY,
  boot  BIGINT NOT NULL,
  until BIGINT NOT NULL
);
