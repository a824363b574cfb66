package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/internal/store/postgres"
	"github.com/daypass/daypass/internal/store/storetest"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

const login, password = "daypass", "sesame"

// database is a database of its own for one test.
type database struct {
	server *testbed.Postgres
	name   string
}

var _ storetest.Database = database{}

func newDatabase(t testing.TB, version int) database {
	t.Helper()
	return databaseAt(t, testbed.SharedPostgres(t, version))
}

func databaseAt(t testing.TB, server *testbed.Postgres) database {
	t.Helper()
	d := database{server, server.Database(t)}
	for _, text := range []string{
		"do $$ begin if not exists (select from pg_roles where rolname = '" + login + "') then create role " + login + " login password '" + password + "'; end if; end $$",
		"alter database " + d.name + " owner to " + login,
	} {
		if err := d.server.Exec(context.WithoutCancel(t.Context()), d.name, text); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d database) url() string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", login, d.server.Address(), d.name)
}

func (d database) options(opt store.Options) postgres.Options {
	return postgres.Options{Options: opt, Password: secret.New(password)}
}

func (d database) Create(ctx context.Context, opt store.Options) error {
	return postgres.Create(ctx, d.url(), d.options(opt))
}

func (d database) Open(ctx context.Context, opt store.Options, wrap func(driver.Connector) driver.Connector) (*store.Store, error) {
	o := d.options(opt)
	o.Wrap = wrap
	return postgres.Open(ctx, d.url(), o)
}

func (d database) SQL() (*sql.DB, error) {
	return sql.Open("pgx", strings.Replace(d.url(), login+"@", login+":"+password+"@", 1))
}

// Settles: the server is asked.
func (d database) Settles() bool { return true }

func TestPostgresKeepsTheStoresPromises(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) storetest.Database { return newDatabase(t, version) })
		})
	}
}
