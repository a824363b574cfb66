package source

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Section is a mapping in a file. The zero Section is absent: it decodes as a mapping without fields.
type Section struct {
	file *File
	line int // line of the file where the document starts
	path string
	node ast.Node
}

// IsZero reports whether the section is absent.
func (s Section) IsZero() bool { return s.node == nil }

// Place returns where the section starts: its first field where it has one.
func (s Section) Place() Place {
	if s.node == nil {
		return Place{}
	}
	if fields, ok := pairs(s.node); ok && len(fields) > 0 {
		return s.place(fields[0].Key)
	}
	return s.place(s.node)
}

// PlaceOf returns where the field at path ("grants[0].on") stands, and the nearest thing that holds it where it is
// not there itself. An empty path is the section.
func (s Section) PlaceOf(path string) Place {
	if s.node == nil {
		return Place{}
	}
	at, node := s.Place(), s.node
	for path != "" {
		var step string
		step, path = cutStep(path)
		found := false
		if index, err := strconv.Atoi(strings.Trim(step, "[]")); err == nil && step[0] == '[' {
			if list, ok := node.(*ast.SequenceNode); ok && index >= 0 && index < len(list.Values) {
				node, found = list.Values[index], true
				at = s.place(first(node))
			}
		} else if fields, ok := pairs(node); ok {
			for _, field := range fields {
				if text(field.Key) == step {
					node, found = field.Value, true
					at = s.place(field.Key)
				}
			}
		}
		if !found {
			break
		}
	}
	return at
}

// first returns the first thing that stands of a value: a mapping's own position is its first colon.
func first(node ast.Node) ast.Node {
	if fields, ok := pairs(node); ok && len(fields) > 0 {
		return fields[0].Key
	}
	return node
}

// cutStep cuts the first step off a path such as `grants[0].on`.
func cutStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, "[") {
		if end := strings.IndexByte(path, ']'); end > 0 {
			return path[:end+1], path[end+1:]
		}
	}
	if end := strings.IndexAny(path, ".["); end > 0 {
		return path[:end], path[end:]
	}
	return path, ""
}

// Error returns a mistake at the field at path, as [Section.PlaceOf] finds it.
func (s Section) Error(path, message, hint string) *Error {
	p := s.PlaceOf(path)
	if s.file == nil {
		return &Error{Message: message, Hint: hint}
	}
	return s.file.Error(p.Line, p.Column, message, hint)
}

func (s Section) place(node ast.Node) Place {
	t := node.GetToken()
	if t == nil || t.Position == nil {
		return Place{File: s.file.Name, Line: s.line, Column: 1}
	}
	return Place{File: s.file.Name, Line: s.line + t.Position.Line - 1, Column: max(t.Position.Column, 1)}
}

func (s Section) at(node ast.Node, message, hint string) *Error {
	p := s.place(first(node))
	return s.file.Error(p.Line, p.Column, message, hint)
}

// Decode fills into, a pointer to a struct or to a map, from the section. Fields are named by their `yaml` tags;
// a field tagged `yaml:"*"` of type map[string]Section takes what no other field does. It finds all mistakes:
// what is right is filled in beside the error.
//
// Text is taken where a field is a string or unmarshals text; numbers and true or false are not text unless they
// stand in quotes, except for what unmarshals text, which gets the characters of the file (`010` stays `010`).
// Empty values are mistakes.
func (s Section) Decode(into any) error {
	if s.node == nil {
		return nil
	}
	d := decoder{section: s}
	d.value(s.node, reflect.ValueOf(into).Elem(), s.path)
	return d.wrong.Err()
}

// decoder walks a value of the file and a Go value side by side and collects what does not fit.
type decoder struct {
	section Section
	wrong   Errors
}

func (d *decoder) add(node ast.Node, message, hint string) {
	d.wrong = append(d.wrong, d.section.at(node, message, hint))
}

// value decodes node into v. Path names it for people.
func (d *decoder) value(node ast.Node, v reflect.Value, path string) {
	if node.Type() == ast.NullType {
		d.add(node, fmt.Sprintf("%s has no value", named(path)), "give it one, or remove the line")
		return
	}
	if v.Type() == reflect.TypeFor[Section]() {
		v.Set(reflect.ValueOf(Section{file: d.section.file, line: d.section.line, path: path, node: node}))
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		d.value(node, v.Elem(), path)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.unmarshal(node, u, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(node, v, path)
	case reflect.Map:
		d.dictionary(node, v, path)
	case reflect.Slice:
		d.list(node, v, path)
	case reflect.Interface:
		d.free(node, v, path)
	default:
		d.scalar(node, v, path)
	}
}

func (d *decoder) unmarshal(node ast.Node, into encoding.TextUnmarshaler, path string) {
	characters, ok := raw(node)
	if !ok {
		d.expected(node, "text", path)
		return
	}
	if err := into.UnmarshalText([]byte(characters)); err != nil {
		d.add(node, fmt.Sprintf("%s: %v", named(path), err), "")
	}
}

func (d *decoder) expected(node ast.Node, what, path string) {
	hint := ""
	if what == "text" {
		if _, ok := raw(node); ok {
			hint = "put it in quotes"
		}
	}
	d.add(node, fmt.Sprintf("%s: expected %s, found %s", named(path), what, describe(node)), hint)
}

func (d *decoder) scalar(node ast.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		switch node.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			characters, _ := raw(node)
			v.SetString(characters)
		default:
			d.expected(node, "text", path)
		}
	case reflect.Bool:
		b, ok := node.(*ast.BoolNode)
		if !ok || b.GetToken().Value != "true" && b.GetToken().Value != "false" {
			d.expected(node, "true or false", path)
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.number(node, v, path)
	default:
		d.add(node, fmt.Sprintf("%s cannot be read into %s", named(path), v.Type()), "")
	}
}

// number takes decimal digits only: other notations are read differently by different readers.
func (d *decoder) number(node ast.Node, v reflect.Value, path string) {
	if _, ok := node.(*ast.IntegerNode); !ok {
		d.expected(node, "a whole number", path)
		return
	}
	digits := node.GetToken().Value
	unsigned := strings.TrimPrefix(digits, "-")
	if unsigned == "" || strings.Trim(unsigned, "0123456789") != "" || len(unsigned) > 1 && unsigned[0] == '0' {
		d.add(node, fmt.Sprintf("%s: %s is not a plain whole number", named(path), digits), "write decimal digits without a leading 0")
		return
	}
	if v.CanUint() {
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || v.OverflowUint(n) {
			d.add(node, fmt.Sprintf("%s: %s is out of range", named(path), digits), "")
			return
		}
		v.SetUint(n)
		return
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v.OverflowInt(n) {
		d.add(node, fmt.Sprintf("%s: %s is out of range", named(path), digits), "")
		return
	}
	v.SetInt(n)
}

func (d *decoder) mapping(node ast.Node, v reflect.Value, path string) {
	fields, ok := pairs(node)
	if !ok {
		d.expected(node, "a mapping", path)
		return
	}
	byName, rest := map[string]int{}, -1
	names := []string{}
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch tag {
		case "", "-":
		case "*":
			rest = i
		default:
			byName[tag] = i
			names = append(names, tag)
		}
	}
	for _, field := range fields {
		key := text(field.Key)
		if i, known := byName[key]; known {
			d.value(field.Value, v.Field(i), join(path, key))
			continue
		}
		if rest < 0 {
			d.add(field.Key, fmt.Sprintf("unknown field %q%s", key, within(path)), Suggest(key, "fields", names))
			continue
		}
		d.other(field, v.Field(rest), join(path, key))
	}
}

// other keeps a field that no other takes, for somebody else to read.
func (d *decoder) other(field *ast.MappingValueNode, rest reflect.Value, path string) {
	if rest.IsNil() {
		rest.Set(reflect.MakeMap(rest.Type()))
	}
	section := Section{file: d.section.file, line: d.section.line, path: path, node: field.Value}
	rest.SetMapIndex(reflect.ValueOf(text(field.Key)), reflect.ValueOf(section))
}

func (d *decoder) dictionary(node ast.Node, v reflect.Value, path string) {
	fields, ok := pairs(node)
	if !ok {
		d.expected(node, "a mapping", path)
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(fields)))
	for _, field := range fields {
		key := text(field.Key)
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(field.Value, element, join(path, key))
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	}
}

func (d *decoder) list(node ast.Node, v reflect.Value, path string) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		d.expected(node, "a list", path)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
	for i, value := range list.Values {
		d.value(value, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// free decodes into an empty interface: mappings, lists, text, whole numbers, true and false.
func (d *decoder) free(node ast.Node, v reflect.Value, path string) {
	var into reflect.Value
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		into = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case *ast.SequenceNode:
		into = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case *ast.BoolNode:
		into = reflect.New(reflect.TypeFor[bool]()).Elem()
	case *ast.IntegerNode:
		into = reflect.New(reflect.TypeFor[int64]()).Elem()
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		d.expected(node, "text, a whole number, true or false", path)
		return
	default:
		into = reflect.New(reflect.TypeFor[string]()).Elem()
	}
	d.value(node, into, path)
	v.Set(into)
}

// raw returns the characters of a scalar.
func raw(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	}
	return "", false
}

// text returns the characters of a key, which refuseKey has seen to be text.
func text(key ast.Node) string {
	characters, _ := raw(key)
	return characters
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// named names a value by its path.
func named(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

func within(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
