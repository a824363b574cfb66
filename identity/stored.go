package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
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
