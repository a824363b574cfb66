package testbed_test

import (
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/daypass/daypass/internal/testbed"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

func TestBothVersionsRunAndComeBack(t *testing.T) {
	for version, name := range map[int]string{15: "15", 18: "18"} {
		t.Run(name, func(t *testing.T) {
			p := testbed.OwnPostgres(t, testbed.PostgresOptions{Version: version})
			database := p.Database(t)
			if err := p.Exec(t.Context(), database, "create table t (i int)"); err != nil {
				t.Fatal(err)
			}
			for name, step := range map[string]func(context.Context) error{"restart": p.Restart, "kill": p.Kill} {
				if err := step(t.Context()); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if name == "kill" {
					if err := p.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Exec(t.Context(), database, "select from t"); err != nil {
					t.Errorf("after %s: %v", name, err)
				}
			}
		})
	}
}

func TestAMissingVersionSaysWhatToInstall(t *testing.T) {
	t.Setenv("DAYPASS_CACHE", t.TempDir())
	_, err := testbed.StartPostgres(t.Context(), testbed.PostgresOptions{Version: 18})
	if err == nil {
		t.Fatal("a version that is not installed was started")
	}
}

func TestTheProxyBreaksConnections(t *testing.T) {
	server := testbed.SharedPostgres(t, 15)
	database := server.Database(t)
	proxy := testbed.StartProxy(t, server.Address())
	connect := func() *pgx.Conn {
		config, err := pgx.ParseConfig(server.Superuser(database))
		if err != nil {
			t.Fatal(err)
		}
		config.Port = uint16(proxy.Port())
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	for name, fault := range map[string]testbed.Fault{
		"hold": testbed.Hold, "drop answers": testbed.DropAnswers, "cut": testbed.Cut, "black hole": testbed.BlackHole,
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect()
			proxy.Before("strike now", fault)
			defer proxy.Heal()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if _, err := conn.Exec(ctx, "select 'strike now'"); err == nil {
				t.Error("the fault did not strike")
			}
		})
	}
	t.Run("what was held arrives, its sender gone or not", func(t *testing.T) {
		conn := connect()
		if _, err := conn.Exec(t.Context(), "create table late (i int)"); err != nil {
			t.Fatal(err)
		}
		proxy.Before("insert into late", testbed.Hold)
		struck := proxy.Struck()
		// Sent by hand: a driver whose deadline passes also sends a cancel, and that may overtake the insert.
		conn.PgConn().Frontend().Send(&pgproto3.Query{String: "insert into late values (1)"})
		if err := conn.PgConn().Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		soon(t, "the strike", func() bool { return proxy.Struck() > struck })
		conn.PgConn().Conn().Close()
		proxy.Heal()
		look := connect()
		soon(t, "the late row", func() bool {
			var landed int
			if err := look.QueryRow(t.Context(), "select count(*) from late").Scan(&landed); err != nil {
				t.Fatal(err)
			}
			return landed == 1
		})
	})
}

// soon waits until so holds, and fails when it does not within 20 s.
func soon(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come", what)
		}
	}
}

func TestAPairLosesNothingWhenItsStandbyTakesOver(t *testing.T) {
	pair, err := testbed.StartPair(t.Context(), testbed.PostgresOptions{Settings: map[string]string{"wal_keep_size": "256MB"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pair.Primary().Exec(t.Context(), "postgres", "create table t (i int)"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := pair.Primary().Exec(t.Context(), "postgres", "insert into t values (1)"); err != nil {
			t.Fatal(err)
		}
		before := pair.Primary().Port
		if err := pair.FailOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pair.Primary().Port == before || pair.Safe() {
			t.Error("the primary did not move")
		}
		if err := pair.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := pair.Primary().Exec(t.Context(), "postgres", "do $$ begin assert (select count(*) from t) = 2; end $$"); err != nil {
		t.Error(err)
	}
}

func TestTheClusterIsRealAndKnowsItsAdministrator(t *testing.T) {
	k := testbed.SharedKubernetes(t)
	namespace := k.Namespace(t, "testbed")
	k.Account(t, namespace, "robot")
	token := k.Token(t, namespace, "robot", "", "")
	if code, _, err := k.Do(t.Context(), token, http.MethodGet, "/api/v1/namespaces/"+namespace+"/configmaps", nil); err != nil || code != http.StatusForbidden {
		t.Errorf("an account without rights gets %d, %v", code, err)
	}
	out, err := k.Kubectl(t.Context(), k.AdminConfig(t), "", "get", "serviceaccounts", "-n", namespace, "-o", "name")
	if err != nil || out != "serviceaccount/robot\n" {
		t.Errorf("kubectl says %q, %v", out, err)
	}
}
