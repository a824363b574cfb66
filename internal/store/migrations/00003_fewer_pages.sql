-- +goose Up

-- A lease token names its lease, so that a lease is found by its ID alone: one index less whose every insert falls
-- on another page.
DROP INDEX leases_token;
-- Only of a target is it asked how many leases are pending; elsewhere they count as active, so that the outcome of
-- a grant touches one row and not four.
UPDATE tallies SET active = active + pending, pending = 0 WHERE target = '';
