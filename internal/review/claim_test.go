package review

import (
	"testing"

	"github.com/daypass/daypass/internal/admission"
)

// idle serves no revision.
type idle struct{ Guard }

func (idle) View() *admission.View { return nil }

func TestAServerWithoutARevisionLeavesReviewsToOthers(t *testing.T) {
	one := &rounds{Reviews: &Reviews{guard: idle{}}} // a claim that is asked for is a nil one
	if ours, err := one.Ours(t.Context()); ours || err != nil {
		t.Errorf("ours: %v, %v", ours, err)
	}
}
