package gcp

import (
	"context"
	"encoding/json"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// A trial asks for a token of the account that can tell the account's own address and nothing else, for a minute: Google names
// no shortest life. It is dropped, and so is the federated token before it, which lives for an hour at most, stands for our
// subject, and may do what the pool's trust gives that subject: with what is rendered, impersonate the account.
const (
	tryScope = "https://www.googleapis.com/auth/userinfo.email"
	tryLife  = time.Minute
)

func (t tokens) Try(ctx context.Context, ours secret.Text, text json.RawMessage) (string, error) {
	rights, err := cloud.ReadRights[Rights](text)
	if err != nil {
		return "", err
	}
	if rights.PerLease {
		return "", errNoManage()
	}
	_, err = t.enter(ctx, ours, rights.ServiceAccount, []string{tryScope}, tryLife)
	return rights.ServiceAccount, err
}

// tryManager says whether Google takes the manager's token.
func (g *google) tryManager(ctx context.Context, role string) ([]target.Finding, error) {
	of := cloud.Trial{Example: role, Subject: cloud.ManagerSubject(g.cfg.Name), Audience: g.settings.Audience(), Becomes: g.settings.Manage.ServiceAccount}
	ours, err := g.cfg.SignManager(ctx, of.Audience)
	if err != nil {
		return nil, err
	}
	_, err = g.enter(ctx, ours, of.Becomes, []string{tryScope}, tryLife)
	return g.cfg.Explain(answers(), of, err)
}

func (tokens) Answers() cloud.Answers { return answers() }

// answers are Google's, of its Security Token Service and its IAM Service Account Credentials API, whose codes are in capitals.
// Documented: cloud.google.com/iam/docs/troubleshooting-workload-identity-federation, and the codes in RFC 8693 and RFC 6749.
// No document has all the words: some are from public reports, such as issues 242, 334, 378 and 526 of
// google-github-actions/auth; those of audience, issuer, clock and keys are from memory. An answer that no row knows is shown as it
// is. Not verified against the real services.
func answers() cloud.Answers {
	const trust = ": daypass trust render gcp {role}"
	return cloud.Answers{Who: "Google", Table: []cloud.Refusal{
		{Code: "invalid_target", Why: "there is no such pool or provider, or it is disabled or deleted",
			Fix: "compare provider of the target, and see what gcloud iam workload-identity-pools providers describe says of its state; make it" + trust},
		{Code: "invalid_request", Text: "audience", Why: "provider of the target is not the full name of a provider",
			Fix: "provider: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER, with the project's number"},
		{Text: "attribute condition", Why: "the provider's attribute condition does not let the subject in",
			Fix: "let the condition have assertion.sub == '{subject}'" + trust},
		{Text: "mapped attribute", Why: "the provider's attribute mapping does not make a subject of ours that Google takes",
			Fix: "map google.subject=assertion.sub; Google takes 127 bytes, and {subject} is the role's name" + trust},
		{Code: "invalid_grant", Text: "connecting to", Why: "Google cannot read the keys of the issuer",
			Fix: "let {issuer}/.well-known/openid-configuration and the keys that it names be read from the whole internet over https (daypass issuer publish), or give the provider the keys: --jwk-json-path, anew with each rotation"},
		{Code: "invalid_grant", Text: "audience", Why: "the provider does not list the audience",
			Fix: "add {audience} to its allowed audiences, or leave them out" + trust},
		{Code: "invalid_grant", Text: "issuer", Why: "the provider trusts another issuer",
			Fix: "its issuer URI is {issuer} to the letter, without a slash at the end" + trust},
		{Code: "invalid_grant", Text: "stale", Why: "to Google the token is too old or of the future", Fix: clock},
		{Code: "invalid_grant", Text: "expired", Why: "to Google the token is too old or of the future", Fix: clock},
		{Code: "invalid_grant", Text: "issued at", Why: "to Google the token is too old or of the future", Fix: clock},
		{Code: "invalid_grant", Text: "sign", Why: "Google does not find the key that signed it", Fix: keys},
		{Code: "invalid_grant", Text: "key", Why: "Google does not find the key that signed it", Fix: keys},
		{Code: "invalid_grant", Why: "Google does not accept the token", Fix: "compare issuer, audience and subject with the provider" + trust},
		{Code: "unauthorized_client", Why: "the provider does not let the subject in", Fix: "compare its attribute mapping and condition" + trust},
		{Code: "PERMISSION_DENIED", Text: "has not been used", Why: "the IAM Service Account Credentials API is switched off in the project",
			Fix: "gcloud services enable iamcredentials.googleapis.com --project PROJECT"},
		{Code: "PERMISSION_DENIED", Why: "the subject may not impersonate the account (iam.serviceAccounts.getAccessToken), or there is no such account, or it is disabled",
			Fix: "give the pool's principal …/subject/{subject} roles/iam.workloadIdentityUser on {becomes}" + trust + "; such a change may take minutes to count"},
		{Code: "NOT_FOUND", Why: "there is no such account", Fix: "compare service_account: {becomes}"},
		{Code: "FAILED_PRECONDITION", Why: "the account is disabled, or a policy of the organisation is against it", Fix: "gcloud iam service-accounts describe {becomes}"},
		{Code: "UNAUTHENTICATED", Why: "Google gave a token for it and does not take that", Fix: "try again, and compare sts and iam_credentials of the target: they are of one Google"},
		{Why: "it is refused", Fix: "compare issuer, audience and subject with what Google trusts" + trust},
	}}
}

const (
	clock = "set the clock of the server that signs: daypass trust check compares clocks"
	keys  = "daypass trust check {role} compares the keys that are published; Google keeps what it has read for a while, and of a provider with uploaded keys (--jwk-json-path) until they are replaced"
)
