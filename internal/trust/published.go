package trust

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/target"
)

// Published are the two documents by which others verify an issuer's tokens.
type Published struct {
	Configuration []byte    // the discovery document
	Keys          []byte    // the key set
	Date          time.Time // the clock of who published them; zero where he does not tell
}

// Clocks says what is wrong with the clock of the server that signs, beside that of another, which is called by a name.
func Clocks(server, other time.Time, name string) []target.Finding {
	ahead := server.Sub(other).Round(time.Second)
	how := "ahead of"
	if ahead < 0 {
		ahead, how = -ahead, "behind"
	}
	if ahead <= clockRoom {
		return nil
	}
	f := target.Finding{Severity: target.Warning, Message: fmt.Sprintf("the clock of the server that signs is %s %s %s: tokens of the future are refused, and those of the past end early", ahead, how, name),
		Fix: "set both by NTP"}
	if ahead > most {
		f.Severity = target.Problem
	}
	return []target.Finding{f}
}

// How far clocks may be apart before it matters, and before a cloud refuses what is signed now.
const clockRoom, most = 30 * time.Second, 5 * time.Minute

// discovery is what verifiers need of the discovery document.
type discovery struct {
	Issuer  string `json:"issuer"`
	KeysURL string `json:"jwks_uri"`
}

// KeysURL returns where a discovery document says that the keys are. It has to be of the issuer that was asked.
func KeysURL(configuration []byte, issuer string) (string, error) {
	var d discovery
	if err := json.Unmarshal(configuration, &d); err != nil {
		return "", fmt.Errorf("the discovery document is no JSON: %w", err)
	}
	if d.Issuer != issuer {
		return "", fmt.Errorf("the discovery document is of the issuer %.200q, not %q", d.Issuer, issuer)
	}
	if !strings.HasPrefix(d.KeysURL, "https://") {
		return "", fmt.Errorf("the discovery document has the keys at %.200q, which is not https", d.KeysURL)
	}
	return d.KeysURL, nil
}

// Compare says what is wrong with what outsiders read, beside what the server publishes, for tokens of f.
func (f Federation) Compare(outside, server Published) []target.Finding {
	var found []target.Finding
	problem := func(fix, format string, args ...any) {
		found = append(found, target.Finding{Severity: target.Problem, Message: fmt.Sprintf(format, args...), Fix: fix})
	}
	there, err := keySet(outside.Keys)
	if err != nil {
		problem("publish the documents again: daypass issuer publish", "the keys that outsiders read: %v", err)
		return found
	}
	here, err := keySet(server.Keys)
	if err != nil {
		problem("look at the server's log", "the keys that the server publishes: %v", err)
		return found
	}
	for id := range here {
		if _, ok := there[id]; !ok {
			problem("publish the documents again: daypass issuer publish, or issuer.publish in daypass.yaml", "outsiders do not find key %q, which the server publishes: tokens that it signs will be refused", id)
		}
	}
	for id, key := range there {
		switch own, ok := here[id]; {
		case !ok:
			problem("find out who can write there; a copy from before a rotation is replaced by daypass issuer publish",
				"outsiders find key %q, which the server does not publish: who holds it can sign tokens in our name", id)
		case !same(own, key):
			problem("find out who can write there", "outsiders find another key under the ID %q than the server publishes", id)
		}
	}
	found = append(found, f.fits(here)...)
	return found
}

// fits says whether the role's tokens are what verifiers take.
func (f Federation) fits(keys map[string]jose.JSONWebKey) []target.Finding {
	var found []target.Finding
	signs := false
	for id, key := range keys {
		signs = signs || key.Algorithm == f.Algorithm
		if public, ok := key.Key.(*rsa.PublicKey); ok && public.N.BitLen() < 2048 {
			found = append(found, target.Finding{Severity: target.Problem, Message: fmt.Sprintf("key %q has %d bits: clouds want 2048", id, public.N.BitLen()), Fix: "daypass issuer rotate"})
		}
	}
	if !signs {
		found = append(found, target.Finding{Severity: target.Problem, Message: fmt.Sprintf("no published key is for %s, with which tokens of role %q are signed", f.Algorithm, f.Role), Fix: "daypass issuer rotate"})
	}
	if f.Audience == "api://AzureADTokenExchange" && f.Algorithm != "RS256" {
		found = append(found, target.Finding{Severity: target.Problem, Message: fmt.Sprintf("tokens of role %q are signed with %s, and Entra takes RS256 alone", f.Role, f.Algorithm), Fix: "remove `algorithm` from the role"})
	}
	return found
}

// keySet reads a key set. Every key has an ID and is one that verifiers take.
func keySet(text []byte) (map[string]jose.JSONWebKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("no key set: %w", err)
	}
	keys := map[string]jose.JSONWebKey{}
	for _, key := range set.Keys {
		if _, again := keys[key.KeyID]; again || key.KeyID == "" || !key.IsPublic() {
			return nil, fmt.Errorf("key %.100q has no ID, is there twice or is not public", key.KeyID)
		}
		keys[key.KeyID] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it holds no key")
	}
	return keys, nil
}

func same(a, b jose.JSONWebKey) bool {
	switch key := a.Key.(type) {
	case *rsa.PublicKey:
		return key.Equal(b.Key)
	case *ecdsa.PublicKey:
		return key.Equal(b.Key)
	}
	return false
}
