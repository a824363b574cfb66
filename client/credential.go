package client

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// Credential is what opens the target. Its fields are named in the API reference, per type; those of "postgres"
// are username, password, host, port, database, sslmode, sslrootcert and url, those of "oidc-token" token, audience,
// subject, issuer and expires_at.
//
// A field is public when it is a number or a boolean or one of: username, host, port, database, sslmode,
// sslrootcert, sslnegotiation, endpoint, region, principal, expires_at, audience, subject, issuer, access_key_id. EVERY other field is secret, also one
// that a newer server adds and this package has never heard of.
type Credential struct {
	// Type is the kind of target, such as "postgres".
	Type   string
	public map[string]any
	secret map[string]secret.Text

	structured map[string]bool // secrets that are JSON
}

// isPublicName reports whether a string field of that name is known to hold no secret.
func isPublicName(name string) bool {
	switch name {
	case "username", "host", "port", "database", "sslmode", "sslrootcert", "sslnegotiation",
		"endpoint", "region", "principal", "expires_at", "audience", "subject", "issuer", "access_key_id":
		return true
	}
	return false
}

// newCredential sorts the fields of the wire form.
func newCredential(wire api.Credential) Credential {
	c := Credential{Type: wire.Type, public: map[string]any{}, secret: map[string]secret.Text{}, structured: map[string]bool{}}
	for name, value := range wire.Fields {
		switch v := value.(type) {
		case float64, bool:
			c.public[name] = v
		case string:
			if isPublicName(name) {
				c.public[name] = v
			} else {
				c.secret[name] = secret.New(v)
			}
		case nil:
		default: // a list or an object: as JSON, and secret, whatever is inside
			text, _ := json.Marshal(v) // came from JSON
			c.secret[name], c.structured[name] = secret.New(string(text)), true
		}
	}
	return c
}

// Public returns a public field as text, and "" for one that is absent or secret.
func (c Credential) Public(name string) string {
	switch v := c.public[name].(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		text, _ := json.Marshal(v) // a number or a boolean
		return string(text)
	}
}

// Secret returns a field, secret or public, and an empty secret for one that is absent. Lists and objects are
// given as JSON.
func (c Credential) Secret(name string) secret.Text {
	if text, ok := c.secret[name]; ok {
		return text
	}
	return secret.New(c.Public(name))
}

// Value returns a field in its JSON type, and nil for one that is absent. It reveals secrets: it is for passing a
// credential on as a whole.
func (c Credential) Value(name string) any {
	if text, ok := c.secret[name]; ok {
		if c.structured[name] {
			return json.RawMessage(text.Reveal())
		}
		return text.Reveal()
	}
	return c.public[name]
}

// IsSecret reports whether the credential has a field of that name that must not be shown.
func (c Credential) IsSecret(name string) bool {
	_, ok := c.secret[name]
	return ok
}

// Has reports whether the credential has a field of that name.
func (c Credential) Has(name string) bool {
	_, ok := c.public[name]
	return ok || c.IsSecret(name)
}

// Names returns the names of all fields, sorted.
func (c Credential) Names() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range maps.Keys(c.public) {
			if !yield(name) {
				return
			}
		}
		for name := range maps.Keys(c.secret) {
			if !yield(name) {
				return
			}
		}
	})
}

// String names the type and shows nothing else.
func (c Credential) String() string { return c.Type + " credential" }
