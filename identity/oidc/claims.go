package oidc

import (
	"encoding/json"
	"math"
	"time"
	"unicode"

	"github.com/daypass/daypass/identity"
)

const (
	maxSubject = 255             // bytes; identity.Principal promises it
	lastSecond = 253_402_300_799 // the end of the year 9999, the last that RFC 3339 can write
)

// parseClaims reads a payload.
func parseClaims(payload []byte) (map[string]any, error) {
	claims, err := parseObject(payload, 32)
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "the payload is not a JSON object that all readers agree on")
	}
	return claims, nil
}

// principal holds verified claims to what we demand, and names who they speak for.
func (v *Verifier) principal(claims map[string]any) (identity.Principal, error) {
	p := identity.Principal{Issuer: v.cfg.Name, IssuerURL: v.cfg.URL, Claims: claims}
	if err := v.belongs(claims); err != nil {
		return p, err
	}
	if err := checkKind(claims); err != nil {
		return p, err
	}
	if err := checkAudience(claims["aud"], v.cfg.Audience); err != nil {
		return p, err
	}
	var err error
	if p.IssuedAt, p.ExpiresAt, err = v.window.check(claims, v.cfg.Now()); err != nil {
		return p, err
	}
	if p.Subject, err = checkSubject(claims["sub"]); err != nil {
		return p, err
	}
	if id, present := claims["jti"]; present {
		var ok bool
		if p.TokenID, ok = id.(string); !ok {
			return p, identity.Reject(WhyMalformed, "the token ID is not a text")
		}
	}
	if p.Claims, err = identity.Flatten(claims, v.cfg.Flatten); err != nil {
		return p, identity.Reject(WhyMalformed, "a claim has the name of one that is nested")
	}
	return p, nil
}

// belongs refuses claims of other issuers.
func (v *Verifier) belongs(claims map[string]any) error {
	if v.cfg.Belongs != nil {
		if err := v.cfg.Belongs(claims); err != nil {
			return identity.Reject(WhyIssuer, "%v", err)
		}
		return nil
	}
	if issuer, _ := claims["iss"].(string); issuer != v.cfg.URL {
		return identity.Reject(WhyIssuer, "it was issued by %s, not %s", identity.Quote(issuer), identity.Quote(v.cfg.URL))
	}
	return nil
}

// checkKind refuses tokens that the issuer signed for something else than to say who the bearer is.
func checkKind(claims map[string]any) error {
	if _, ok := claims["events"].(map[string]any); ok {
		return identity.Reject(WhyType, "it is a security event (RFC 8417)")
	}
	if _, ok := claims["cnf"]; ok {
		// Taking it as a bearer token would undo its binding to a key (RFC 7800).
		return identity.Reject(WhyType, "it is bound to a key whose proof this verifier does not ask for")
	}
	return nil
}

// checkAudience accepts our audience alone. A token that is meant for others too can be replayed by them.
func checkAudience(aud any, ours string) error {
	if list, ok := aud.([]any); ok && len(list) == 1 {
		aud = list[0]
	}
	switch got := aud.(type) {
	case string:
		if got == ours {
			return nil
		}
		return identity.Reject(WhyAudience, "its audience is %s, not %s", identity.Quote(got), identity.Quote(ours))
	case []any:
		return identity.Reject(WhyAudience, "it has %d audiences, not %s alone", len(got), identity.Quote(ours))
	}
	return identity.Reject(WhyAudience, "it has no audience")
}

// checkSubject refuses what a log, a terminal or a person could take for another subject.
func checkSubject(sub any) (string, error) {
	subject, ok := sub.(string)
	if !ok || subject == "" {
		return "", identity.Reject(WhySubject, "it has no subject")
	}
	if len(subject) > maxSubject {
		return "", identity.Reject(WhySubject, "its subject has more than %d bytes", maxSubject)
	}
	for _, r := range subject {
		// Cf holds the bidirectional controls, and other characters that nobody sees.
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return "", identity.Reject(WhySubject, "its subject holds the control character %U", r)
		}
	}
	return subject, nil
}

// window is when tokens are good.
type window struct{ maxAge, maxLife, leeway time.Duration }

// check returns `iat` and `exp`, which must be there; `nbf` is honoured where it is.
func (w window) check(claims map[string]any, now time.Time) (issued, expires time.Time, err error) {
	issued, okIssued := numericDate(claims["iat"])
	expires, okExpires := numericDate(claims["exp"])
	if !okIssued || !okExpires {
		return issued, expires, identity.Reject(WhyMalformed, "iat or exp is missing or no time")
	}
	if nbf, present := claims["nbf"]; present {
		from, ok := numericDate(nbf)
		if !ok {
			return issued, expires, identity.Reject(WhyMalformed, "nbf is no time")
		}
		if now.Add(w.leeway).Before(from) {
			return issued, expires, identity.Reject(WhyEarly, "it is not valid before %s", utc(from))
		}
	}
	switch {
	case !now.Add(-w.leeway).Before(expires):
		err = identity.Reject(WhyExpired, "it expired at %s", utc(expires))
	case now.Add(w.leeway).Before(issued):
		err = identity.Reject(WhyEarly, "it was issued in the future, at %s", utc(issued))
	case !issued.Before(expires):
		err = identity.Reject(WhyMalformed, "it expires before it was issued")
	case now.Sub(issued) > w.maxAge+w.leeway:
		err = identity.Reject(WhyAge, "it was issued more than %v ago", w.maxAge)
	case expires.Sub(issued) > w.maxLife:
		err = identity.Reject(WhyAge, "it is meant to live longer than %v", w.maxLife)
	}
	return issued, expires, err
}

// numericDate reads seconds since 1970 (RFC 7519 §2), which may have a fraction: some issuers write one.
func numericDate(value any) (time.Time, bool) {
	switch n := value.(type) {
	case int64:
		return time.Unix(n, 0).UTC(), n > 0 && n <= lastSecond
	case json.Number:
		f, err := n.Float64()
		if err != nil || f <= 0 || f > lastSecond {
			return time.Time{}, false
		}
		whole, fraction := math.Modf(f)
		return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
	}
	return time.Time{}, false
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
