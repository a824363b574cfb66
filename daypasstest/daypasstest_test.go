package daypasstest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/daypasstest"
)

func TestPoliciesOfTheTestDecide(t *testing.T) {
	daypass := daypasstest.Start(t, daypasstest.Options{Access: func(issuer string) map[string]string {
		return map[string]string{
			"teams.yaml": fmt.Sprintf(`kind: Issuer
name: ci
oidc: {url: %q}
claims: {team: string}
---
kind: Target
name: books
memory: {}
---
kind: Role
name: ledger
target: books
memory: {read: true}
`, issuer),
			"teams.cedar": `permit (principal is Workload, action == Action::"acquire", resource) when { principal.claims.team == "payments" };`,
		}
	}})
	if _, err := daypass.Workload(map[string]any{"team": "payments"}).Acquire(t.Context(), api.AcquireRequest{Role: "ledger"}); err != nil {
		t.Errorf("the team was refused: %v", err)
	}
	_, err := daypass.Workload(map[string]any{"team": "pranks"}).Acquire(t.Context(), api.AcquireRequest{Role: "ledger"})
	if problem, ok := errors.AsType[*api.Problem](err); !ok || problem.Code != "denied" {
		t.Errorf("another team got %v", err)
	}
	if daypass.Live() != 1 {
		t.Errorf("%d credentials live", daypass.Live())
	}
}

func TestWhatIsWrongWithTheAccessFilesIsTold(t *testing.T) {
	_, err := daypasstest.New(t.TempDir(), daypasstest.Options{Access: func(string) map[string]string {
		return map[string]string{"wrong.yaml": "kind: Isuer\n"}
	}})
	if err == nil {
		t.Fatal("it started")
	}
	t.Log(err)
}
