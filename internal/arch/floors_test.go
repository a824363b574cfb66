package arch_test

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// floors is the house, ground floor first. A room imports rooms below it, and a folder's parent on its own
// floor; nothing else. ARCHITECTURE.md shows this table and is compared with it.
const floors = `
1 secret                    a value that cannot be printed, compared or marshalled by accident
1 api                       wire types, problem types, limits
1 ledger                    tamper-evident audit: entries, tree, checkpoints, receipts, proofs, verifier
1 internal/arch             the house rules, as tests
1 dpop                      proofs that a caller holds a key: made and verified
1 egress                    connections out, which lead to no metadata service
1 internal/delegation       chains of actors: who acts for a principal
1 internal/fault            errors with kinds
1 internal/keyring          the master key and what is sealed under it
1 internal/lease            the life of a lease: states, events, one table
1 internal/source           text with positions: strict YAML, errors with excerpts

2 identity                  verifier and principal: evidence in, principal out
2 identity/oidc             tokens of an OpenID Connect issuer
2 identity/aws              signed requests of AWS workloads, which STS vouches for
2 identity/mtls             client certificates of a named authority
2 identity/device           tokens that enrolled devices sign themselves
2 identity/identitytest     conformance suite that every verifier passes
2 target                    target and its duties
2 target/oidctoken          tokens of our own issuer
2 target/aws                sessions, users and roles of AWS
2 target/postgres           PostgreSQL logins
2 target/cloud              what targets at clouds share: their requests, and the life of a principal per lease
2 target/targettest         conformance suite that every target passes, and a target in memory
2 client                    Go SDK: acquire, hold, release, watch
2 client/aws                evidence of AWS credentials for the SDK
2 client/device             what an enrolled device keeps, and the evidence that it signs
2 client/spiffe             evidence of the SPIFFE Workload API for the SDK
2 internal/access           the access configuration: parsing, validation, immutable revisions
2 internal/location         countries and subdivisions of addresses, by a file in MaxMind's format
2 internal/issuer           Daypass as an issuer: keys that sign tokens for others
2 internal/issuer/issuertest an issuer with keys in memory for tests, and a stranger who verifies
2 internal/kube             the requests that Daypass makes of a Kubernetes API server
2 internal/secretdir        the files below secrets_dir that access files refer to
2 internal/store            leases and ledger entries in one transaction
2 internal/store/sqlite     the embedded dialect
2 internal/store/postgres   the dialect of a PostgreSQL database that several processes share
2 internal/store/relocation a store moves to another database, and back
2 internal/store/storetest  conformance suite that every dialect passes
2 internal/trace            spans of what the broker does, for an OpenTelemetry collector
2 internal/testbed          real servers for tests, demo and benchmarks
2 internal/testissuer       a real OpenID Connect issuer for tests, demo and benchmarks
2 internal/rate             how often one principal may ask

3 identity/kubernetes       service account tokens of a Kubernetes cluster
3 identity/spiffe           SPIFFE identities of a trust domain, as tokens and as certificates
3 target/cloud/cloudtest    what tests of targets at clouds share: an issuer, faults, every request crossed with them
3 target/gcp                access tokens and service accounts of Google Cloud
3 target/gcp/gcptest        a stand-in for Google Cloud, for tests
3 target/azure              access tokens and applications of Azure
3 target/azure/azuretest    a stand-in for Azure, for tests
3 target/kubernetes         tokens of Kubernetes service accounts
3 internal/accesstoken      access tokens of our own, each bound to a key
3 internal/watch            looks at whom we trust while it happens, and tells people
3 internal/policy           the policy decision point, pure
3 internal/revoker          drives every lease that must end to revoked; reconciles targets with the store
3 internal/agent            workload side: find evidence, acquire, renew, hand over
3 internal/rig              a whole installation as processes, for the crash loop and benchmarks
3 internal/denial           what was refused, on record without flooding it
3 internal/chore            work that comes back, done by one of the servers of a store
3 internal/testspiffe       a SPIFFE trust domain with a Workload API for tests

4 internal/terminal         how commands answer: tables, JSON, hints, exit codes
4 internal/config           the file daypass.yaml: fields, defaults, checks
4 internal/kind             the kinds of targets and issuers, and how one is made
4 internal/trust            whom a configuration trusts: what is wider than it need be, and how others trust us
4 internal/admission        who stands there and what they may do, by the rules that serve

5 internal/broker           the story: verify, decide, record, grant, activate, answer
5 internal/verifier         the verifiers of the issuers in use, and which of them evidence goes to
5 internal/deployment       brings access revisions into service: the fleet in step with the active one
5 internal/installation     makes, keeps and moves a store and its keys, with no server running
5 internal/inspection       what can be known of access files and an issuer without their server
5 cmd/daypass/command       a command line: flags of every command, ways to the server, help
5 internal/socket           the socket for local administration, and who connects to it
5 internal/enrolment        devices: invited, enrolled, renewed, removed
5 internal/posture          what is said of the state of devices, clusters and principals
5 internal/review           decides live leases again, and ends those that fall
5 internal/oauth           the language of OAuth: what is asked in it, and how it is refused

6 cmd/daypass/workload      commands for workloads: run, acquire, renew, release
6 cmd/daypass/lease         commands for leases, locks and the decisions behind them
6 cmd/daypass/access        commands for access files: check, apply, go back
6 cmd/daypass/device        commands for devices, on both sides
6 cmd/daypass/posture       commands for posture: report, look, forget
6 cmd/daypass/trust         commands for our own issuer, and who trusts it
6 cmd/daypass/ledger        commands for the ledger: follow, export, verify
6 cmd/daypass/status        commands that say how server, targets and issuers are doing
6 internal/feed             reads the sources of posture that have a URL
6 internal/broker/brokertest a front desk for tests: the broker and the rooms beside it, over a real store
6 internal/httpapi          HTTP edge: decode, call, problem details

7 internal/server           composition: builds everything from a configuration

8 cmd/daypass/installation  the commands for the server's machine: init, serve, store, keys
8 daypasstest               a real broker in the test's process, for users' own tests
8 internal/demo             the demonstration that make demo runs
8 internal/testissuer/cmd/testissuer  the test issuer as a process of its own
8 internal/bench            benchmarks of the whole, as ratios against floors
8 internal/crash            the crash loop: kill the broker at random instants and audit what is left
8 internal/chaos            the chaos run: several replicas, accidents at random, and one history that fits all answers

9 cmd/daypass               the one binary: the list of its commands
`

// bans forbids imports by path prefix, each with its reason.
const bans = `
api                 !std          wire types serve every client, so they bring nothing along
secret              !std          the ground of the house
internal/lease      !std          the life of a lease is a pure table
internal/fault      !std          every room uses it
internal/lease      os            it does no I/O
internal/lease      net           it does no I/O
internal/lease      time          time is an argument, and the life of a lease needs none
internal/policy     os            a decision is a pure function
internal/policy     net/http      a decision is a pure function
internal/trust      os            it looks at texts
internal/trust      net/http      it looks at texts
internal/policy     database/sql  a decision is a pure function
internal/terminal   github.com/spf13/cobra        it knows nothing of commands
internal/broker     net/http      the edge is one floor up
internal/admission  net/http      the edge is two floors up
internal/enrolment  net/http      the edge is one floor up
internal/posture    net/http      the edge is one floor up
internal/review     net/http      the edge is one floor up
internal/broker     database/sql  all SQL lives in the store
internal/admission  database/sql  all SQL lives in the store
internal/revoker    database/sql  all SQL lives in the store
internal/httpapi    database/sql  all SQL lives in the store
internal/oauth      github.com/daypass/daypass/internal/store  it says what is asked, and asks nobody
client              github.com/daypass/daypass/internal   outsiders import the SDK: it takes nothing of the server along
target              github.com/daypass/daypass/internal   outsiders implement it
identity            github.com/daypass/daypass/internal   outsiders implement it
ledger              github.com/daypass/daypass            auditors use it without the server
`

type room struct {
	floor int
	path  string
}

func rooms(t *testing.T) map[string]room {
	t.Helper()
	byPath := map[string]room{}
	for line := range strings.Lines(floors) {
		var r room
		if strings.TrimSpace(line) == "" {
			continue
		}
		if _, err := fmt.Sscan(line, &r.floor, &r.path); err != nil {
			t.Fatalf("floor table: %q: %v", line, err)
		}
		byPath[r.path] = r
	}
	return byPath
}

func TestImportsRunDown(t *testing.T) {
	house := rooms(t)
	for _, pkg := range packages(t) {
		here, ok := house[pkg.path]
		if !ok {
			t.Errorf("package %s stands on no floor: add it to the table in this file and in ARCHITECTURE.md", pkg.path)
			continue
		}
		for _, imported := range pkg.imports() {
			below, own := strings.CutPrefix(imported, module+"/")
			if !own {
				continue
			}
			there := house[below]
			if there.floor < here.floor || there.floor == here.floor && path.Dir(here.path) == there.path {
				continue
			}
			t.Errorf("%s (floor %d) imports %s (floor %d): imports run down only", here.path, here.floor, below, there.floor)
		}
	}
}

func TestEveryRoomOfTheTableExists(t *testing.T) {
	built := map[string]bool{}
	for _, pkg := range packages(t) {
		built[pkg.path] = true
	}
	for name := range rooms(t) {
		if !built[name] {
			t.Errorf("the floor table names %s, which does not exist", name)
		}
	}
}

func TestBannedImports(t *testing.T) {
	byPath := map[string]pkg{}
	for _, p := range packages(t) {
		byPath[p.path] = p
	}
	for line := range strings.Lines(bans) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		where, what, reason := words[0], words[1], strings.Join(words[2:], " ")
		p, ok := byPath[where]
		if !ok {
			t.Errorf("ban %q: no such package", where)
			continue
		}
		for _, imported := range p.imports() {
			if matchesBan(imported, what) {
				t.Errorf("%s imports %s: %s", where, imported, reason)
			}
		}
	}
}

func matchesBan(imported, what string) bool {
	if what == "!std" {
		first, _, _ := strings.Cut(imported, "/")
		return strings.Contains(first, ".")
	}
	// The public root rooms may import each other's parents; their ban is on the prefix given.
	return imported == what || strings.HasPrefix(imported, what+"/")
}

// TestTheClientKnowsNothingOfTheServer holds the two arrows that never exist, also over several steps.
func TestTheClientKnowsNothingOfTheServer(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range packages(t) {
		for _, imported := range p.imports() {
			if own, ok := strings.CutPrefix(imported, module+"/"); ok {
				imports[p.path] = append(imports[p.path], own)
			}
		}
	}
	allowed := []string{"api", "secret", "client", "client/aws", "client/device", "client/spiffe", "dpop"}
	for _, start := range []string{"client", "internal/agent"} {
		for _, reached := range reachable(imports, start) {
			if !slices.Contains(allowed, reached) {
				t.Errorf("%s reaches %s: the workload side takes nothing of the server along", start, reached)
			}
		}
	}
}

func reachable(imports map[string][]string, start string) []string {
	var found []string
	queue := slices.Clone(imports[start])
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if slices.Contains(found, next) {
			continue
		}
		found = append(found, next)
		queue = append(queue, imports[next]...)
	}
	return found
}

func TestArchitecturePageShowsTheSameFloors(t *testing.T) {
	page, err := os.ReadFile(path.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(floors) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		row := fmt.Sprintf("| %s | `%s` | %s |", words[0], words[1], strings.Join(words[2:], " "))
		if !strings.Contains(string(page), row) {
			t.Errorf("ARCHITECTURE.md lacks the row %s", row)
		}
	}
}
