package admission

import (
	"fmt"
)

// What is said of policies that permit acquire without a condition.
const (
	ConditionsOff     = "off"     // nothing
	ConditionsWarn    = "warn"    // they are named when a revision becomes active
	ConditionsRequire = "require" // no such revision becomes active
)

// checkConditions refuses a view whose policies lack conditions that are required. A revision that is active already
// serves on: otherwise a change of the server's configuration would shut everybody out.
func (g *Guard) checkConditions(view *View) error {
	if g.conditions != ConditionsRequire {
		return nil
	}
	return view.Policy.RequireConditions()
}

// openNotes names the policies without conditions, for the operator.
func (g *Guard) openNotes(view *View) []string {
	open := view.Policy.Unconditional()
	if g.conditions != ConditionsWarn && g.conditions != ConditionsRequire || len(open) == 0 {
		return nil
	}
	g.log.Warn("policies permit acquire under no condition", "policies", len(open), "first", fmt.Sprintf("%s:%d", open[0].File, open[0].Line))
	notes := make([]string, len(open))
	for i, one := range open {
		notes[i] = fmt.Sprintf("%s:%d: %s", one.File, one.Line, one.Message)
	}
	return notes
}
