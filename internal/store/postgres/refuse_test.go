package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/secret"
)

func (d database) do(t testing.TB, text string) {
	t.Helper()
	if err := d.server.Exec(context.WithoutCancel(t.Context()), d.name, text); err != nil {
		t.Fatal(err)
	}
}

// refused opens and expects a refusal of a class that says something.
func (d database) refused(t testing.TB, class error, says ...string) {
	t.Helper()
	refused(t, d.url(), class, says...)
}

func refused(t testing.TB, url string, class error, says ...string) {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, postgres.Options{Options: store.Options{Signer: storetest.Signer(t)}, Password: secret.New(password)})
	if err == nil {
		s.Close()
	}
	for _, one := range says {
		if !errors.Is(err, class) || !strings.Contains(fmt.Sprint(err), one) {
			t.Errorf("got %v, want %v that says %q", err, class, one)
		}
	}
	if strings.Contains(fmt.Sprint(err), password) {
		t.Errorf("the error holds the password: %v", err)
	}
}

func TestADatabaseThatCannotKeepTheStoreIsRefused(t *testing.T) {
	t.Run("nothing there", func(t *testing.T) {
		newDatabase(t, 15).refused(t, store.ErrAbsent, "daypass init")
	})
	t.Run("tables of someone else", func(t *testing.T) {
		d := newDatabase(t, 15)
		d.do(t, "create table orders (id int)")
		d.refused(t, store.ErrForeign, "database or ?schema= of its own")
		if err := d.Create(t.Context(), store.Options{Signer: storetest.Signer(t)}); !errors.Is(err, store.ErrForeign) {
			t.Errorf("created among them: %v", err)
		}
	})
	t.Run("a store that is there already", func(t *testing.T) {
		d := newDatabase(t, 15)
		storetest.Create(t, d)
		if err := d.Create(t.Context(), store.Options{Signer: storetest.Signer(t)}); !errors.Is(err, store.ErrExists) {
			t.Errorf("created again: %v", err)
		}
		storetest.Serve(t, d, nil)
	})
	t.Run("a store whose making was cut short", func(t *testing.T) {
		d := newDatabase(t, 15)
		storetest.Create(t, d)
		d.do(t, "delete from ledger_head; delete from ledger_leaves; delete from ledger_tiles; delete from meta")
		d.refused(t, store.ErrAbsent, "daypass init")
		storetest.Create(t, d)
		storetest.Serve(t, d, nil)
	})
	t.Run("a schema from the future", func(t *testing.T) {
		d := newDatabase(t, 15)
		storetest.Create(t, d)
		d.do(t, "insert into goose_db_version (version_id, is_applied) values (99, true)")
		d.refused(t, store.ErrNewer, "run the newer daypass")
	})
	t.Run("another encoding", func(t *testing.T) {
		d := newDatabase(t, 15)
		other := database{d.server, d.name + "_latin"}
		d.do(t, "create database "+other.name+" owner "+login+" encoding 'LATIN1' template template0")
		defer d.do(t, "drop database "+other.name+" with (force)")
		other.refused(t, store.ErrForeign, "encoding 'UTF8'")
	})
	t.Run("too old", func(t *testing.T) {
		newDatabase(t, 14).refused(t, store.ErrTooOld, "PostgreSQL 14.", "at least 15")
	})
	t.Run("a standby", func(t *testing.T) {
		url := fmt.Sprintf("postgres://%s@127.0.0.1:%d/daypass?sslmode=disable", login, newPair(t).Places[1])
		refused(t, url, store.ErrAccess, "standby", "name the primary")
	})
	t.Run("a login that may not use the store's tables", func(t *testing.T) {
		d := newDatabase(t, 15)
		storetest.Create(t, d)
		d.do(t, "alter table ledger_head owner to postgres; alter table leases owner to postgres") // as pg_restore --no-owner does
		d.refused(t, store.ErrAccess, "pg_restore --no-owner --role="+login)
	})
	t.Run("a schema that is not there", func(t *testing.T) {
		d := newDatabase(t, 15)
		refused(t, d.url()+"&schema=nowhere", store.ErrAccess, "no such schema", "make it")
	})
	t.Run("a login that may create nothing", func(t *testing.T) {
		d := newDatabase(t, 15)
		d.do(t, "alter database "+d.name+" owner to postgres")
		d.refused(t, store.ErrAccess, "grant create, usage")
	})
	t.Run("read only", func(t *testing.T) {
		d := newDatabase(t, 15)
		storetest.Create(t, d)
		d.do(t, "alter database "+d.name+" set default_transaction_read_only = on")
		d.refused(t, store.ErrAccess, "read only", "default_transaction_read_only")
	})
	t.Run("a wrong password", func(t *testing.T) {
		d := newDatabase(t, 15)
		_, err := postgres.Open(t.Context(), d.url(), postgres.Options{Password: secret.New("not it"), Options: store.Options{Signer: storetest.Signer(t)}})
		if !errors.Is(err, store.ErrAccess) || strings.Contains(fmt.Sprint(err), "not it") {
			t.Errorf("got %v", err)
		}
	})
}

// Two installations by mistake: the ledger has one key, and whoever has another one is told whose it is.
func TestTwoInstallationsDoNotShareADatabase(t *testing.T) {
	d := newDatabase(t, 15)
	storetest.Create(t, d)
	other, err := storetest.NextKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Create(t.Context(), store.Options{Signer: other.Signer}); !errors.Is(err, store.ErrExists) {
		t.Errorf("the other installation made its store here: %v", err)
	}
	if _, err := d.Open(t.Context(), store.Options{Signer: other.Signer}, nil); !errors.Is(err, store.ErrWrongKey) {
		t.Errorf("the other installation opened the store: %v", err)
	}
}

// The environment, which others may set, decides nothing about the store.
func TestTheEnvironmentDoesNotSayWhereTheStoreIs(t *testing.T) {
	d := newDatabase(t, 15)
	for name, value := range map[string]string{
		"PGHOST": "192.0.2.1", "PGPORT": "1", "PGUSER": "postgres", "PGDATABASE": "postgres", "PGPASSWORD": "else", "PGSSLMODE": "require",
		"PGOPTIONS": "-c search_path=elsewhere", "PGTARGETSESSIONATTRS": "standby", "PGSSLROOTCERT": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	storetest.Create(t, d)
	storetest.Serve(t, d, nil)
	t.Setenv("PGSERVICE", "elsewhere")
	if _, err := d.Open(t.Context(), store.Options{Signer: storetest.Signer(t)}, nil); err == nil || !strings.Contains(err.Error(), "PGSERVICE") {
		t.Errorf("with a service: %v", err)
	}
}

func TestAURLSaysWhereTheStoreIsAndNothingElse(t *testing.T) {
	for text, says := range map[string]string{
		"postgres://u@h/d": "", "postgres://u@h:5433,i:5434/d?schema=daypass": "", "postgres://u@[::1]:5432/d?sslmode=disable": "",
		"postgres://u@127.0.0.1,localhost/d?sslmode=disable": "",
		"mysql://u@h/d": "want postgres://", "postgres://h/d": "want postgres://", "postgres://u@h/": "want postgres://", "postgres://u@h/d/e": "want postgres://",
		"postgres://u:p@h/d":   "holds a password",
		"postgres://u@h:0/d":   "not a host and port",
		"postgres://a,b@a,b/d": "", "postgres://a%2Fb@h/d%20e": "", "postgres://0@0/%00": "control characters",
		"postgres://0@:0:/0": "not a host and port", "postgres://u@h h/d": "not a",
		"postgres://u@h:x/d":                         "not a",
		"postgres://u@h,/d":                          "not a host and port",
		"postgres://u@h/d?sslmode=disable":           "on this machine",
		"postgres://u@localhost,h/d?sslmode=disable": "on this machine",
		"postgres://u@h/d?sslmode=require":           "not taken",
		"postgres://u@h/d?passfile=/etc/shadow":      "not taken",
		"postgres://u@h/d?host=/tmp":                 "not taken",
		"postgres://u@h/d?schema=a;drop":             "not",
		"postgres://u@h/d?schema=a&schema=b":         "twice",
		"postgres://u@h/d?schema=Daypass":            "not taken",
	} {
		err := postgres.Check(text)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, seed := range []string{"postgres://u@h:5433,i/d?schema=s&sslmode=verify-full", "postgres://u:p@[::1]/d", "postgres://@/?", "postgres://a@b@c/d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if postgres.Check(text) != nil {
			return
		}
		if shown := postgres.Redacted(text); postgres.Check(shown) != nil && !strings.Contains(text, "sslmode=disable") {
			t.Errorf("%q is taken, and %q, as which it is shown, is not", text, shown)
		}
	})
}
