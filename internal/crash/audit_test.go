package crash_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/ledger"
)

// whole is after how many rounds the whole ledger is exported and verified; it always is after the last.
const whole = 25

// auditor compares the world with the record. It follows the ledger as a witness does: it keeps the edge of the tree
// and the hashes of the leaves that it has seen, so that a round costs what the round added, and nothing that was
// seen can change unnoticed.
type auditor struct {
	w        *world
	key      string // of the ledger; the broker cannot change it under our eyes
	trusted  *ledger.Verifier
	edge     ledger.Edge
	leaves   map[ledger.Hash]bool
	receipts int // of the holders, verified so far
	strays   int
	longest  time.Duration // that a round took to settle
}

func newAuditor(w *world) *auditor {
	w.t.Helper()
	status, err := w.Admin.Status(w.t.Context())
	must(w.t, err)
	trusted, err := ledger.NewVerifier(status.Ledger.Key)
	must(w.t, err)
	return &auditor{w: w, key: status.Ledger.Key, trusted: trusted, leaves: map[ledger.Hash]bool{}}
}

// audit waits until the broker has settled and compares the world with the record.
func (a *auditor) audit(h *holders, round int) {
	a.w.t.Helper()
	var leases, logins []string
	begun := time.Now()
	must(a.w.t, a.w.Await(a.w.t.Context(), fmt.Sprintf("round %d to settle: logins = live leases", round), func(context.Context) bool {
		var settled bool
		leases, settled = liveLeases(a.w)
		logins = liveLogins(a.w)
		return settled && slices.Equal(leases, logins)
	}))
	a.longest = max(a.longest, time.Since(begun))
	for id, l := range h.live {
		_, alive := slices.BinarySearch(leases, id)
		switch {
		case !alive && !l.ending:
			a.w.t.Errorf("round %d: lease %s was handed out, nobody ended it, and it is gone", round, id)
		case !alive:
			delete(h.live, id)
		case !l.ending && rand.IntN(10) == 0:
			tryLogin(a.w, l.lease)
		}
	}
	h.retire(a.w, leases)
	a.follow(h, round)
}

// follow reads what the ledger has gained, and holds that the signed head is the tree of what was read, in this
// round and before, with every receipt that a caller was given.
func (a *auditor) follow(h *holders, round int) {
	a.w.t.Helper()
	text, err := a.w.Admin.Checkpoint(a.w.t.Context())
	must(a.w.t, err)
	head, err := a.trusted.Checkpoint(text)
	must(a.w.t, err)
	for entry, err := range a.w.Admin.LedgerEntries(a.w.t.Context(), a.edge.Size()) {
		must(a.w.t, err)
		if entry.Index >= head.Size {
			break // it came after the head
		}
		a.take(entry.Leaf, round)
	}
	if a.edge.Size() != head.Size || a.edge.Root() != head.Root {
		a.w.t.Errorf("round %d: the ledger of %d entries is not the one that was read: %d entries", round, head.Size, a.edge.Size())
	}
	for _, text := range h.receipts[a.receipts:] {
		receipt, err := a.trusted.Receipt(text)
		must(a.w.t, err)
		if !a.leaves[ledger.LeafHash(receipt.Leaf)] {
			a.w.t.Errorf("round %d: the ledger lacks what a receipt promised: %s", round, receipt.Leaf)
		}
	}
	a.receipts = len(h.receipts)
}

// take adds a leaf to what was seen.
func (a *auditor) take(leaf []byte, round int) {
	a.w.t.Helper()
	entry, err := ledger.ParseLeaf(leaf)
	must(a.w.t, err)
	if entry.Event == ledger.TargetStray {
		a.strays++
		a.w.t.Errorf("round %d: a stray: %s", round, leaf)
	}
	hash := ledger.LeafHash(leaf)
	a.edge.Append(nil, hash)
	a.leaves[hash] = true
}

// auditWhole verifies an export as an auditor would who comes once, against every receipt that the callers hold.
func (a *auditor) auditWhole(h *holders, round int) {
	a.w.t.Helper()
	in, out := io.Pipe()
	go func() { out.CloseWithError(a.w.Admin.ExportLedger(a.w.t.Context(), out)) }()
	report, err := ledger.VerifyExport(bufio.NewReader(in), []string{a.key}, h.receipts, time.Now())
	in.Close()
	if err != nil {
		a.w.t.Errorf("round %d: the ledger does not verify: %v", round, err)
	}
	if report.Held != len(h.receipts) {
		a.w.t.Errorf("round %d: the ledger holds %d of %d receipts", round, report.Held, len(h.receipts))
	}
}

// liveLeases lists the leases that are not revoked, and reports whether all of them are active.
func liveLeases(w *world) (ids []string, settled bool) {
	status, err := w.Admin.Status(w.t.Context())
	if err != nil || status.Leases.Pending+status.Leases.Revoking > 0 {
		return nil, false
	}
	for l, err := range w.Admin.Leases(w.t.Context(), client.Filter{State: "active"}) {
		if err != nil {
			return nil, false
		}
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	return ids, true
}

// liveLogins asks PostgreSQL itself, as its superuser: every role of ours that can log in.
func liveLogins(w *world) (ids []string) {
	w.t.Helper()
	db, err := pgx.Connect(w.t.Context(), w.Postgres.Superuser(rig.Database))
	must(w.t, err)
	defer db.Close(context.WithoutCancel(w.t.Context()))
	rows, err := db.Query(w.t.Context(), `select split_part(rolname, '_', 3) from pg_roles where rolname ~ '^dp_' and rolcanlogin`)
	must(w.t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(w.t, err)
	slices.Sort(ids)
	return ids
}

// tryLogin holds that a lease that was handed out still opens the database.
func tryLogin(w *world, l *client.Lease) {
	w.t.Helper()
	db, err := pgx.Connect(w.t.Context(), l.Credential.Secret("url").Reveal())
	if err != nil {
		w.t.Errorf("the credential of live lease %s does not work: %v", l.ID(), err)
		return
	}
	_ = db.Close(w.t.Context())
}
