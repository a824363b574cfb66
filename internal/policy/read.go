package policy

import (
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

// Policy is one policy as its author wrote it, for those who look at policies without deciding by them.
type Policy struct {
	Name  string       // as reasons show it
	Place source.Place // of permit or forbid
	Tree  *ast.Policy

	text policyText
}

// Policies returns the policies of a file that [Compile] takes.
func Policies(file access.PolicyFile) ([]Policy, error) {
	text, err := source.NewFile(file.Path, file.Text)
	if err != nil {
		return nil, err
	}
	parts, err := cut(text)
	if err != nil {
		return nil, err
	}
	var all []Policy
	for _, part := range parts {
		parsed, err := parse(part)
		if err != nil {
			return nil, err
		}
		p := Policy{Place: text.PlaceOf(part.head()), Tree: (*ast.Policy)(parsed.AST()), text: part}
		p.Name = lineOf(p.Place)
		if id, ok := parsed.Annotations()["id"]; ok {
			p.Name = string(id)
		}
		all = append(all, p)
	}
	return all, nil
}

// Mistake returns a mistake at the first of words that stands in the policy, as a word or in quotes, and at permit or
// forbid where none does.
func (p Policy) Mistake(message, hint string, words ...string) *source.Error {
	for _, word := range words {
		if at := p.text.find(word, 0, len(p.text.tokens)); at >= 0 {
			return p.text.errorAt(at, message, hint)
		}
	}
	return p.text.errorAt(p.text.head(), message, hint)
}

// Strings returns the strings of the policy, annotations included, as they stand between quotes.
func (p Policy) Strings() []string {
	var all []string
	for _, t := range p.text.tokens {
		if len(t.text) >= 2 && t.text[0] == '"' {
			all = append(all, t.text[1:len(t.text)-1])
		}
	}
	return all
}
