package docs_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/internal/httpapi"
	"github.com/daypass/daypass/internal/lease"
)

var update = flag.Bool("update", false, "write the reference pages instead of comparing them")

// compare holds that a generated page says what the code says.
func compare(t *testing.T, page, want string) {
	t.Helper()
	want = strings.TrimRight(want, "\n") + "\n"
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatalf("%v (run: make generate)", err)
	}
	if string(got) != want {
		t.Errorf("docs/%s is not what the code says (run: make generate)", page)
	}
}

const generated = "<!-- Generated from the code by `make generate`. Do not edit. -->\n\n"

// stateComments says of each state who moves a lease out of it and what a crash leaves.
func stateComments(t *testing.T) map[string]string {
	t.Helper()
	return constComments(t, "../internal/lease/lease.go", "State")
}

func TestReferenceOfStates(t *testing.T) {
	var page strings.Builder
	page.WriteString("# States of a lease\n\n" + generated)
	page.WriteString("The words are the same in the API, the store, metrics and the ledger. What is not drawn is refused.\n\n```mermaid\nstateDiagram-v2\n")
	fmt.Fprintf(&page, "    [*] --> %s: recorded\n", lease.States()[0])
	for _, state := range lease.States() {
		moved := false
		for _, event := range lease.Events() {
			if next, err := lease.Next(state, event); err == nil {
				fmt.Fprintf(&page, "    %s --> %s: %s\n", state, next, event)
				moved = true
			}
		}
		if !moved {
			fmt.Fprintf(&page, "    %s --> [*]\n", state)
		}
	}
	page.WriteString("```\n\n| State | Credential alive? | Meaning |\n|---|---|---|\n")
	comments := stateComments(t)
	for _, state := range lease.States() {
		alive := "perhaps"
		switch {
		case state == lease.Active:
			alive = "yes"
		case !state.MayLive():
			alive = "no"
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", state, alive, comments[string(state)])
	}
	page.WriteString("\n## Reasons\n\nWhy a lease ended. A reason is set once, by the event that ended the lease.\n\n| Reason | Ended |\n|---|---|\n")
	reasons := constComments(t, "../internal/lease/lease.go", "Reason")
	for _, reason := range lease.Reasons() {
		fmt.Fprintf(&page, "| `%s` | %s |\n", reason, reasons[string(reason)])
	}
	compare(t, "reference/states.md", page.String())
}

func TestReferenceOfConfiguration(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Configuration of the server: daypass.yaml\n\n" + generated)
	page.WriteString("Every field may be left out; what it then means is safe. Unknown fields, repeated keys and wrong types are errors with their place.\n" +
		"`daypass serve --config FILE` reads it; [an example](../../examples/orders/daypass.yaml).\n")
	sections := structs(t, "../internal/config/config.go")
	page.WriteString("\n| Field | Means |\n|---|---|\n")
	var nested []field
	for _, f := range sections["Config"] {
		fmt.Fprintf(&page, "| `%s` | %s |\n", f.name, f.text)
		if _, ok := sections[f.typeName]; ok {
			nested = append(nested, f)
		}
	}
	for len(nested) > 0 { // a section in a section follows it
		f := nested[0]
		nested = nested[1:]
		var deeper []field
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Means |\n|---|---|\n", f.name)
		for _, inner := range sections[f.typeName] {
			inner.name = f.name + "." + inner.name
			fmt.Fprintf(&page, "| `%s` | %s |\n", inner.name, inner.text)
			if _, ok := sections[inner.typeName]; ok {
				deeper = append(deeper, inner)
			}
		}
		nested = append(deeper, nested...)
	}
	compare(t, "reference/config.md", page.String())
}

func TestReferenceOfProblems(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Problems\n\n" + generated)
	page.WriteString("Errors of the API are RFC 9457 problem documents (`application/problem+json`). `code` is a stable word, `type` the same as a `tag:` URI,\n" +
		"`instance` the request ID, which the server's log has too. `detail` never tells which policy denied; `decision_id` lets an administrator\n" +
		"look with `daypass explain`. `retry_after` says after how many seconds it is worth trying again.\n\n" +
		"The command line turns codes into exit codes: see [the commands](cli.md#daypass-exit-codes).\n\n| Code | Status | Title |\n|---|--:|---|\n")
	for _, p := range problems(t) {
		fmt.Fprintf(&page, "| `%s` | %d | %s |\n", p.code, p.status, p.title)
	}
	compare(t, "reference/problems.md", page.String())
}

func TestReferenceOfMetrics(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Metrics\n\n" + generated)
	page.WriteString("Served at `/metrics` as OpenMetrics: to this machine, and to administrators from elsewhere. Labels are names of the configuration and\n" +
		"closed lists; never a subject or a claim.\n\n" +
		"Rate, errors and duration, per target and per issuer: `daypass_acquire_seconds`, `daypass_grant_seconds`, `daypass_revoke_seconds` with\n" +
		"`daypass_revocations_total`, `daypass_verify_seconds`. Alarm first of all on `daypass_revoking_oldest_seconds`: a lease that waits for the\n" +
		"proof of its credential's death should not wait long. [Alarms and a dashboard](../../deploy/README.md) are ready to use;\n" +
		"[how to watch](../howto/operate.md).\n\n" +
		"| Metric | Kind | Labels | Means |\n|---|---|---|---|\n")
	all := metrics(t)
	if len(all) < 10 {
		t.Fatalf("found %d metrics in the code, which cannot be all", len(all))
	}
	for _, m := range all {
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(m.labels, ", "), m.help)
	}
	compare(t, "reference/metrics.md", page.String())
}

func TestReferenceOfCommands(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "daypass")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/daypass").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var page strings.Builder
	page.WriteString("# Commands\n\n" + generated)
	page.WriteString("What `daypass help COMMAND` prints. Data goes to standard output, everything else to standard error.\n")
	commandPages(t, &page, binary, nil)
	compare(t, "reference/cli.md", page.String())
}

// commandPages writes the help of a command and of all below it.
func commandPages(t *testing.T, page *strings.Builder, binary string, path []string) {
	t.Helper()
	fmt.Fprintf(page, "\n## %s\n", strings.Join(append([]string{"daypass"}, path...), " "))
	fmt.Fprintf(page, "\n```text\n%s\n```\n", strings.TrimSpace(output(t, binary, append([]string{"help"}, path...)...)))
	for line := range strings.Lines(output(t, binary, append(append([]string{"__complete"}, path...), "")...)) {
		name, _, described := strings.Cut(strings.TrimSpace(line), "\t")
		if described && name != "help" && name != "completion" && !strings.HasPrefix(name, "-") {
			commandPages(t, page, binary, append(append([]string{}, path...), name))
		}
	}
	if path == nil {
		for _, topic := range []string{"exit-codes", "environment"} {
			fmt.Fprintf(page, "\n## daypass %s\n\n```text\n%s\n```\n", topic, strings.TrimSpace(output(t, binary, "help", topic)))
		}
	}
}

func output(t *testing.T, binary string, args ...string) string {
	t.Helper()
	command := exec.Command(binary, args...)
	command.Env = []string{"HOME=/nonexistent", "NO_COLOR=1"}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("daypass %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func TestReferenceOfTheAPI(t *testing.T) {
	edge := httpapi.New(httpapi.Config{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	answer := httptest.NewRecorder()
	edge.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var doc openAPI
	if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %s", err, answer.Body)
	}
	var page strings.Builder
	page.WriteString("# HTTP API\n\n" + generated)
	page.WriteString("A server gives the whole description as OpenAPI 3.1 at `/openapi.json`. Within `/v1` changes only add. Times are RFC 3339 in UTC with\n" +
		"milliseconds, durations match `^[0-9]+(s|m|h)$`, lists are `{\"items\": […], \"next\": \"<cursor>\"}`. Errors are [problems](problems.md).\n\n" +
		"| Call | Does | Body | Answer |\n|---|---|---|---|\n")
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range []string{"get", "post", "put", "delete"} {
			if op, ok := doc.Paths[path][method]; ok {
				fmt.Fprintf(&page, "| `%s %s` | %s | %s | %s |\n", strings.ToUpper(method), path, op.Summary, op.body(), op.answer())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		schema := doc.Components.Schemas[name]
		if len(schema.Properties) == 0 {
			continue
		}
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Type | Means |\n|---|---|---|\n", name)
		for _, property := range slices.Sorted(maps.Keys(schema.Properties)) {
			p := schema.Properties[property]
			optional := ""
			if !slices.Contains(schema.Required, property) {
				optional = ", optional"
			}
			fmt.Fprintf(&page, "| `%s` | %s%s | %s |\n", property, p.typeText(), optional, cell(p.Description))
		}
	}
	compare(t, "reference/api.md", page.String())
}

func TestReferenceOfPostgreSQL(t *testing.T) {
	var page strings.Builder
	page.WriteString("# PostgreSQL\n\n" + generated)
	page.WriteString("The sections `postgres` of [targets and roles](access-files.md). The administrator there: [how to give it](../howto/postgres-administrator.md).\n")
	sections := structs(t, "../target/postgres/settings.go")
	maps.Copy(sections, structs(t, "../target/postgres/rights.go"))
	for _, part := range []struct{ title, path, typeName string }{
		{"Target", "postgres.", "Settings"}, {"Client", "client.", "Client"}, {"Role", "postgres.", "Rights"}, {"Grants", "postgres.grants[].", "Privileges"},
	} {
		fmt.Fprintf(&page, "\n## %s\n\n| Field | Means |\n|---|---|\n", part.title)
		for _, f := range sections[part.typeName] {
			name := f.name
			if f.typeName == "File" {
				name += ".file"
			}
			text := f.text
			if text == "" && part.typeName == "Client" {
				text = "what `postgres.url` says, unless given."
			}
			fmt.Fprintf(&page, "| `%s%s` | %s |\n", part.path, name, text)
		}
	}
	compare(t, "reference/postgres.md", page.String())
}

// The page of access files is written by hand; this holds that it leaves nothing out.
func TestReferenceOfAccessFilesIsWhole(t *testing.T) {
	text, err := os.ReadFile("reference/access-files.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := structs(t, "../internal/access/document.go")
	prefixes := map[string]string{"issuerDocument": "", "targetDocument": "", "roleDocument": "", "oidcDocument": "oidc.", "ttlDocument": "ttl.", "limitsDocument": "limits."}
	for typeName, fields := range sections {
		prefix, known := prefixes[typeName]
		if !known {
			t.Errorf("internal/access reads %s, which this test does not know", typeName)
		}
		for _, f := range fields {
			_, isSection := sections[f.typeName]
			if f.name == "*" || f.name == "kind" || f.name == "oidc" || isSection {
				continue
			}
			if !strings.Contains(string(text), "| `"+prefix+f.name+"`") {
				t.Errorf("docs/reference/access-files.md lacks %s%s", prefix, f.name)
			}
		}
	}
}
