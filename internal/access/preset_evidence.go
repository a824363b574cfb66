package access

// evidencePresets are the vocabularies of evidence that is no token.
func evidencePresets() []Preset { return nil }
