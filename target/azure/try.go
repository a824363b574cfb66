package azure

import (
	"context"
	"encoding/json"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/cloud"
)

// Try asks for a token as a workload of the role has it, and drops it. Entra gives none that lives shorter or may do less: until
// it has expired there is one that nobody has.
func (t tokens) Try(ctx context.Context, ours secret.Text, text json.RawMessage) (string, error) {
	rights, err := cloud.ReadRights[Rights](text)
	if err != nil {
		return "", err
	}
	if rights.PerLease {
		return "", errNoManage()
	}
	_, err = t.assert(ctx, ours, rights.ClientID, rights.resource())
	return "application " + rights.ClientID, err
}

// tryManager says whether Entra takes the manager's token, for a resource.
func (e *entra) tryManager(ctx context.Context, role, scope string) ([]target.Finding, error) {
	of := cloud.Trial{Example: role, Subject: cloud.ManagerSubject(e.cfg.Name), Audience: Audience, Becomes: "application " + e.settings.Manage.ClientID}
	_, err := e.borrow(scope)(ctx)
	return e.cfg.Explain(answers(), of, err)
}

func (tokens) Answers() cloud.Answers { return answers() }

// answers are Entra's. Its codes stand in the text: learn.microsoft.com/entra/identity-platform/reference-error-codes, where
// Microsoft says that they may change; those of federated credentials in learn.microsoft.com/entra/workload-id/workload-identity-federation,
// azure.github.io/azure-workload-identity/docs/troubleshooting.html and public reports, such as issues 283 and 515 of Azure/login
// and 1232 of Azure/azure-workload-identity. Not verified against the real service.
func answers() cloud.Answers {
	const (
		trust = ": daypass trust render azure {role}"
		keys  = "daypass trust check {role} compares the keys that are published; Entra keeps what it has read for a while: after a change wait, and try again"
		reach = "let {issuer}/.well-known/openid-configuration and the keys that it names be read from the whole internet over https: daypass issuer publish"
		scope = "compare scope of the role: the resource's application ID URI as the tenant has it, with /.default at its end"
	)
	return cloud.Answers{Who: "Entra", Table: []cloud.Refusal{
		{Text: "AADSTS700211:", Why: "no federated credential of the application has the issuer", Fix: "its issuer is {issuer} to the letter, without a slash at the end" + trust},
		{Text: "AADSTS700212:", Why: "no federated credential of the application has the audience", Fix: "its audience is {audience}" + trust},
		{Text: "AADSTS7002138:", Why: "a federated credential has the subject in other capitals", Fix: "its subject is {subject}, byte by byte" + trust},
		{Text: "AADSTS700213", Why: "no federated credential of the application has the subject", Fix: "its subject is {subject}, byte by byte" + trust + "; a new one takes Entra minutes to know"},
		{Text: "AADSTS70021:", Why: "no federated credential of the application has issuer, subject and audience", Fix: "make one" + trust + "; a new one takes Entra minutes to know"},
		{Text: "AADSTS90002:", Why: "there is no such tenant", Fix: "compare tenant of the target: the directory (tenant) ID, in the cloud of authority"},
		{Text: "AADSTS700016:", Why: "there is no such application in the tenant", Fix: "compare client_id and tenant: {becomes}"},
		{Text: "AADSTS7000229:", Why: "the application has no service principal in the tenant", Fix: "az ad sp create --id, for {becomes}"},
		{Text: "AADSTS7000112:", Why: "the application is disabled", Fix: "enable {becomes} under Enterprise applications"},
		{Text: "AADSTS500011:", Why: "the tenant does not know the resource that the token is for", Fix: scope},
		{Text: "AADSTS70011:", Why: "what the token is for is not one", Fix: scope},
		{Text: "AADSTS1002012:", Why: "what the token is for is not one", Fix: scope},
		{Text: "AADSTS700024:", Why: "to Entra the token is too old or of the future", Fix: "set the clock of the server that signs: daypass trust check compares clocks"},
		{Text: "AADSTS7000272:", Why: "Entra does not find the key that signed it among those of the issuer", Fix: keys},
		{Text: "AADSTS700027:", Why: "Entra does not find the key that signed it, or the signature is not of it", Fix: keys},
		{Text: "AADSTS50013:", Why: "Entra does not find the key that signed it, or the signature is not of it", Fix: keys},
		{Text: "AADSTS501661:", Why: "Entra cannot read the documents of the issuer", Fix: reach},
		{Text: "AADSTS50166:", Why: "Entra cannot read the documents of the issuer", Fix: reach},
		{Text: "AADSTS90061:", Why: "Entra cannot read the documents of the issuer", Fix: reach},
		{Text: "AADSTS50027:", Why: "Entra cannot read the token", Fix: "daypass trust check {role} compares what is published; Entra takes RS256 alone"},
		{Text: "AADSTS53003:", Why: "Conditional Access of the tenant blocks it", Fix: "let its policy for workload identities allow {becomes} from where the server is"},
		{Why: "it is refused", Fix: "compare issuer, audience and subject with the application's federated credentials" + trust},
	}}
}
