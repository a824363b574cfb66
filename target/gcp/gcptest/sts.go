package gcptest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Provider is how a pool's provider is set up; the zero value takes tokens of any issuer that can be verified, for the
// provider's own name.
type Provider struct {
	Disabled  bool
	Issuer    string        // its issuer URI; empty: any
	Audiences []string      // that it allows, in place of its own name
	Subjects  []string      // that its attribute condition lets in; nil: any
	Cut       bool          // the issuer's documents cannot be read
	Unknown   bool          // the issuer's keys are other ones than Google has read
	Ahead     time.Duration // of Google's clock when it looks at our tokens
	Mute      bool          // the IAM Service Account Credentials API is switched off
}

// Provide sets the provider up anew.
func (c *Cloud) Provide(p Provider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.provider = p
}

// grant is a refusal of a token of ours: what Google's documentation and public reports quote of such answers.
func grant(format string, args ...any) error {
	return refusal{http.StatusBadRequest, "invalid_grant", fmt.Sprintf(format, args...)}
}

// federate is sts.googleapis.com.
func (c *Cloud) federate(r *http.Request, _ map[string]any) (any, error) {
	if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" || r.PostFormValue("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" {
		return nil, refusal{http.StatusBadRequest, "invalid_request", "The exchange is not one."}
	}
	if r.PostFormValue("audience") != c.cfg.Provider || c.provider.Disabled {
		return nil, refusal{http.StatusBadRequest, "invalid_target", `The target service indicated by the "audience" parameters is invalid. This might either be because the pool or provider is disabled or deleted or because it doesn't exist.`}
	}
	subject, id, err := c.admit(r.PostFormValue("subject_token"))
	if err != nil {
		return nil, err
	}
	text := c.give(token{subject: subject, name: id, expires: c.cfg.Now().Add(time.Hour)})
	return map[string]any{"access_token": text, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3600}, nil
}

// admit takes a token of ours, or says what is against it.
func (c *Cloud) admit(token string) (subject, id string, err error) {
	var claims struct {
		Issuer   string `json:"iss"`
		Audience any    `json:"aud"` // one or several
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", "", grant("The token is not a JWT.")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return "", "", grant("The token is not a JWT.")
	}
	aud, _ := claims.Audience.(string)
	if several, ok := claims.Audience.([]any); ok && len(several) == 1 {
		aud, _ = several[0].(string)
	}
	now := c.cfg.Now().Add(c.provider.Ahead)
	audiences := c.provider.Audiences
	if audiences == nil {
		audiences = []string{"https:" + c.cfg.Provider, c.cfg.Provider}
	}
	switch {
	case c.provider.Issuer != "" && claims.Issuer != c.provider.Issuer:
		return "", "", grant("The issuer in ID Token %s does not match the expected ones: %s", claims.Issuer, c.provider.Issuer)
	case c.provider.Cut:
		return "", "", grant("Error connecting to the given credential's issuer.")
	case now.Unix() > claims.Expires || now.Add(time.Minute).Unix() < claims.Issued:
		return "", "", grant("ID Token issued at %d is stale to sign-in.", claims.Issued)
	case !slices.Contains(audiences, aud):
		return "", "", grant("The audience in ID Token [%s] does not match the expected audience %s.", aud, audiences[0])
	}
	if subject, id, err = c.cfg.Verify(token, aud); err != nil || c.provider.Unknown {
		return "", "", grant("Invalid JWT Signature: %v", err)
	}
	switch {
	case c.provider.Subjects != nil && !slices.Contains(c.provider.Subjects, subject):
		return "", "", refusal{http.StatusBadRequest, "unauthorized_client", "The given credential is rejected by the attribute condition."}
	case len(subject) > 127:
		return "", "", refusal{http.StatusBadRequest, "invalid_request", "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes."}
	}
	return subject, id, nil
}
