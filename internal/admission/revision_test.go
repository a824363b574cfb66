package admission_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

func TestRevisions(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	first := d.View().Revision
	second := brokertest.Configuration()
	second["policies.cedar"] = `permit (principal, action == Action::"acquire", resource == Role::"writer");`
	applied, err := d.Apply(t.Context(), brokertest.Local(), second, first)
	brokertest.Must(t, err)
	if applied.Revision.ID == first || d.View().Revision != applied.Revision.ID {
		t.Error("the new revision does not serve")
	}
	_, err = d.Acquire(t.Context(), brokertest.Ask("alice", "reader"))
	brokertest.Check(t, "what the first revision allowed", err, fault.Denied)

	_, err = d.Apply(t.Context(), brokertest.Local(), brokertest.Configuration(), first)
	brokertest.Check(t, "an apply that expects another revision", err, fault.Conflict)
	_, err = d.Apply(t.Context(), brokertest.Local(), access.Files{"bad.yaml": "kind: Rolle\n"}, "")
	if err == nil || d.View().Revision != applied.Revision.ID {
		t.Errorf("a bad configuration: %v, and %s serves", err, d.View().Revision)
	}
	_, err = d.Activate(t.Context(), brokertest.Local(), "no-such-revision", "")
	brokertest.Check(t, "a revision that is not there", err, fault.NotFound)

	_, err = d.Activate(t.Context(), brokertest.Local(), first, "")
	brokertest.Must(t, err)
	d.Acquired("alice", "reader")
	revisions, active, _, err := d.Revisions(t.Context(), brokertest.Local(), "", 10)
	brokertest.Must(t, err)
	if len(revisions) != 2 || active != first {
		t.Errorf("%d revisions, %s is active", len(revisions), active)
	}
}

func TestLeasesOfAnIssuerThatLeftEnd(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	got := d.Acquired("alice", "reader")
	without := brokertest.Configuration()
	without["access.yaml"] = strings.Replace(brokertest.Access, "name: ci\noidc: {url: \"https://ci.example.com\"}\nclaims: {team: string, level: long?}",
		"name: ci2\noidc: {url: \"https://ci2.example.com\"}\nclaims: {team: string, level: long?}", 1)
	_, err := d.Apply(t.Context(), brokertest.Local(), without, "")
	brokertest.Must(t, err)
	if l := d.AwaitState(got.Lease.ID, lease.Revoked); l.Reason != lease.Withdrawn {
		t.Errorf("the reason is %q", l.Reason)
	}
}

// The name of an issuer moves to another URL, and the old URL gets another name: what was "ci" is not "ci" any more.
func TestARenamedIssuerDoesNotKeepItsOldRights(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	acquired := d.Acquired("alice", "reader")
	renamed := strings.Replace(brokertest.Access, "name: ci\noidc: {url: \"https://ci.example.com\"}", "name: old\noidc: {url: \"https://ci.example.com\"}", 1) +
		"---\nkind: Issuer\nname: ci\noidc: {url: \"https://new.example.com\"}\nclaims: {team: string, level: long?}\n"
	narrowed := strings.Replace(brokertest.Policies, "principal is Workload, action in", "principal in Issuer::\"ci\", action in", 1)
	_, err := d.Apply(t.Context(), brokertest.Local(), access.Files{"access.yaml": renamed, "policies.cedar": narrowed}, "")
	brokertest.Must(t, err)
	if _, _, err := d.Renew(t.Context(), brokertest.Holding(acquired.Token), acquired.Lease.ID, 20*time.Minute); err == nil {
		t.Error("a lease of https://ci.example.com was renewed by a policy for https://new.example.com")
	}
}

// An answer is of one revision: what was decided by another is found out in the transaction that acts.
func TestWhatAnEarlierRevisionDecidedIsNotActedUpon(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	before := d.View()
	other := brokertest.Configuration()
	other["more.cedar"] = `forbid (principal, action, resource == Role::"writer");`
	d.Configure(other)
	for view, want := range map[*admission.View]error{before: admission.ErrRevisionChanged, d.View(): nil} {
		d.Look(func(tx *store.Tx) error {
			if err := view.Check(tx); !errors.Is(err, want) {
				t.Errorf("revision %s: got %v, want %v", view.Revision, err, want)
			}
			return nil
		})
	}
}

func TestWhoIsTrustedNoMoreIsNotRecognised(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	alice := d.Workloads.Principal("alice")
	renamed := brokertest.Configuration()
	renamed["access.yaml"] = strings.Replace(renamed["access.yaml"], "name: ci\n", "name: builds\n", 1)
	d.Configure(renamed)
	if p, trusted := d.View().Recognise(alice); !trusted || p.Name() != "builds:alice" {
		t.Errorf("after its issuer's name has changed: %s, %v", p.Name(), trusted)
	}
	stolen := alice
	stolen.IssuerURL = "https://other.example.com"
	if _, trusted := d.View().Recognise(stolen); trusted {
		t.Error("a principal of a URL that is not there is recognised by a name")
	}
}

func TestPoliciesWithoutConditionsAreNamedOrRefused(t *testing.T) {
	open := brokertest.Configuration()
	open["open.cedar"] = `permit (principal is Workload, action == Action::"acquire", resource);`
	for setting, c := range map[string]struct{ notes, refused bool }{
		admission.ConditionsOff: {}, admission.ConditionsWarn: {notes: true}, admission.ConditionsRequire: {refused: true},
	} {
		d := brokertest.Open(t, brokertest.Options{Conditions: setting})
		applied, err := d.Apply(t.Context(), brokertest.Local(), open, "")
		if (err != nil) != c.refused || (d.View() == nil) != c.refused {
			t.Errorf("%s: %v", setting, err)
		}
		if named := strings.Contains(strings.Join(applied.Notes, " "), "open.cedar:1"); named != c.notes {
			t.Errorf("%s: the notes are %q", setting, applied.Notes)
		}
		d.Configure(brokertest.Configuration())
	}
}
