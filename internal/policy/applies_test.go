package policy

import (
	"slices"
	"testing"
)

func TestTheHotPathAgreesWithTheTableOfActions(t *testing.T) {
	for _, row := range appliesTo() {
		for _, kind := range []string{kindRole, kindLease, kindSystem, kindTarget, ""} {
			if applies(row.action, kind) != slices.Contains(row.resources, kind) {
				t.Errorf("%s on %q", row.action, kind)
			}
		}
	}
}
