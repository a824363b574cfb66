package docs_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

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
