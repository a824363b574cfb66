package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// The crowd of [Crowd]: what all of its leases share, and how many there are in each state.
const (
	CrowdRole    = "reader"
	CrowdTarget  = "db"
	CrowdURL     = "https://token.actions.githubusercontent.com"
	CrowdSubject = "repo:acme/orders"
	CrowdSize    = 100_000

	crowdActive, crowdRevoking = 30_000, 10_000 // the rest is revoked
)

// Crowd puts the leases of one principal into a created store, of one role at one target, as a loop would leave them.
// key is the expression, over the column i, of the hash of a lease's Idempotency-Key. Like that of [Seed] such a store
// does not pass [Audit].
func Crowd(ctx context.Context, db *sql.DB, key string) error {
	const text = `insert into leases (id, state, reason, role, target, issuer, issuer_url, subject, claims, run,
		decision, revision, created_at, expires_at, renewable_until, native_until, ended_at, revoked_at, revocation,
		token_hash, key_hash, body_hash, renew_by_handle, boot, attempt, last_error, version, wake, live, entry)
		with recursive n (i) as (select 1 union all select i + 1 from n where i < %[1]d),
		s (i, state) as (select i, case when i <= %[2]d then 'active' when i <= %[3]d then 'revoking' else 'revoked' end from n)
		select 'lease-' || i, state, case state when 'active' then '' else 'expired' end, '%[4]s', '%[5]s', 'github', '%[6]s',
		'%[7]s', %[8]s, '', 'decision-' || i, 'r1', i, i, i, i, 0, case state when 'revoked' then i else 0 end, 'instant',
		%[8]s, %[8]s, %[8]s, 0, 1, 0, '', 1, i, case state when 'revoked' then 0 else 1 end, -1 from s`
	_, err := db.ExecContext(ctx, fmt.Sprintf(text, CrowdSize, crowdActive, crowdActive+crowdRevoking, CrowdRole, CrowdTarget,
		CrowdURL, CrowdSubject, key))
	for _, scope := range []string{"'" + CrowdTarget + "', '', '', ''", "'', '" + CrowdRole + "', '', ''",
		"'', '', '" + CrowdURL + "', '" + CrowdSubject + "'", "'', '" + CrowdRole + "', '" + CrowdURL + "', '" + CrowdSubject + "'"} {
		if err == nil {
			_, err = db.ExecContext(ctx, fmt.Sprintf(`insert into tallies (target, role, issuer_url, subject, pending, active, revoking)
				values (%s, 0, %d, %d)`, scope, crowdActive, crowdRevoking))
		}
	}
	return err
}

// Question is something that the store is asked, or told, while it serves.
type Question struct {
	Name string
	Rows int // how many leases one statement of its may have to look at
	Ask  func(*store.Tx) error
}

// crowdPage is how many leases those questions ask for that have a limit.
const crowdPage = 50

// Questions are the questions about leases that a crowd must not make slow. key is the hash of the Idempotency-Key of
// lease number 1 in it. To ask them changes the store.
func Questions(key []byte) []Question {
	end := time.UnixMicro(CrowdSize)
	one := Question{Rows: 1}
	some := Question{Rows: crowdPage}
	walk := Question{Rows: 20_000} // the budget of one page
	ask := func(like Question, name string, fn func(*store.Tx) error) Question {
		return Question{Name: name, Rows: like.Rows, Ask: fn}
	}
	list := func(like Question, name string, f store.Filter) Question {
		return ask(like, "list "+name, func(tx *store.Tx) error {
			_, next, err := tx.Leases(f, "", crowdPage)
			if err == nil && next != "" {
				_, _, err = tx.Leases(f, next, crowdPage)
			}
			return err
		})
	}
	all := []Question{
		ask(one, "a lease by its key", func(tx *store.Tx) error { return second(tx.LeaseByKey(CrowdURL, CrowdSubject, key)) }),
		ask(one, "a lease by a new key", func(tx *store.Tx) error { return gone(tx.LeaseByKey(CrowdURL, CrowdSubject, []byte("new"))) }),
		ask(one, "a lease by its ID", func(tx *store.Tx) error { return second(tx.Lease("lease-7")) }),
		ask(one, "the entries of a lease", func(tx *store.Tx) error { return second(tx.Positions("lease-7")) }),
		ask(one, "the next expiry", func(tx *store.Tx) error { return third(tx.NextExpiry()) }),
		ask(one, "the next wake", func(tx *store.Tx) error { return third(tx.NextWake()) }),
		ask(one, "when a target has work", func(tx *store.Tx) error { return third(tx.NextDue(CrowdTarget)) }),
		ask(some, "what is due", func(tx *store.Tx) error { return second(tx.Due(CrowdTarget, end, crowdPage)) }),
		ask(some, "what has expired", func(tx *store.Tx) error { return second(tx.Expired(end, crowdPage)) }),
		ask(some, "what was interrupted", func(tx *store.Tx) error { return second(tx.Interrupted(1, crowdPage)) }),
		ask(some, "what is overdue", func(tx *store.Tx) error { return second(tx.Overdue(end, crowdPage)) }),
		ask(Question{Rows: 1000}, "the targets", func(tx *store.Tx) error { return second(tx.Targets()) }),
		ask(one, "a tally", func(tx *store.Tx) error {
			return second(tx.Live(store.Scope{IssuerURL: CrowdURL, Subject: CrowdSubject}))
		}),
		ask(some, "the inputs of decisions", func(tx *store.Tx) error {
			return second(tx.DecisionInputs([]store.Lease{{ID: "lease-7", Decision: "decision-7"}}))
		}),
		ask(some, "retention", func(tx *store.Tx) error { return third(tx.Prune(end, end, crowdPage)) }),
		ask(one, "a try that failed", func(tx *store.Tx) error { return tx.Retry("lease-30001", 1, end, "") }),
		ask(one, "a renewal", func(tx *store.Tx) error {
			l, err := tx.Lease("lease-8")
			if err == nil {
				err = tx.Renew(&l, end)
			}
			if err == nil {
				_, err = tx.Extend(&l, end, end)
			}
			return err
		}),
		list(some, "everything", store.Filter{}),
		list(some, "what lives", store.Filter{Live: true}),
		list(some, "what lives of a role", store.Filter{Live: true, Role: CrowdRole}),
		list(some, "what lives at a target", store.Filter{Live: true, Target: CrowdTarget}),
		list(some, "of a principal", store.Filter{IssuerURL: CrowdURL, Subject: CrowdSubject}),
		list(walk, "what lives of a principal", store.Filter{Live: true, IssuerURL: CrowdURL, Subject: CrowdSubject}),
		list(walk, "in a state", store.Filter{State: lease.Revoked}),
	}
	for _, e := range []lease.Event{lease.Ended, lease.Proved} {
		all = append(all, ask(one, string(e), func(tx *store.Tx) error {
			l, err := tx.Lease("lease-9")
			if err == nil {
				_, err = tx.Move(&l, e, store.Why{Reason: lease.Expired, Now: end})
			}
			return err
		}))
	}
	return all
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// gone is the error of an answer that should not be there.
func gone(l store.Lease, err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return fmt.Errorf("found %s, want none: %w", strconv.Quote(string(l.ID)), err)
}
