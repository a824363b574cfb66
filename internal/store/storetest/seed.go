package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// seedBatch is how many leases one statement inserts, and seedCommit how many statements one transaction has.
const (
	seedBatch  = 50
	seedCommit = 400
)

// Seed puts n active leases into a created store that is not open, for benchmarks of size: rows, indexes and
// tallies as the store would have them, over 20 roles at 10 targets and n/10 principals. They have no ledger
// entries, so a seeded store does not pass [Audit].
func Seed(ctx context.Context, db *sql.DB, n int) error {
	const width = 10
	row := `('active', '', $%d, $%d, 'github', 'https://token.actions.githubusercontent.com', $%d, $%d, '16442133', $%d, 'r1',
		$%d, $%d, $%d, $%d, 0, 0, 'instant', $%d, null, null, 0, 1, 0, '', 2, $%d, 1, -1, $%d)`
	var text strings.Builder
	text.WriteString(`insert into leases (state, reason, role, target, issuer, issuer_url, subject, claims, run,
		decision, revision, created_at, expires_at, renewable_until, native_until, ended_at, revoked_at, revocation,
		token_hash, key_hash, body_hash, renew_by_handle, boot, attempt, last_error, version, wake, live, entry, id) values `)
	for i := range seedBatch {
		if i > 0 {
			text.WriteString(", ")
		}
		at := i * width
		// role, target, subject, claims, decision, created, expires, renewable, native, token, wake, id
		fmt.Fprintf(&text, row, at+1, at+2, at+3, at+4, at+5, at+6, at+7, at+7, at+7, at+8, at+7, at+9)
	}
	insert := strings.ReplaceAll(text.String(), "\n\t\t", " ")
	for done := 0; done < n; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		stmt, err := tx.PrepareContext(ctx, insert)
		if err != nil {
			return err
		}
		for range seedCommit {
			if done >= n {
				break
			}
			args := make([]any, 0, seedBatch*width)
			for range seedBatch {
				l := NewLease(fmt.Sprint("role-", done%20), fmt.Sprint("db-", done%10))
				args = append(args, l.Role, l.Target, fmt.Sprint("repo:acme/", done%max(1, n/10)), l.Claims, l.Decision,
					l.CreatedAt.UnixMicro(), l.ExpiresAt.AddDate(1, 0, 0).UnixMicro()+int64(done), l.TokenHash, string(l.ID), 0)
				done++
			}
			if _, err := stmt.ExecContext(ctx, args...); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return seedTallies(ctx, db)
}

// seedTallies counts what is there.
func seedTallies(ctx context.Context, db *sql.DB) error {
	for _, scope := range []struct{ columns, group string }{
		{"target, '', '', ''", "target"},
		{"'', role, '', ''", "role"},
		{"'', '', issuer_url, subject", "issuer_url, subject"},
		{"'', role, issuer_url, subject", "role, issuer_url, subject"},
	} {
		_, err := db.ExecContext(ctx, `insert into tallies (target, role, issuer_url, subject, pending, active, revoking)
			select `+scope.columns+`, 0, count(*), 0 from leases where state = 'active' group by `+scope.group)
		if err != nil {
			return err
		}
	}
	return nil
}
