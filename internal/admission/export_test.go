package admission

// Rules are the reasons by which evidence that is not accepted is counted, each with the rule that is told.
func Rules() map[string]string { return rules() }
