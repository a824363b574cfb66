package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/sqlite"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/ledger"
)

// envChange names the store whose keys a child changes, and how: "rotate" or "reseal". It dies as [envKillAt] says.
const envChange = "DAYPASS_STORE_CHANGE"

// change is the child.
func change(order string) error {
	how, path, _ := strings.Cut(order, " ")
	if how == "reseal" {
		opt := sqlite.Options{Wrap: suicide()}
		return sqlite.Reseal(context.Background(), path, opt, func(all map[string][]byte) error {
			for name, value := range all {
				all[name] = append([]byte("again "), value...)
			}
			return nil
		})
	}
	signer, err := storetest.KeptSigner(context.Background(), file{path: path})
	if err != nil {
		return err
	}
	opt := sqlite.Options{Options: store.Options{Signer: signer}, Ballast: -1, Wrap: suicide()}
	s, err := sqlite.Open(context.Background(), path, opt)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = s.Run(ctx) }()
	r, err := storetest.NextKey()
	if err != nil {
		return err
	}
	err = s.Update(ctx, func(tx *store.Tx) error { _, err := tx.Rotate(r); return err })
	if err == nil {
		fmt.Println(r.Signer.VerifierKey())
	}
	return err
}

// killedChange runs a child that dies before or after a statement, and returns what it told and whether it died.
func killedChange(t *testing.T, order string, at int, when string) (told string, died bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChange+"="+order, fmt.Sprintf("%s=%d %s", envKillAt, at, when))
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err == nil {
		return strings.TrimSpace(string(out)), false
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v", err)
	}
	return strings.TrimSpace(string(out)), true
}

// The child is killed at every statement from the opening of the store to the end of the rotation.
func TestARotationKilledAtAnyMomentLeavesOneKeyWhole(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	changed, stayed := 0, 0
	before, err := storetest.FixedSigner()
	if err != nil {
		t.Fatal(err)
	}
	for at, died := 1, true; died; at++ {
		for _, when := range []string{"before", "after"} {
			var told string
			told, died = killedChange(t, "rotate "+file.path, at, when)
			now, err := storetest.KeptSigner(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			if now.VerifierKey() == before.VerifierKey() {
				stayed++
			} else {
				changed++
			}
			if !died && told != now.VerifierKey() || told != "" && told != now.VerifierKey() {
				t.Errorf("%s statement %d: %q was promised and %s is kept", when, at, told, now.VerifierKey())
			}
			goesOn(t, file, now)
			before = now
		}
	}
	if changed < 2 || stayed < 2 {
		t.Errorf("%d rotations happened and %d did not: the test proves nothing", changed, stayed)
	}
}

// goesOn holds that a store opens with a key and that its ledger verifies from the first one.
func goesOn(t *testing.T, file file, key *ledger.Signer) {
	t.Helper()
	s := storetest.ServeWith(t, file, key, nil)
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	var export bytes.Buffer
	if err := storetest.Export(t.Context(), s.Store, &export); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.VerifyExport(&export, []string{storetest.Signer(t).VerifierKey()}, nil, time.Time{}); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

// sealedValues reads the sealed values of these tests.
func sealedValues(t *testing.T, file file) (values []string) {
	t.Helper()
	for i := range 3 {
		value, err := sqlite.ReadSealed(t.Context(), file.path, "secret-"+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(value))
	}
	return values
}

func TestSealedValuesChangeOverAllAtOnce(t *testing.T) {
	file := newFile(t)
	values := map[string][]byte{"secret-0": []byte("zero"), "secret-1": []byte("one"), "secret-2": []byte("two")}
	if err := file.Create(t.Context(), store.Options{Signer: storetest.Signer(t), Sealed: values}); err != nil {
		t.Fatal(err)
	}
	before := sealedValues(t, file)
	changed, stayed := 0, 0
	for at, died := 1, true; died; at++ {
		for _, when := range []string{"before", "after"} {
			_, died = killedChange(t, "reseal "+file.path, at, when)
			now := sealedValues(t, file)
			moved := 0
			for i := range now {
				if now[i] == "again "+before[i] {
					moved++
				} else if now[i] != before[i] {
					t.Fatalf("a value became %q", now[i])
				}
			}
			switch moved {
			case 0:
				stayed++
			case len(now):
				changed++
			default:
				t.Errorf("%s statement %d: %d of %d values changed", when, at, moved, len(now))
			}
			before = now
		}
	}
	if changed < 2 || stayed < 2 {
		t.Errorf("%d changes happened and %d did not: the test proves nothing", changed, stayed)
	}
	goesOn(t, file, storetest.Signer(t))
}

func TestAStoreInUseIsNotResealed(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	storetest.Serve(t, file, nil)
	err := sqlite.Reseal(t.Context(), file.path, sqlite.Options{}, func(map[string][]byte) error {
		t.Error("the store was taken")
		return nil
	})
	if !errors.Is(err, store.ErrInUse) {
		t.Errorf("got %v", err)
	}
}

func TestAnErrorLeavesWhatIsSealed(t *testing.T) {
	file := newFile(t)
	if err := file.Create(t.Context(), store.Options{Signer: storetest.Signer(t), Sealed: map[string][]byte{"a": []byte("old")}}); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := sqlite.Reseal(t.Context(), file.path, sqlite.Options{}, func(all map[string][]byte) error {
		all["a"] = []byte("new")
		return boom
	})
	if value, readErr := sqlite.ReadSealed(t.Context(), file.path, "a"); !errors.Is(err, boom) || readErr != nil || string(value) != "old" {
		t.Errorf("%v; then %q, %v", err, value, readErr)
	}
	// A lost answer of the commit is told as such: it may have happened.
	faults := &storetest.Faults{}
	faults.Decide(func(text string) storetest.Fault {
		if text == "commit" {
			return storetest.DoneLost
		}
		return storetest.None
	})
	opt := sqlite.Options{Wrap: faults.Wrap}
	err = sqlite.Reseal(t.Context(), file.path, opt, func(all map[string][]byte) error { all["a"] = []byte("new"); return nil })
	if value, readErr := sqlite.ReadSealed(t.Context(), file.path, "a"); !errors.Is(err, store.ErrUnknown) || readErr != nil || string(value) != "new" {
		t.Errorf("%v; then %q, %v", err, value, readErr)
	}
}

// A store that the first version made has no table of rotations, an index more, and counts what is pending everywhere.
func TestAStoreOfTheFirstVersionIsBroughtUpToDate(t *testing.T) {
	file := newFile(t)
	storetest.Create(t, file)
	s := storetest.Serve(t, file, nil)
	storetest.Insert(t, s.Store, storetest.NewLease("reader", "db"))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	db, err := file.SQL()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range []string{
		`drop table ledger_rotations`, `drop table replicas`, `drop table keepers`, `drop table spent`, `drop table devices`,
		`drop table posture`, `drop table posture_sources`, `drop table posture_leases`, `drop table lease_actors`,
		`create unique index leases_token on leases (token_hash)`,
		`update tallies set pending = 1, active = 0`,
		`delete from goose_db_version where version_id > 1`,
	} {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	s = storetest.Serve(t, file, nil)
	if err := storetest.Audit(t.Context(), s.Store, db, storetest.Signer(t)); err != nil {
		t.Fatal(err)
	}
	r, err := storetest.NextKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Rotate(r); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	goesOn(t, file, r.Signer)
}
