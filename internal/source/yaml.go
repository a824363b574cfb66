package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of what is parsed. The time of the YAML library grows with the square of what one document holds.
const (
	maxNesting   = 32
	maxTokens    = 15_000 // of one document
	maxDocuments = 10_000 // of one file
)

// Document reads a file that holds one document, which must be a mapping. An empty file is an empty mapping.
func Document(name, text string) (*Section, error) {
	sections, err := Documents(name, text)
	if err != nil {
		return nil, err
	}
	switch len(sections) {
	case 0:
		f, err := NewFile(name, text)
		return &Section{file: f, line: 1, node: ast.Mapping(token.New("{", "{", &token.Position{Line: 1, Column: 1}), true)}, err
	case 1:
		return sections[0], nil
	}
	second := sections[1]
	return nil, Errors{second.Error("", "the file has a second document", "this file holds one: remove the line ---")}
}

// Documents reads a file of any number of documents, each of which must be a mapping. Mistakes of one document do
// not hide those of another: the sections without mistakes are returned beside the error.
func Documents(name, text string) ([]*Section, error) {
	f, err := NewFile(name, text)
	if err != nil {
		return nil, err
	}
	var sections []*Section
	var wrong Errors
	chunks, err := f.split()
	wrong.Add(name, err)
	if len(chunks) > maxDocuments {
		return nil, Errors{f.Error(chunks[maxDocuments].line, 1, fmt.Sprintf("the file has %d documents", len(chunks)), fmt.Sprintf("at most %d: split it", maxDocuments))}
	}
	for _, chunk := range chunks {
		section, err := f.parse(chunk)
		wrong.Add(name, err)
		if section != nil {
			sections = append(sections, section)
		}
	}
	return sections, wrong.Err()
}

// chunk is the text of one document and the line of the file where it starts.
type chunk struct {
	text string
	line int
}

// split cuts the file at its document markers. A marker at the start of a line is one wherever it stands, also
// within a block of text: that is YAML's own rule, so that nothing has to be parsed to find them.
func (f *File) split() ([]chunk, error) {
	var chunks []chunk
	var wrong Errors
	current := chunk{line: 1}
	var body strings.Builder
	for i, line := range f.lines {
		word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		marker := word == "---" || word == "..."
		if rest = strings.TrimSpace(rest); marker && rest != "" && rest[0] != '#' {
			wrong = append(wrong, f.Error(i+1, len(word)+2, "text beside a document marker", "put it on a line of its own"))
		}
		if strings.HasPrefix(line, "%") {
			wrong = append(wrong, f.Error(i+1, 1, "YAML directives are not read here", "remove the line"))
			line = ""
		}
		if marker {
			current.text = body.String()
			chunks = append(chunks, current)
			current = chunk{line: i + 2}
			body.Reset()
			continue
		}
		body.WriteString(line)
		body.WriteByte('\n')
	}
	current.text = body.String()
	return append(chunks, current), wrong.Err()
}

// parse reads one document. It returns no section for one that holds nothing but comments.
func (f *File) parse(c chunk) (section *Section, err error) {
	defer func() {
		if cause := recover(); cause != nil { // the YAML library panics on some malformed texts
			section, err = nil, Errors{f.Error(c.line, 1, "the document is not YAML", "")}
		}
	}()
	tokens := lexer.Tokenize(c.text)
	if len(tokens) > maxTokens {
		return nil, Errors{f.Error(c.line, 1, fmt.Sprintf("the document has %d words and signs", len(tokens)), fmt.Sprintf("at most %d: split it", maxTokens))}
	}
	if e := f.refuseDepth(tokens, c.line); e != nil {
		return nil, Errors{e}
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Errors{f.syntax(err, c.line)}
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return nil, nil
	}
	section = &Section{file: f, line: c.line, node: parsed.Docs[0].Body}
	var wrong Errors
	section.refuseFeatures(section.node, 0, &wrong)
	if _, ok := pairs(section.node); !ok && len(wrong) == 0 {
		wrong = append(wrong, section.at(section.node, fmt.Sprintf("a document is a mapping of fields, not %s", describe(section.node)), "write `field: value`"))
	}
	if len(wrong) > 0 {
		return nil, wrong.Err()
	}
	return section, nil
}

// refuseDepth refuses nesting that would cost the parser its stack, before it runs.
func (f *File) refuseDepth(tokens token.Tokens, first int) *Error {
	flow, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if flow > maxNesting || entries > maxNesting {
			return f.Error(first+t.Position.Line-1, t.Position.Column, "values nest too deep", fmt.Sprintf("at most %d levels", maxNesting))
		}
	}
	return nil
}

// syntax turns an error of the YAML library into ours. Its own formatting is not used: it shows source without
// blanking, and panics on nil.
func (f *File) syntax(err error, first int) *Error {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &located) || located.GetToken() == nil || located.GetToken().Position == nil {
		return f.Error(first, 1, "the document is not YAML", "")
	}
	at := located.GetToken().Position
	message, hint := plainSyntax(located.GetMessage())
	return f.Error(first+at.Line-1, at.Column, message, hint)
}

// plainSyntax says in plain words what the YAML library found.
func plainSyntax(message string) (text, hint string) {
	switch {
	case strings.Contains(message, "mapping value is not allowed"):
		return "a value cannot hold `: ` without quotes", "put the value in quotes, or start a new line"
	case strings.Contains(message, "cannot start any token") && strings.Contains(message, "\t"):
		return "a tab cannot indent YAML", "indent with spaces"
	case strings.Contains(message, "could not find end character"):
		return "the quote is never closed", "close it"
	case strings.Contains(message, "end token ']' not found"), strings.Contains(message, "end token '}' not found"):
		return "the bracket is never closed", "close it"
	}
	return "the text is not YAML: " + message, ""
}

// refuseFeatures refuses what makes YAML mean something other than what it shows.
func (s *Section) refuseFeatures(node ast.Node, depth int, wrong *Errors) {
	add := func(message, hint string) { *wrong = append(*wrong, s.at(node, message, hint)) }
	if depth > maxNesting {
		add("values nest too deep", fmt.Sprintf("at most %d levels", maxNesting))
		return
	}
	switch n := node.(type) {
	case nil:
		*wrong = append(*wrong, s.file.Error(s.line, 1, "the document has an entry without a value", "give it one, or remove it"))
	case *ast.AnchorNode:
		add("anchors are not read here", "write the value out")
	case *ast.AliasNode:
		add("aliases are not read here", "write the value out; a text that starts with * needs quotes")
	case *ast.TagNode:
		add("tags are not read here", "write the value plainly; a text that starts with ! needs quotes")
	case *ast.SequenceNode:
		for _, value := range n.Values {
			s.refuseFeatures(value, depth+1, wrong)
		}
	case *ast.MappingNode, *ast.MappingValueNode:
		values, _ := pairs(node)
		seen := map[string]*ast.MappingValueNode{}
		for _, pair := range values {
			s.refuseKey(pair, seen, wrong)
			s.refuseFeatures(pair.Value, depth+1, wrong)
		}
	}
}

// refuseKey refuses keys that are no text, merge keys and repeated keys.
func (s *Section) refuseKey(pair *ast.MappingValueNode, seen map[string]*ast.MappingValueNode, wrong *Errors) {
	key, ok := pair.Key.(*ast.StringNode)
	switch {
	case ok:
	case pair.Key.Type() == ast.MergeKeyType:
		*wrong = append(*wrong, s.at(pair.Key, "merge keys are not read here", "write the fields out"))
		return
	case pair.Key.Type() == ast.MappingKeyType:
		*wrong = append(*wrong, s.at(pair.Key, "a key is plain text", "write `field: value`"))
		return
	default:
		*wrong = append(*wrong, s.at(pair.Key, "a key is text, not "+describe(pair.Key), "put it in quotes"))
		return
	}
	if first, again := seen[key.Value]; again {
		message := fmt.Sprintf("%q is given twice", key.Value)
		*wrong = append(*wrong, s.at(key, message, fmt.Sprintf("the other one is in line %d: keep one", s.place(first.Key).Line)))
		return
	}
	seen[key.Value] = pair
}

// pairs returns the fields of a mapping in their order.
func pairs(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// describe names the type of a value, never the value.
func describe(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "text"
}
