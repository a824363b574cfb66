// Package oauth is the language of OAuth at our endpoints: how workloads ask in it, how they show that they hold a key,
// and how they are refused in it.
//
// It owns what a form may say ([Form]), what that asks for ([Request]), and what errors are called ([Refusal]). It
// promises that what two readers could read differently is refused, that a refusal names the rule which was broken and
// never quotes what was sent, and that each error has the code that its RFC gives it.
//
//	RFC 6749   the form, and the codes of refusals
//	RFC 6750   a token in a header                            RFC 9449   with the proof of its key
//	RFC 8693   tokens of others for ours                      RFC 7523   assertions as grants, and of clients
//	RFC 8707   a role by its URL                              RFC 9396   a role with a term and a reason
//
// It does nothing of what is asked for, and knows neither routes nor who stands there. It must not import the broker or
// the edge.
package oauth

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
)

// Types of tokens: RFC 8693 §3.
const (
	TypeAccess = "urn:ietf:params:oauth:token-type:access_token"
	TypeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	typeID     = "urn:ietf:params:oauth:token-type:id_token"
)

// Types of client assertions: RFC 7523 §2.2, and the draft of SPIFFE client authentication.
const (
	assertionJWT    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
)

// Request is what somebody asks of the token endpoint.
type Request struct {
	Parties admission.Parties
	Role    string // empty: an access token
	TTL     time.Duration
	Reason  string
	Wanted  string            // the type that the answer must have; empty: any
	Scope   string            // as it was given, to be said back
	Details []api.RoleDetails // by which the role was named, to be said back; nil where it was named otherwise
	Codes   Codes             // what refusals are called
}

// grant is one way to ask for a token.
type grant struct {
	parties func(Form, admission.Evidence) (admission.Parties, error)
	codes   Codes
}

func grants() map[string]grant {
	return map[string]grant{
		issuer.GrantExchange:          {exchange, Codes{InvalidRequest, InvalidRequest}},
		issuer.GrantJWTBearer:         {assertion, Codes{InvalidGrant, InvalidGrant}},
		issuer.GrantClientCredentials: {client, Codes{InvalidClient, "unauthorized_client"}},
	}
}

// Read reads a request at a server that has a URL, from a form, the headers that came with it, and what shows that its
// sender holds a key.
func Read(f Form, h http.Header, shown admission.Evidence, ours string) (r Request, err error) {
	if err := refuseSecrets(f, h); err != nil {
		return r, err
	}
	g, ok := grants()[f.Text("grant_type")]
	if !ok {
		if !f.Has("grant_type") {
			return r, bad("grant_type is missing (RFC 6749 §4.5)")
		}
		return r, &Refusal{Code: UnsupportedGrant, Text: "the grant types are token-exchange, jwt-bearer and client_credentials (RFC 6749 §5.2)"}
	}
	w, err := f.wish(ours)
	if err != nil {
		return r, err
	}
	r = Request{Role: w.Role, Reason: w.Reason, Wanted: f.Text("requested_token_type"), Scope: w.scope, Codes: g.codes}
	if w.TTL != nil {
		r.TTL = time.Duration(*w.TTL)
	}
	if w.Role != "" {
		r.Codes.Denied = w.refusal
	}
	if w.refusal == InvalidDetails {
		r.Details = []api.RoleDetails{w.RoleDetails}
	}
	if r.Parties, err = g.parties(f, shown); err != nil {
		return r, err
	}
	if f.Text("grant_type") == issuer.GrantExchange && w.Role == "" && r.Wanted != "" && r.Wanted != TypeAccess {
		return r, bad("without a role the token is of type access_token (RFC 8693 §2.1)")
	}
	return r, nil
}

// refuseSecrets refuses clients that authenticate by what they have to keep: there are none.
func refuseSecrets(f Form, h http.Header) error {
	text := "clients here have no secrets: they show tokens that their platform gives them (RFC 7523 §2.2)"
	if scheme, _, ok := strings.Cut(h.Get("Authorization"), " "); ok || h.Get("Authorization") != "" {
		if !strings.EqualFold(scheme, "Basic") {
			scheme = accesstoken.SchemeBearer
		}
		return &Refusal{Code: InvalidClient, Text: text, Scheme: scheme}
	}
	if f.Has("client_secret") {
		return &Refusal{Code: InvalidClient, Text: text}
	}
	return nil
}

// exchange reads the parties of a token exchange: RFC 8693 §2.1.
func exchange(f Form, shown admission.Evidence) (parties admission.Parties, err error) {
	if f.Has("client_assertion") {
		return parties, bad("client_assertion goes with grant_type=client_credentials: of a token exchange the tokens say who asks")
	}
	parties.Subject = shown
	if parties.Subject.Token, err = f.typedToken("subject_token"); err != nil {
		return parties, err
	}
	if f.Has("actor_token") || f.Has("actor_token_type") {
		if parties.Actor, err = f.typedToken("actor_token"); err != nil {
			return parties, err
		}
	}
	wanted := f.Text("requested_token_type")
	if wanted != "" && !slices.Contains([]string{TypeAccess, TypeJWT, api.TokenLease}, wanted) {
		return parties, bad("tokens are issued of the types access_token, jwt and " + api.TokenLease + " (RFC 8693 §2.1)")
	}
	return parties, nil
}

// typedToken reads a token that comes with its type.
func (f Form) typedToken(name string) (secret.Text, error) {
	text, err := f.Token(name)
	if err != nil {
		return text, err
	}
	if !slices.Contains([]string{TypeJWT, typeID, TypeAccess, api.TokenEvidence}, f.Text(name+"_type")) {
		return text, bad(name + "_type is one of jwt, id_token and access_token (RFC 8693 §3), or " + api.TokenEvidence)
	}
	return text, nil
}

// assertion reads an assertion as grant: RFC 7523 §2.1.
func assertion(f Form, shown admission.Evidence) (parties admission.Parties, err error) {
	parties.Subject = shown
	parties.Subject.Token, err = f.Token("assertion")
	return parties, err
}

// client reads a client that authenticates itself, by an assertion or by its certificate.
func client(f Form, shown admission.Evidence) (parties admission.Parties, err error) {
	parties.Subject, parties.Client = shown, f.Text("client_id")
	if !f.Has("client_assertion") && !f.Has("client_assertion_type") {
		if len(shown.Chain) == 0 {
			return parties, &Refusal{Code: InvalidClient, Text: "send a client_assertion (RFC 7523 §2.2), or come with a client certificate that an issuer here accepts (RFC 8705 §2)"}
		}
		return parties, nil
	}
	switch f.Text("client_assertion_type") {
	case assertionJWT:
	case assertionSPIFFE:
		parties.Prefix = "spiffe://"
	default:
		return parties, &Refusal{Code: InvalidClient, Text: "client_assertion_type is jwt-bearer (RFC 7523 §2.2) or jwt-spiffe"}
	}
	parties.Subject.Token, err = f.Token("client_assertion")
	return parties, err
}
