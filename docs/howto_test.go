package docs_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// installation is what the pages of the how-to take for granted: a server of systemd's, workloads, a database. Here
// it runs on the tutorial's playground. What comes first may set STORE, the lines of the configuration that say where
// the store is.
const installation = `
source playground/env
export PATH=$PWD/bin:$PATH DAYPASS_CONFIG=$PWD/daypass.yaml DAYPASS_SOCKET=$PWD/admin.sock DAYPASS_URL=http://$LISTEN
mkdir -m 700 secrets access && cp playground/administrator-password secrets/orders-db
cat > daypass.yaml <<END
listen: $LISTEN
url: http://$LISTEN
socket: $PWD/admin.sock
${STORE:-store: sqlite://$PWD/daypass.db}
master_key: file://$PWD/master.key
secrets_dir: $PWD/secrets
access: $PWD/access
log: {format: text}
END
cat > access/orders.yaml <<END
kind: Issuer
name: github
preset: github-actions
oidc: {url: "$ISSUER"}
---
kind: Target
name: orders-db
postgres: {url: "postgres://daypass@$DATABASE/orders?sslmode=disable", password: {file: orders-db}}
---
kind: Role
name: orders-readonly
target: orders-db
ttl: {default: 15m, max: 1h}
postgres: {grants: [{privileges: [SELECT], on: tables, schema: public}]}
END
cat > access/orders.cedar <<'END'
permit (principal is GitHub::Workload, action in [Action::"acquire", Action::"renew"], resource == Role::"orders-readonly");
END
systemctl() {
    case "$1" in
    start)
        daypass serve 2>> serve.log & server=$!
        until [ "$(curl -s -m 5 -o answer -w '%{http_code}' $DAYPASS_URL/readyz)" = 200 ]; do kill -0 $server && sleep 0.1 || return 1; done ;;
    kill)
        kill -KILL $server; wait $server ;;
    stop)
        kill $server; wait $server ;;
    esac
} 2>> systemctl.log
logins() { psql $SUPERUSER -Atc "select count(*) from pg_roles where rolname like 'dp\_%' and rolcanlogin"; }
trap 'kill $server; wait $server' EXIT
daypass init > init.txt 2>&1
sed -n "s/.*public key is \(.*\): keep it.*/\1/p" init.txt > ledger.vkey
systemctl start daypass
`

// known is the lease of which a backup knows.
const known = "job main daypass acquire orders-readonly --quiet --output env > known.env\n"

// inPostgres is what comes first where the store is in PostgreSQL: its database, and PostgreSQL's tools at hand.
const inPostgres = `
source playground/env
psql $SUPERUSER -qc "create database daypass owner daypass encoding 'UTF8' template template0"
STORE="store: postgres://daypass@$DATABASE/daypass?sslmode=disable
store_password: file://$PWD/playground/administrator-password"
export PGHOST=${DATABASE%:*} PGPORT=${DATABASE#*:} PGUSER=postgres PGPASSWORD=$(sed 's/.*postgres:\(.*\)@.*/\1/' <<< $SUPERUSER)
`

func TestTheRunbookOfBackupsDoesWhatItSays(t *testing.T) {
	t.Parallel() // it mostly waits
	file, _ := runbook(t)
	play(t, startPlayground(t), installation+known, file, 5*time.Minute)
}

func TestTheRunbookOfBackupsInPostgresDoesWhatItSays(t *testing.T) {
	t.Parallel() // it mostly waits
	_, database := runbook(t)
	play(t, startPlayground(t), inPostgres+installation+known, database, 5*time.Minute)
}

// runbook returns the commands of the page on backups: for a store in a file, and for one in PostgreSQL.
func runbook(t *testing.T) (file, database []command) {
	t.Helper()
	page, err := os.ReadFile("howto/backup-and-restore.md")
	if err != nil {
		t.Fatal(err)
	}
	first, second, found := strings.Cut(string(page), "\n## A store in PostgreSQL\n")
	if !found {
		t.Fatal("the page has no section on PostgreSQL")
	}
	above := strings.Repeat("\n", strings.Count(first, "\n")+2) // so that the lines keep their numbers
	file, database = commands(first), commands(above+second)
	if len(file) == 0 || len(database) == 0 {
		t.Fatalf("the page has %d commands for a file and %d for PostgreSQL", len(file), len(database))
	}
	return file, database
}
