package inspection_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/source"
)

// The files that these name are nowhere: what a server has is not looked for.
var files = map[string]string{
	"ci.yaml": "kind: Issuer\nname: ci\noidc: {url: https://gitlab.example.com, ca_file: ci.pem}\npreset: gitlab\n" +
		"---\nkind: Target\nname: tokens\noidc-token: {}\n" +
		"---\nkind: Role\nname: deploy\ntarget: tokens\nttl: {default: 15m, max: 1h}\noidc-token: {audience: https://a.example.com}\n",
	"ci.cedar": `permit (principal, action == Action::"acquire", resource == Role::"deploy");`,
}

func TestAccessFilesAreCheckedWithoutTheServerTheyAreFor(t *testing.T) {
	checked, err := inspection.Check(files, inspection.Server{TimeZones: []string{"Europe/Berlin"}})
	if err != nil {
		t.Fatal(err)
	}
	if checked.Revision == "" || !strings.Contains(checked.Schema, "Role") {
		t.Errorf("revision %q, schema %q", checked.Revision, checked.Schema)
	}
	if _, err := inspection.Check(files, inspection.Server{TimeZones: []string{"Europe/Nowhere"}}); err == nil {
		t.Error("a time zone that there is not is taken")
	}
	broken := map[string]string{"ci.yaml": strings.Replace(files["ci.yaml"], "audience:", "audiense:", 1), "ci.cedar": files["ci.cedar"]}
	_, err = inspection.Check(broken, inspection.Server{})
	if wrong, ok := errors.AsType[source.Errors](err); !ok || len(wrong) == 0 || wrong[0].Line == 0 {
		t.Errorf("a mistake has no place: %v", err)
	}
}

func TestWhatIsWiderThanItNeedBeIsShownWithItsLine(t *testing.T) {
	found, err := inspection.Lint(files)
	if err != nil || len(found) == 0 {
		t.Fatalf("a policy for everybody is found fine: %v, %v", found, err)
	}
	for _, f := range found {
		if f.Place.Line > 0 && f.Excerpt == "" {
			t.Errorf("%+v shows no line", f)
		}
	}
}
