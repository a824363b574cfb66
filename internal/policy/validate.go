package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/daypass/daypass/internal/source"
)

// checker checks policies against a vocabulary.
type checker struct {
	vocabulary *vocabulary
	strict     *validate.Validator
}

func newChecker(v *vocabulary) (*checker, error) {
	whole, err := resolve(v)
	if err != nil {
		return nil, fmt.Errorf("the generated schema: %w", err)
	}
	return &checker{vocabulary: v, strict: validate.New(whole, validate.WithStrict())}, nil
}

// resolve returns the schema of a vocabulary. It is put together from one schema per type of principal, because
// Cedar lets GitHub::Workload and Workload not stand in one text, although both are fine in one validator.
func resolve(v *vocabulary) (*resolved.Schema, error) {
	whole := &resolved.Schema{
		Entities: map[cedar.EntityType]resolved.Entity{}, Enums: map[cedar.EntityType]resolved.Enum{},
		Namespaces: map[types.Path]resolved.Namespace{}, Actions: map[cedar.EntityUID]resolved.Action{},
	}
	for _, principal := range v.types() {
		var s schema.Schema
		if err := s.UnmarshalCedar([]byte(v.schema([]string{principal}))); err != nil {
			return nil, err
		}
		part, err := s.Resolve()
		if err != nil {
			return nil, err
		}
		maps.Copy(whole.Namespaces, part.Namespaces)
		maps.Copy(whole.Entities, part.Entities)
		for uid, action := range part.Actions {
			if known, ok := whole.Actions[uid]; ok {
				known.AppliesTo.Principals = append(known.AppliesTo.Principals, action.AppliesTo.Principals...)
				continue
			}
			whole.Actions[uid] = action
		}
	}
	return whole, nil
}

// parse reads one policy.
func parse(text policyText) (*cedar.Policy, *source.Error) {
	if len(text.tokens) == 1 {
		return nil, text.errorAt(text.start(), "a policy is missing before this ;", "remove it")
	}
	list, err := cedar.NewPolicyListFromBytes(text.file.Name, []byte(text.text()))
	if err != nil {
		return nil, syntax(text, err)
	}
	if len(list) != 1 {
		return nil, text.errorAt(text.start(), "the policy cannot be read", "")
	}
	return list[0], nil
}

// syntax places an error of the Cedar parser, which counts from the start of the policy.
func syntax(text policyText, err error) *source.Error {
	_, rest, _ := strings.Cut(err.Error(), "<input>:")
	var line, column int
	if _, scanErr := fmt.Sscanf(rest, "%d:%d", &line, &column); scanErr != nil {
		return text.errorAt(text.head(), "the policy cannot be read: "+err.Error(), "")
	}
	_, what, _ := strings.Cut(rest, " ")
	start := text.file.PlaceOf(text.start())
	if line == 1 {
		column += start.Column - 1
	}
	line += start.Line - 1
	at := len(text.tokens) - 1
	for i, t := range text.tokens {
		if p := text.file.PlaceOf(t.offset); p.Line == line && p.Column == column {
			at = i
		}
	}
	_, found, _ := strings.Cut(what, `: `)
	want, exact := "", false
	if _, want, exact = strings.Cut(found, " want "); exact || strings.Contains(found, "unexpected effect") {
		if strings.HasPrefix(found, "exact") || !exact { // the parser has gone on by one
			at = max(at-1, 0)
		}
	}
	token := text.tokens[at]
	switch {
	case exact:
		return text.errorAt(token.offset, fmt.Sprintf("%q stands where %q belongs", token.text, want), "")
	case strings.Contains(found, "unexpected effect"):
		return text.errorAt(token.offset, fmt.Sprintf("%q starts no policy", token.text), "a policy starts with permit or forbid")
	}
	return text.errorAt(token.offset, fmt.Sprintf("the policy cannot be read at %q: %s", token.text, found), "")
}

// policy returns everything that is wrong with a policy.
func (c *checker) policy(text policyText, p *cedar.Policy) source.Errors {
	tree := (*ast.Policy)(p.AST())
	var wrong source.Errors
	wrong = append(wrong, c.entities(text, tree)...)
	wrong = append(wrong, c.sources(text, tree)...)
	messages := c.messages(tree)
	if len(messages) > 0 {
		const never = "unable to find an applicable action"
		left := messages
		if len(messages) > 1 {
			left = c.messages(c.without(tree))
		}
		for _, message := range messages {
			if strings.HasPrefix(message, never) && len(messages) > 1 || isUnasked(message) && !slices.Contains(left, message) {
				continue // it follows from the others
			}
			wrong = append(wrong, c.explain(text, tree, message))
		}
	}
	return append(wrong, c.comparisons(text, tree, messages)...)
}

// isUnasked reports whether a message is about the use of an attribute that may be missing.
func isUnasked(message string) bool {
	return strings.HasPrefix(message, "unable to guarantee safety of access to optional")
}

// without returns a policy without those parts of an `&&` that are wrong by themselves. The validator forgets at such a
// part what was asked for before it, and then says of what follows that nobody asked.
func (c *checker) without(tree *ast.Policy) *ast.Policy {
	bare := *tree
	bare.Conditions = nil
	known := c.messages(&bare)
	isWrong := func(message string) bool { return !isUnasked(message) && !slices.Contains(known, message) }
	good := bare
	for _, condition := range tree.Conditions {
		var body ast.IsNode
		for _, part := range conjuncts(condition.Body) {
			longer := part
			if body != nil {
				longer = ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: body, Right: part}}
			}
			try := bare
			try.Conditions = []ast.ConditionType{{Condition: condition.Condition, Body: longer}}
			if !slices.ContainsFunc(c.messages(&try), isWrong) {
				body = longer
			}
		}
		if body != nil {
			good.Conditions = append(good.Conditions, ast.ConditionType{Condition: condition.Condition, Body: body})
		}
	}
	return &good
}

// messages returns what the strict validator says, sorted and without repetitions. A validator that panics is
// taken for a refusal.
func (c *checker) messages(tree *ast.Policy) (messages []string) {
	defer func() {
		if cause := recover(); cause != nil {
			messages = []string{"the policy cannot be checked"}
		}
	}()
	err := c.strict.Policy("", tree)
	if err == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, one := range flatten(err) {
		seen[one.Error()] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func flatten(err error) []error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range several.Unwrap() {
		all = append(all, flatten(one)...)
	}
	return all
}

// comparisons reports comparisons of values of different types, beside what is already known; compare.go says why.
func (c *checker) comparisons(text policyText, tree *ast.Policy, known []string) source.Errors {
	more := func(stricter *ast.Policy) string {
		for _, message := range c.messages(stricter) {
			if !slices.Contains(known, message) {
				return message
			}
		}
		return ""
	}
	all := comparer{only: -1}
	mixed := more(all.policy(tree))
	if mixed == "" {
		return nil
	}
	var wrong source.Errors
	places := text.comparisons()
	for i := range all.count {
		one := comparer{only: i}
		message := more(one.policy(tree))
		if message == "" {
			continue
		}
		offset := text.head()
		if len(places) == all.count {
			offset = places[i]
		}
		wrong = append(wrong, text.errorAt(offset, "the comparison mixes types: "+plainTypes(message),
			"compare a time with datetime(\"…\"), a length of time with duration(\"…\"), a number with a number"))
	}
	if len(wrong) == 0 { // whatever it is, it does not pass
		wrong = append(wrong, text.errorAt(text.head(), "a comparison mixes types: "+plainTypes(mixed), ""))
	}
	return wrong
}

// entities checks that the issuers, targets and roles that a policy names exist: Cedar itself would take any
// name, and a forbid with a misspelt one would forbid nothing.
func (c *checker) entities(text policyText, tree *ast.Policy) source.Errors {
	var wrong source.Errors
	seen := map[cedar.EntityUID]bool{}
	for uid := range named(tree) {
		if seen[uid] {
			continue
		}
		seen[uid] = true
		message, hint := c.unknown(uid)
		if message == "" {
			continue
		}
		offset := text.findEntity(string(uid.Type), string(uid.ID))
		if offset < 0 {
			offset = text.head()
		}
		wrong = append(wrong, text.errorAt(offset, message, hint))
	}
	return wrong
}

// unknown says why there is no such entity.
func (c *checker) unknown(uid cedar.EntityUID) (message, hint string) {
	config, id := c.vocabulary.config, string(uid.ID)
	switch string(uid.Type) {
	case kindRole:
		return absent("role", id, config.Roles)
	case kindTarget:
		return absent("target", id, config.Targets)
	case kindIssuer:
		return absent("issuer", id, config.Issuers)
	case kindPosture:
		return absent("posture", id, config.Postures)
	case kindSystem:
		if id != systemID {
			return fmt.Sprintf("there is no system %q", id), `write System::"daypass"`
		}
	}
	if _, ok := c.vocabulary.principals[string(uid.Type)]; ok {
		name, _, colon := strings.Cut(id, ":")
		if issuer, known := config.Issuers[name]; !colon || !known || issuer.Type != string(uid.Type) {
			return fmt.Sprintf("%q names no principal of type %s", id, uid.Type), "write the issuer's name, a colon and the subject"
		}
	}
	return "", ""
}

// absent says that known has no such name, and which one may have been meant.
func absent[T any](what, name string, known map[string]T) (message, hint string) {
	if _, ok := known[name]; ok {
		return "", ""
	}
	return fmt.Sprintf("there is no %s %q", what, name), source.Suggest(name, what+"s", slices.Collect(maps.Keys(known)))
}

// named yields the entities that a policy names, scope first.
func named(tree *ast.Policy) func(yield func(cedar.EntityUID) bool) {
	var found []cedar.EntityUID
	for _, scope := range []any{tree.Principal, tree.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeEq:
			found = append(found, s.Entity)
		case ast.ScopeTypeIn:
			found = append(found, s.Entity)
		case ast.ScopeTypeIsIn:
			found = append(found, s.Entity)
		}
	}
	for _, condition := range tree.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), func(n ast.IsNode) bool {
			if value, ok := n.(ast.NodeValue); ok {
				if uid, ok := value.Value.(cedar.EntityUID); ok {
					found = append(found, uid)
				}
			}
			return true
		})
	}
	return slices.Values(found)
}
