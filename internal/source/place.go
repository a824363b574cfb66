package source

// Place is where something stands in a file. The zero Place is nowhere.
type Place struct {
	File   string
	Line   int // from 1
	Column int // from 1, in characters
}

// String returns the place as `file:line:column`.
func (p Place) String() string {
	return (&Error{File: p.File, Line: p.Line, Column: p.Column}).Place()
}
