package terminal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/terminal"
)

// at returns a terminal whose clock stands, and what was written to it.
func at(now time.Time) (t *terminal.Terminal, stdout, stderr *strings.Builder) {
	stdout, stderr = &strings.Builder{}, &strings.Builder{}
	return terminal.New(nil, strings.NewReader(""), stdout, stderr, func() time.Time { return now }), stdout, stderr
}

func TestEveryErrorHasTheExitCodeOfItsKind(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
		want int
	}{
		{"a mistake in the command line", terminal.Usage("no role"), terminal.ExitUsage},
		{"a command that does not exist", terminal.Unknown("x", "daypass", nil), terminal.ExitUsage},
		{"advice changes nothing", terminal.Hinted(terminal.Usage("no role"), "name one"), terminal.ExitUsage},
		{"a code of its own goes before its kind", terminal.Coded(terminal.Usage("no role"), 125), 125},
		{"a refusal by the server", fmt.Errorf("acquire: %w", &api.Problem{Code: "denied"}), terminal.ExitDenied},
		{"an answer of something else than a server", &api.Problem{Code: "http_503", Status: 503}, terminal.ExitUnavailable},
		{"nobody answers", fmt.Errorf("acquire: %w", client.ErrUnreachable), terminal.ExitUnavailable},
		{"nothing says who we are", client.ErrNoToken, terminal.ExitUnauthenticated},
		{"a part of the server that runs here", &fault.Error{Kind: fault.Conflict}, terminal.ExitConflict},
		{"anything else", errors.New("odd"), terminal.ExitOther},
	} {
		if got := terminal.ExitCode(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.what, got, c.want)
		}
	}
}

func TestAnErrorIsToldWithWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{terminal.Hinted(errors.New("no lease is named"), "name its ID"), "daypass: no lease is named\nhint: name its ID\n"},
		{terminal.UsageOf("daypass lock", "say why"), "daypass: say why\nhint: daypass lock --help\n"},
		{terminal.Unknown("lesaes", "daypass", []string{"leases"}), "daypass: daypass has no command \"lesaes\"\nhint: did you mean: daypass leases\n"},
		{terminal.Usage("at\x1b[2Jhome"), "daypass: at\\x1b[2Jhome\n"},
	} {
		told, _, stderr := at(time.Time{})
		if told.Fail(c.err); stderr.String() != c.want {
			t.Errorf("%v is told as %q, want %q", c.err, stderr, c.want)
		}
	}
}

func TestTextFromElsewhereCannotCommandTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"repo:acme/orders": "repo:acme/orders",
		"a\x1b[31mb":       `a\x1b[31mb`,
		"a\nb":             `a\nb`,
		"a\u202eb":         `a\u202eb`,
		"Grüße":            "Grüße",
	} {
		if got := terminal.Clean(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestATableLeavesOutColumnsWithoutAValue(t *testing.T) {
	told, stdout, _ := at(time.Time{})
	told.Table([]string{"LEASE", "REASON", "ROLE"}, [][]string{{"l1", "", "reader"}, {"lease2", "", "owner"}})
	if want := "LEASE   ROLE\nl1      reader\nlease2  owner\n"; stdout.String() != want {
		t.Errorf("the table is %q, want %q", stdout, want)
	}
}

func TestTimesAreToldAsDistances(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	told, _, _ := at(now)
	for d, want := range map[time.Duration]string{
		0: "now", 90 * time.Second: "in 1m", -5 * time.Second: "5s ago", 3*time.Hour + 4*time.Minute: "in 3h04m", -72 * time.Hour: "3d ago",
	} {
		if got := told.Distance(api.At(now.Add(d))); got != want {
			t.Errorf("%v away is told as %q, want %q", d, got, want)
		}
	}
}

func TestProgramsGetJSONAndPeopleGetText(t *testing.T) {
	for form, want := range map[string]string{"text": "one lease\n", "json": "{\n  \"leases\": 1\n}\n"} {
		told, stdout, _ := at(time.Time{})
		told.Output = form
		if err := told.Show(map[string]int{"leases": 1}, func() { told.Printf("one lease\n") }); err != nil || stdout.String() != want {
			t.Errorf("in form %s it shows %q, %v; want %q", form, stdout, err, want)
		}
	}
}
