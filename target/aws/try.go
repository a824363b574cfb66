package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/daypass/daypass/target"
)

// nothing is a session policy under which a session may do nothing at all.
const nothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

// try exchanges a token as the workloads of one of our roles have it, for a session that may do nothing and that nobody
// gets, and says what AWS has against it. An error says that AWS could not be asked.
func (s *Sessions) try(ctx context.Context, role, arn string) ([]target.Finding, error) {
	g := target.Grant{Lease: "check", Role: role, Holder: target.Holder{Issuer: "daypass", Subject: "check"}}
	token := Token{ID: s.name(g.Lease), Subject: "role:" + role, Audience: s.cfg.Settings.Aud(), TTL: tokenTTL, Claims: s.claims(g)}
	order := s.order(arn, g.Lease, s.sessionTime(0))
	order.Policy = sdk.String(nothing)
	_, err := s.assume(ctx, token, order)
	switch {
	case err == nil:
		return nil, nil
	case said(err) == "":
		return nil, err
	}
	if own, ok := errors.AsType[*answerError](err); ok {
		err = own // without what was wrapped around it
	}
	why, fix := s.explain(err, token, role, arn)
	return []target.Finding{{
		Severity: target.Problem, Role: role, Fix: fix,
		Message: fmt.Sprintf("a token of role %q (issuer %s, audience %s, subject %s) does not take %s: %s. AWS says %s", role, s.cfg.Issuer, token.Audience, token.Subject, arn, why, err),
	}}, nil
}

// refusal is a row of the table of what AWS has against a token.
type refusal struct {
	code, text string // of the answer: the code, and what its words have in common
	why, fix   string // with {issuer}, {audience}, {subject}, {role}, {arn}
}

// refusals are what AWS answers to a token; the first that fits counts. Some words are MinIO's, which speaks the protocol with
// words of its own.
func refusals() []refusal {
	return []refusal{
		{"InvalidIdentityToken", "No OpenIDConnect provider found",
			"the account has no identity provider for this issuer",
			"make one whose URL is {issuer} to the letter, without a slash at the end: daypass trust render aws {role}"},
		{"InvalidIdentityToken", "audience",
			"the identity provider does not list the audience",
			"add {audience} to its audiences (client IDs), or give the target the audience that it lists"},
		{"InvalidIdentityToken", "thumbprint",
			"the certificate of the issuer's URL is by an authority that AWS does not know, and the thumbprint is another's",
			"where a public authority signed it, no thumbprint is needed: leave it out; with one of your own, the thumbprint is that of the highest certificate which the server sends"},
		{"InvalidIdentityToken", "verification key",
			"AWS cannot read the keys of the issuer: thumbprints have nothing to do with it",
			"let {issuer}/.well-known/openid-configuration and the keys that it names be read from the whole internet over https: daypass issuer publish"},
		{"InvalidIdentityToken", "", "AWS does not find the key that signed it, or reads the token otherwise",
			"daypass trust check {role} compares the keys that are published; after a change AWS may take minutes"},
		{"IDPCommunicationError", "", "AWS could not reach the issuer now",
			"let {issuer} be read from the whole internet over https, and try again"},
		{"ExpiredTokenException", "", "to AWS the token is too old or of the future",
			"set the clock of the server that signs; AWS takes five minutes at most"},
		{"IDPRejectedClaim", "", "AWS does not accept what the token claims", "let the role's trust policy be what daypass trust render aws {role} prints"},
		{"AccessDenied", "TagSession", "the role does not let sessions have tags",
			"allow sts:TagSession in its trust policy beside sts:AssumeRoleWithWebIdentity: daypass trust render aws {role}"},
		{"AccessDenied", "SourceIdentity", "the role does not let sessions have a source identity",
			"allow sts:SetSourceIdentity in its trust policy: daypass trust render aws {role}"},
		{"AccessDenied", "", "there is no such role, or its trust policy does not name this issuer, audience and subject",
			"compare the role's ARN, and in its trust policy the provider and the conditions on aud ({audience}) and sub ({subject}): daypass trust render aws {role}"},
		{"ValidationError", "MaxSessionDuration", "the role does not allow sessions of 15 minutes", "raise its maximum session duration"},
		{"ValidationError", "", "the order is not as AWS wants it", "look at role_arn: {arn}"},
		{"PackedPolicyTooLarge", "", "session policies and tags are too large together", "shorten the session_policy of the role"},
		{"InvalidParameterValue", "OpenID Client ID", "its audience is not the one that the other side takes", "configure {audience} there as the client ID"},
		{"InvalidParameterValue", "public key", "the other side does not find the key that signed it",
			"daypass trust check {role} compares the keys that are published; see whether the other side reads {issuer}"},
		{"InvalidParameterValue", "RoleArn", "there is no such role", "compare role_arn with what the other side calls it"},
		{"RegionDisabledException", "", "STS is switched off in the region", "switch it on in the account's settings, or choose another region for the target"},
	}
}

// explain says why AWS refused, and what to do.
func (a *account) explain(err error, t Token, role, arn string) (why, fix string) {
	fill := strings.NewReplacer("{issuer}", a.cfg.Issuer, "{audience}", t.Audience, "{subject}", t.Subject, "{role}", role, "{arn}", arn)
	code, text := said(err), strings.ToLower(err.Error())
	for _, r := range refusals() {
		if r.code == code && strings.Contains(text, strings.ToLower(r.text)) {
			return r.why, fill.Replace(r.fix)
		}
	}
	return "it is refused", fill.Replace("compare issuer, audience and subject with what the other side trusts: daypass trust render aws {role}")
}
