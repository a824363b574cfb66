package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/daypass/daypass/internal/source"
)

// Bounds of one policy: the parser, the validator and the evaluator recurse as deep as it nests.
const (
	maxTokens  = 4000
	maxNesting = 60
)

// cedarToken is a word, a string or a sign of a policy text.
type cedarToken struct {
	text   string
	offset int // in the file
}

// policyText is one policy of a file.
type policyText struct {
	file   *source.File
	tokens []cedarToken
}

// text returns the policy as it stands in the file.
func (p policyText) text() string { return p.file.Text[p.start():p.end()] }

func (p policyText) start() int { return p.tokens[0].offset }

func (p policyText) end() int {
	last := p.tokens[len(p.tokens)-1]
	return last.offset + len(last.text)
}

// head returns where the policy's effect stands, behind its annotations.
func (p policyText) head() int {
	for i, t := range p.tokens {
		if (t.text == "permit" || t.text == "forbid") && (i == 0 || p.tokens[i-1].text != "@") {
			return t.offset
		}
	}
	return p.start()
}

// errorAt returns a mistake at an offset of the file.
func (p policyText) errorAt(offset int, message, hint string) *source.Error {
	return p.file.ErrorAt(offset, message, hint)
}

// cut cuts a file into its policies. A semicolon ends a policy wherever it stands outside strings and comments,
// so that a mistake in one policy does not hide those of the next.
func cut(file *source.File) ([]policyText, error) {
	var policies []policyText
	var wrong source.Errors
	tokens, err := scan(file)
	wrong.Add(file.Name, err)
	current := policyText{file: file}
	for _, t := range tokens {
		current.tokens = append(current.tokens, t)
		if t.text != ";" {
			continue
		}
		if err := current.bound(); err != nil {
			wrong = append(wrong, err)
		} else {
			policies = append(policies, current)
		}
		current = policyText{file: file}
	}
	if len(current.tokens) > 0 && err == nil {
		wrong = append(wrong, current.errorAt(current.end()-1, "the policy has no end", "end it with ;"))
	}
	return policies, wrong.Err()
}

// bound refuses policies that cost too much to read.
func (p policyText) bound() *source.Error {
	if len(p.tokens) > maxTokens {
		return p.errorAt(p.start(), fmt.Sprintf("the policy has %d words and signs", len(p.tokens)), fmt.Sprintf("at most %d: split it", maxTokens))
	}
	depth := 0
	for i, t := range p.tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "!", "-", "if":
			// unary signs and conditionals nest without brackets
			if i > 0 && p.tokens[i-1].text == t.text {
				depth++
			}
		}
		if depth > maxNesting {
			return p.errorAt(t.offset, "the policy nests too deep", fmt.Sprintf("at most %d levels", maxNesting))
		}
	}
	return nil
}

// scan reads words, strings and signs, and drops comments.
func scan(file *source.File) ([]cedarToken, error) {
	text := file.Text
	var tokens []cedarToken
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		start := at
		switch {
		case unicode.IsSpace(r):
			at += size
			continue
		case strings.HasPrefix(text[at:], "//"):
			if end := strings.IndexByte(text[at:], '\n'); end >= 0 {
				at += end
				continue
			}
			return tokens, nil
		case strings.HasPrefix(text[at:], "/*"):
			return tokens, source.Errors{file.ErrorAt(at, "Cedar has no comments of this form", "start each line of it with //")}
		case r == '"':
			end := stringEnd(text, at)
			if end < 0 {
				return tokens, source.Errors{file.ErrorAt(at, "the quote is never closed", "close it")}
			}
			at = end
		case isWord(r):
			for at < len(text) {
				r, size := utf8.DecodeRuneInString(text[at:])
				if !isWord(r) {
					break
				}
				at += size
			}
		default:
			at += signSize(text[at:], size)
		}
		tokens = append(tokens, cedarToken{text: text[start:at], offset: start})
	}
	return tokens, nil
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// stringEnd returns where the string that starts at from ends, and -1 where it does not.
func stringEnd(text string, from int) int {
	for i := from + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		case '\n':
			return -1
		}
	}
	return -1
}

func signSize(rest string, size int) int {
	for _, sign := range []string{"::", "==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(rest, sign) {
			return len(sign)
		}
	}
	return size
}

// clause is the text of one `when` or `unless`.
type clause struct {
	from, to int // tokens: the word itself, and behind the closing brace
}

// clauses returns the conditions of the policy in their order.
func (p policyText) clauses() []clause {
	var found []clause
	depth := 0
	for i, t := range p.tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
			if depth == 0 && t.text == "}" && len(found) > 0 {
				found[len(found)-1].to = i + 1
			}
		case "when", "unless":
			if depth == 0 && (i == 0 || p.tokens[i-1].text != "@") {
				found = append(found, clause{from: i, to: len(p.tokens)})
			}
		}
	}
	return found
}

// conjuncts returns the tokens at which the parts of a clause start that `&&` joins at its top level.
func (p policyText) conjuncts(c clause) []int {
	if c.from+2 >= len(p.tokens) {
		return nil
	}
	starts, depth := []int{c.from + 2}, 0
	for i := c.from + 1; i < c.to; i++ {
		switch p.tokens[i].text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "&&":
			if depth == 1 && i+1 < c.to {
				starts = append(starts, i+1)
			}
		case "||", "if":
			if depth == 1 {
				return starts[:1] // and binds tighter here: the parts are not what they seem
			}
		}
	}
	return starts
}

// comparisons returns the offsets of the signs <, <=, > and >= within the conditions.
func (p policyText) comparisons() []int {
	var offsets []int
	for _, c := range p.clauses() {
		for _, t := range p.tokens[c.from:c.to] {
			switch t.text {
			case "<", "<=", ">", ">=":
				offsets = append(offsets, t.offset)
			}
		}
	}
	return offsets
}

// find returns the offset of a word or string between two tokens, and -1 where it is not.
func (p policyText) find(word string, from, to int) int {
	quoted := quote(word)
	for _, t := range p.tokens[from:min(to, len(p.tokens))] {
		if t.text == word || t.text == quoted {
			return t.offset
		}
	}
	return -1
}

// findEntity returns the offset of an entity such as Role::"x", and -1 where it is not written like that.
func (p policyText) findEntity(kind, id string) int {
	for i := 2; i < len(p.tokens); i++ {
		if p.tokens[i].text != quote(id) || p.tokens[i-1].text != "::" {
			continue
		}
		first, path := i-2, p.tokens[i-2].text
		for first >= 2 && p.tokens[first-1].text == "::" {
			first -= 2
			path = p.tokens[first].text + "::" + path
		}
		if path == kind {
			return p.tokens[first].offset
		}
	}
	return -1
}
