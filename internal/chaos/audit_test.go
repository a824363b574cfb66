package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/ledger"
	"github.com/daypass/daypass/secret"
)

// settleTime is how long the broker may take to bring everything in order when all works again: a revocation that
// failed often in the accidents waits for minutes before it is tried again.
const settleTime = 6 * time.Minute

// row is a lease as the store has it.
type row struct {
	ID, State, Reason string
	Boot              int64
}

// audit compares what the callers were told with the store, the target and the ledger. It asks them itself, with SQL
// and the public verifier of the ledger; of the broker it uses the API only, to end what is left.
func (w *world) audit() {
	w.t.Helper()
	begun := time.Now()
	rows := w.settle("logins = live leases")
	w.t.Logf("settled after %v", time.Since(begun).Round(100*time.Millisecond))
	w.tryTheLiving()
	for _, l := range rows {
		if l.State == active {
			w.release(l.ID)
		}
	}
	begun = time.Now()
	rows = w.settle("no lease lives", active)
	w.t.Logf("all was revoked after %v", time.Since(begun).Round(100*time.Millisecond))
	w.auditLeases(rows)
	w.auditLedger(rows)
	for _, r := range w.fleet.Replicas {
		if strings.Contains(r.Log(), "DATA RACE") { // found where CHAOS_RACE built them to look
			w.t.Errorf("%s has a data race: its log says where (CHAOS_LOGS keeps it)", r.Name)
		}
	}
}

// settle waits until every lease is active or revoked, and in none of the states in not, and the target has the logins
// of those that are active and no other.
func (w *world) settle(what string, not ...string) (rows []row) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settleTime)
	defer cancel()
	not = append(not, pending, revoking)
	for {
		rows = query[row](ctx, w, w.fleet.Primary(), rig.StoreDatabase, "select id, state, reason, boot from leases")
		logins := query[struct{ Lease string }](ctx, w, w.fleet.Postgres, rig.Database,
			`select split_part(rolname, '_', 3) as lease from pg_roles where rolname ~ '^dp_' and rolcanlogin`)
		var live, open, waiting []string
		for _, l := range rows {
			if l.State == active {
				live = append(live, l.ID)
			}
			if slices.Contains(not, l.State) {
				waiting = append(waiting, l.ID+" "+l.State+" "+l.Reason)
			}
		}
		for _, l := range logins {
			open = append(open, l.Lease)
		}
		slices.Sort(live)
		slices.Sort(open)
		if len(waiting) == 0 && slices.Equal(live, open) {
			return rows
		}
		if w.pause(ctx, 200*time.Millisecond); ctx.Err() != nil {
			w.t.Fatalf("waited in vain for: %s\nthe store's: %v\nthe target's: %v\nthese wait: %v", what, live, open, waiting)
		}
	}
}

// query reads rows as a server's superuser.
func query[T any](ctx context.Context, w *world, server *testbed.Postgres, database, text string) []T {
	w.t.Helper()
	db, err := pgx.Connect(ctx, server.Superuser(database))
	must(w.t, err)
	defer db.Close(context.WithoutCancel(ctx))
	rows, err := db.Query(ctx, text)
	must(w.t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	must(w.t, err)
	return all
}

// tryTheLiving holds that every credential that was handed out opens the target until the time that its holder was told.
func (w *world) tryTheLiving() {
	for _, l := range w.records.leases {
		if l.ended.IsZero() && time.Now().Before(l.until) {
			if o, told := tryCredential(w.t.Context(), l.url); told {
				l.seen = append(l.seen, o)
			}
		}
	}
}

// release ends what nobody ends any more, as an administrator.
func (w *world) release(id string) {
	w.t.Helper()
	if l := w.records.leases[id]; l != nil {
		w.ending(l)
	}
	if _, err := w.fleet.Replicas[0].Admin.Handle(id, secret.Text{}).Release(w.t.Context(), 0); err != nil {
		w.t.Errorf("release lease %s: %v", id, err)
	}
}

// auditLeases holds what the callers were told against each other and against the store.
func (w *world) auditLeases(rows []row) {
	stored, reasons := map[string]row{}, map[string]int{}
	for _, l := range rows {
		stored[l.ID] = l
		reasons[l.State+" "+l.Reason]++
	}
	observations := 0
	for id, l := range w.records.leases {
		observations += len(l.seen)
		for _, wrong := range l.check() {
			w.t.Error(wrong)
		}
		switch kept, known := stored[id]; {
		case !known:
			w.t.Errorf("lease %s was handed out by %s, and the store does not have it", id, l.replica)
		case !slices.Contains([]string{"released", "expired", "locked", "revoked"}, kept.Reason): // the last: by the audit
			w.t.Errorf("lease %s was handed out by %s, and ended because it was %s", id, l.replica, kept.Reason)
		}
	}
	for _, twice := range w.records.twice {
		w.t.Errorf("a lease was handed out twice: %s", twice)
	}
	if len(w.records.leases) < callers {
		w.t.Errorf("only %d leases were handed out: the run shows little", len(w.records.leases))
	}
	w.t.Logf("%d leases in the store (%v), %d handed out, %d things seen of them", len(rows), reasons, len(w.records.leases), observations)
}

// auditLedger verifies the ledger that each replica exports, with the key that opened it and every receipt, and holds
// that it is the one in the store and tells the life of every lease.
func (w *world) auditLedger(rows []row) {
	w.t.Helper()
	var receipts []string
	for _, l := range w.records.leases {
		receipts = append(receipts, l.receipt)
	}
	var edge ledger.Edge
	lives, strays := map[string][]ledger.Event{}, 0
	leaves := query[struct {
		Position int64
		Leaf     []byte
	}](w.t.Context(), w, w.fleet.Primary(), rig.StoreDatabase, "select position, leaf from ledger_leaves order by position")
	for _, l := range leaves {
		if l.Position != edge.Size() {
			w.t.Fatalf("the ledger has no entry %d", edge.Size())
		}
		edge.Append(nil, ledger.LeafHash(l.Leaf))
		entry, err := ledger.ParseLeaf(l.Leaf)
		must(w.t, err)
		switch entry.Event {
		case ledger.TargetStray, ledger.TargetMissing:
			strays++
			w.t.Errorf("entry %d: %s", l.Position, l.Leaf)
		case ledger.Epoch:
			w.t.Errorf("entry %d: a replica took the store for a restored one: %s", l.Position, l.Leaf)
		default:
			if strings.HasPrefix(string(entry.Event), "lease.") {
				lives[entry.Lease] = append(lives[entry.Lease], entry.Event)
			}
		}
	}
	rotations := 0
	for _, r := range w.fleet.Replicas {
		report, err := w.verify(r.Admin, receipts)
		if err != nil {
			w.t.Errorf("the ledger that %s exports does not verify: %v", r.Name, err)
		}
		if report.Held != len(receipts) {
			w.t.Errorf("the ledger that %s exports holds %d of %d receipts", r.Name, report.Held, len(receipts))
		}
		if report.Checkpoint.Size != edge.Size() || report.Checkpoint.Root != edge.Root() {
			w.t.Errorf("the ledger that %s exports is not the one in the store", r.Name)
		}
		rotations = len(report.Rotations)
	}
	for _, l := range rows {
		if err := inOrder(lives[l.ID]); err != nil {
			w.t.Errorf("lease %s: %v", l.ID, err)
		}
		delete(lives, l.ID)
	}
	for id, life := range lives {
		w.t.Errorf("the ledger tells of lease %s, which the store does not have: %v", id, life)
	}
	w.t.Logf("%d receipts proved in one ledger of %d entries under %d keys, %d strays", len(receipts), edge.Size(), rotations+1, strays)
}

func (w *world) verify(from *client.Client, receipts []string) (ledger.Report, error) {
	in, out := io.Pipe()
	go func() { out.CloseWithError(from.ExportLedger(w.t.Context(), out)) }()
	defer in.Close()
	return ledger.VerifyExport(bufio.NewReader(in), []string{w.key}, receipts, time.Now())
}

// inOrder holds that a lease that is dead has lived: it began, perhaps was granted and renewed, and ended.
func inOrder(life []ledger.Event) error {
	var text strings.Builder
	for _, e := range life {
		text.WriteString(strings.TrimPrefix(string(e), "lease.") + " ")
	}
	told, ok := strings.CutPrefix(text.String(), "pending ")
	if ok {
		told, ok = strings.CutSuffix(told, "revoking revoked ")
	}
	if granted, was := strings.CutPrefix(told, "active "); was {
		told = strings.ReplaceAll(granted, "renewed ", "")
	}
	if !ok || told != "" {
		return fmt.Errorf("the ledger tells its life as: %s", text.String())
	}
	return nil
}
