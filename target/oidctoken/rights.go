package oidctoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/daypass/daypass/target"
)

// Rights is the `oidc-token:` section of a role: what its tokens say.
type Rights struct {
	// Audience is whom the token is for: what the service expects in `aud`, such as sts.amazonaws.com or
	// api://AzureADTokenExchange. It is not our own URL.
	Audience string `yaml:"audience" json:"audience"`
	// Algorithm is RS256 or ES256; that of the issuer (in daypass.yaml) unless given. Entra takes RS256 only.
	Algorithm string `yaml:"algorithm" json:"algorithm,omitempty"`
	// Subject is `sub`; role:${role} unless given, so that however many workloads may have the role, the service knows
	// one subject. It may hold ${role}, ${lease}, ${issuer} (its name here), ${subject} (what that issuer said), ${run}
	// and ${claims.NAME}. All of their characters but letters, digits, `.`, `_` and `-` are written %XX, so that no
	// value can pass for another subject: it begins with text of its own that has a colon or slash in it, such as
	// repo: (and not daypass:, which is Daypass itself), and two values have such a character between them. A claim that is absent or empty is a refusal.
	Subject string `yaml:"subject" json:"subject,omitempty"`
	// Claims are further claims: text, whole numbers, booleans, lists and mappings of them. Text may hold the same
	// values as the subject: ${claims.NAME} alone is the value as it is, among other text it is written as in the subject.
	// Those that the issuer sets (iss, sub, aud, exp, nbf, iat, jti) and those that have a meaning for who holds the
	// token (act, may_act, cnf, nonce) cannot be named: `act` says who acts for the holder, where somebody does
	// (RFC 8693 §4.1). Under https://aws.amazon.com/tags stand AWS session tags.
	Claims map[string]any `yaml:"claims" json:"claims,omitempty"`
}

const (
	usualSubject = "role:${role}"
	maxSubject   = 255  // bytes; OpenID Connect Core §2
	maxAudience  = 1024 // bytes
	maxDepth     = 4    // of claims in claims
	maxClaims    = 4096 // bytes of all claims, without the values
)

// reserved lists the claims that a role cannot name.
func reserved() []string {
	return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "act", "may_act", "cnf", "nonce"}
}

// Validate returns every mistake, each a [target.FieldError].
func (r Rights) Validate() error {
	var errs []error
	if r.Audience == "" || len(r.Audience) > maxAudience || !isPlain(r.Audience) || strings.Contains(r.Audience, "${") {
		errs = append(errs, &target.FieldError{Path: "audience", Text: "a token is for one audience, which is written out", Help: "write what the service expects in `aud`"})
	}
	switch r.Algorithm {
	case "", "RS256", "ES256":
	default:
		errs = append(errs, target.Wrong("algorithm", "%q is not RS256 or ES256", r.Algorithm))
	}
	if err := checkSubject(r.subject()); err != nil {
		errs = append(errs, &target.FieldError{Path: "subject", Text: err.Error(), Help: "such as repo:${claims.repository}:ref:${claims.ref}"})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Claims)) {
		path := "claims." + name
		if slices.Contains(reserved(), name) {
			errs = append(errs, target.Wrong(path, "it is not a role's to set"))
			continue
		}
		if err := checkClaim(name, r.Claims[name], maxDepth); err != nil {
			errs = append(errs, target.Wrong(path, "%v", err))
		}
	}
	if text, err := json.Marshal(r.Claims); err != nil || len(text) > maxClaims {
		errs = append(errs, target.Wrong("claims", "they are more than %d bytes", maxClaims))
	}
	return errors.Join(errs...)
}

func (r Rights) subject() string {
	if r.Subject == "" {
		return usualSubject
	}
	return r.Subject
}

// checkSubject refuses a template that could give two holders one subject by accident of their claims, or one the
// subject of a role.
func checkSubject(text string) error {
	pieces, err := parse(text)
	if err != nil {
		return err
	}
	if len(pieces) == 0 || len(text) > maxSubject {
		return fmt.Errorf("a subject has 1 to %d bytes", maxSubject)
	}
	if strings.HasPrefix(text, "daypass:") {
		return errors.New("what begins with daypass: is Daypass itself to those who trust it")
	}
	apart := false // whether a character that no value holds stands before the next value
	for n, p := range pieces {
		if p.value == "" {
			if !isPlain(p.literal) {
				return errors.New("it has characters that cannot be seen")
			}
			apart = strings.ContainsFunc(p.literal, isMark)
			continue
		}
		if !apart {
			return fmt.Errorf("a colon or slash of its own must stand before ${%s}", p.value)
		}
		if n == 1 && strings.HasPrefix(pieces[0].literal, "role:") && (p.value != "role" || pieces[0].literal != "role:") {
			return errors.New("what begins with role: goes on with ${role}, so that nothing else passes for a role")
		}
		apart = false
	}
	return nil
}

// isMark reports whether a character never is in an escaped value, % aside.
func isMark(r rune) bool { return r != '%' && (r > 127 || !isUnreserved(byte(r))) }

func checkClaim(name string, value any, depth int) error {
	if name == "" || !isPlain(name) || strings.Contains(name, "${") {
		return fmt.Errorf("%q is not the name of a claim", name)
	}
	if depth == 0 {
		return fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	switch v := value.(type) {
	case string:
		_, err := parse(v)
		return err
	case map[string]any:
		for _, inner := range slices.Sorted(maps.Keys(v)) {
			if err := checkClaim(inner, v[inner], depth-1); err != nil {
				return fmt.Errorf("%s: %w", inner, err)
			}
		}
	case []any:
		for n, element := range v {
			if err := checkClaim(name, element, depth-1); err != nil {
				return fmt.Errorf("[%d]: %w", n, err)
			}
		}
	case json.Number:
		if _, err := v.Int64(); err != nil {
			return errors.New("it is no whole number")
		}
	case bool, int64:
	default:
		return errors.New("it is neither text, a whole number, a boolean nor made of them")
	}
	return nil
}

// readRights reads a role's section back from the form in which the configuration keeps it.
func readRights(text json.RawMessage) (rights Rights, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err = decoder.Decode(&rights); err == nil {
		_, err = decoder.Token()
		if errors.Is(err, io.EOF) {
			return rights, rights.Validate()
		}
	}
	return rights, errors.New("the rights are not those of a token")
}

// act is the claim of who act for a holder: RFC 8693 §4.1. Its names are values of their own, which are no part of
// another text, so that they stand as their issuers have them.
func act(actors []target.Actor) (claim map[string]any, err error) {
	for _, actor := range slices.Backward(actors) {
		if !isPlain(actor.IssuerURL) || !isPlain(actor.Subject) {
			return nil, refused("who acts for the workload has a name with characters that cannot be seen")
		}
		one := map[string]any{"iss": actor.IssuerURL}
		if actor.Subject != "" {
			one["sub"] = actor.Subject
		}
		if claim != nil {
			one["act"] = claim
		}
		claim = one
	}
	return claim, nil
}

// fill puts the holder's values into what a role says.
func (r Rights) fill(g target.Grant) (order Order, err error) {
	order = Order{Algorithm: r.Algorithm, Audience: r.Audience, TTL: g.TTL, Claims: make(map[string]any, len(r.Claims))}
	if order.Subject, err = fillSubject(r.subject(), g); err != nil {
		return order, err
	}
	if len(g.Holder.Actors) > 0 {
		if order.Claims["act"], err = act(g.Holder.Actors); err != nil {
			return order, err
		}
	}
	for name, value := range r.Claims {
		if order.Claims[name], err = fillClaim(value, g); err != nil {
			return order, err
		}
		if name == awsTags {
			if err := checkTags(order.Claims[name]); err != nil {
				return order, err
			}
		}
	}
	return order, nil
}
