package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ParseClaims reads claims that were kept as JSON, the way verifiers return them: whole numbers are int64, others
// json.Number.
func ParseClaims(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil {
		return nil, fmt.Errorf("read stored claims: %w", err)
	}
	for name, value := range claims {
		claims[name] = wholeNumbers(value)
	}
	return claims, nil
}

func wholeNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = wholeNumbers(v[name])
		}
	}
	return value
}

// EncodeClaims writes claims as [ParseClaims] reads them, the same text for the same claims. Each acquisition writes them
// more than once: what claims are made of it writes itself, and leaves the rest to encoding/json.
func EncodeClaims(claims map[string]any) ([]byte, error) {
	text, err := appendValue(make([]byte, 0, 1024), claims)
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	return text, nil
}

func appendValue(to []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return appendText(to, v)
	case bool:
		return strconv.AppendBool(to, v), nil
	case int64:
		return strconv.AppendInt(to, v, 10), nil
	case map[string]any:
		if v != nil {
			return appendObject(to, v)
		}
	case []any:
		if v != nil {
			return appendList(to, v)
		}
	}
	return appendOther(to, value)
}

func appendObject(to []byte, object map[string]any) (_ []byte, err error) {
	to = append(to, '{')
	for i, name := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			to = append(to, ',')
		}
		if to, err = appendText(to, name); err != nil {
			return nil, err
		}
		if to, err = appendValue(append(to, ':'), object[name]); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

func appendList(to []byte, list []any) (_ []byte, err error) {
	to = append(to, '[')
	for i, element := range list {
		if i > 0 {
			to = append(to, ',')
		}
		if to, err = appendValue(to, element); err != nil {
			return nil, err
		}
	}
	return append(to, ']'), nil
}

// appendText writes a text that is the same in JSON, which most are.
func appendText(to []byte, text string) ([]byte, error) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendOther(to, text)
		}
	}
	return append(append(append(to, '"'), text...), '"'), nil
}

// appendOther writes any value.
func appendOther(to []byte, value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return append(to, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...), nil
}
