package access

// Parse reads an access configuration. It returns every mistake at once, as [source.Errors].
func Parse(files Files, kinds Kinds) (*Config, error) { return nil, nil }
