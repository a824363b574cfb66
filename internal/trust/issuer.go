package trust

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

// longest is how long a lease may live without a finding.
const longest = 12 * time.Hour

// others are audiences that tokens have for somebody else.
func others() []string {
	return []string{
		"sts.amazonaws.com", "api://AzureADTokenExchange", "aws.workload.identity", "vault", "kubernetes", "https://kubernetes.default.svc",
		"https://kubernetes.default.svc.cluster.local", "sigstore", "account", "https://iam.googleapis.com", "pypi", "npm:registry.npmjs.org",
	}
}

// place adds a finding of a YAML document.
func (l *linter) place(rule string, severity Severity, at source.Place, why, fix string) {
	l.found = append(l.found, Finding{Rule: rule, Severity: severity, Place: at, Why: why, Fix: fix})
}

// issuers looks at the issuers.
func (l *linter) issuers() {
	for _, issuer := range slices.SortedFunc(maps.Values(l.config.Issuers), func(a, b access.Issuer) int { return cmp.Compare(a.Name, b.Name) }) {
		preset, _ := access.VocabularyOf(issuer)
		if issuer.Kind == access.KindOIDC && issuer.Preset == "" && len(issuer.Claims) == 0 {
			l.place("undeclared-claims", Note, issuer.Place, fmt.Sprintf("issuer %q declares no claims: policies see the subject alone", issuer.Name), "add `claims: {team: string, …}` with what its tokens hold")
		}
		l.audience(issuer, preset)
	}
}

// audience looks at whom an issuer's tokens are for. One that is not given is the server's own URL, which is right.
func (l *linter) audience(issuer access.Issuer, preset access.Preset) {
	audience := audienceOf(issuer)
	switch {
	case audience == "":
	case preset.Kind == "" && preset.Name != "" && !preset.Audience.Ours:
		l.place("shared-audience", Note, issuer.Place,
			fmt.Sprintf("tokens of issuer %q are for %s, as all of %s are: each who is given one can use it here", issuer.Name, audience, preset.Title),
			"where the platform lets you, ask for tokens that are for this server")
	case slices.Contains(others(), audience) || audience == issuer.URL || strings.HasPrefix(audience, "https://github.com/") || strings.HasPrefix(audience, "https://buildkite.com/"):
		l.place("shared-audience", Warning, issuer.Place,
			fmt.Sprintf("tokens of issuer %q are for %s: each who is given one can use it here", issuer.Name, audience),
			"remove `audience`, and ask for tokens that are for this server: "+cmp.Or(preset.Audience.How, "its URL"))
	case issuer.Kind == access.KindOIDC && issuer.Preset == "" && strings.HasPrefix(audience, "api://"):
		l.place("shared-audience", Warning, issuer.Place,
			fmt.Sprintf("tokens of issuer %q are for %s, the name of an API: each who is given one for it can use it here", issuer.Name, audience),
			"remove `audience`, and ask for tokens that are for this server: its URL")
	}
}

// claimIn finds the claims of the requester in a subject.
func claimIn(subject string) (names []string) {
	for _, part := range strings.Split(subject, "${claims.")[1:] {
		if name, _, closed := strings.Cut(part, "}"); closed {
			names = append(names, name)
		}
	}
	return names
}

// outgoing looks at the subject of a role's tokens, which other sides trust as it is.
func (l *linter) outgoing(role access.Role) {
	var rights struct {
		Subject string `json:"subject"`
	}
	if json.Unmarshal(role.Rights, &rights) != nil {
		return // its subject is not a text: it is of a kind that has none
	}
	for _, name := range claimIn(rights.Subject) {
		for _, issuer := range slices.SortedFunc(maps.Values(l.config.Issuers), func(a, b access.Issuer) int { return cmp.Compare(a.Name, b.Name) }) {
			preset, _ := access.VocabularyOf(issuer)
			claim, known := preset.Claim(name)
			why, fix := "", "use a claim that never changes"
			switch {
			case !known || rights.Subject == "":
			case claim.Nature == access.Chosen:
				why = "which whoever starts the run chooses"
			case claim.Nature == access.Mutable && claim.Partner != "":
				why, fix = "which can be renamed, and the name taken by somebody else", fmt.Sprintf("write ${claims.%s}", claim.Partner)
			}
			if why != "" {
				l.place("outgoing-subject", Warning, role.Place, fmt.Sprintf("the subject of role %q holds %s, %s (issuer %q)", role.Name, name, why, issuer.Name), fix)
				break
			}
		}
	}
}

// audienceOf is what an issuer's section says of `aud`, for kinds whose tokens have one.
func audienceOf(issuer access.Issuer) string {
	if issuer.Kind == access.KindOIDC {
		return issuer.OIDC.Audience
	}
	var settings struct {
		Audience string `json:"audience"`
	}
	_ = json.Unmarshal(issuer.Settings, &settings) // what a kind wrote itself; one without a section has no audience
	return settings.Audience
}

// roles looks at the roles.
func (l *linter) roles() {
	for _, role := range slices.SortedFunc(maps.Values(l.config.Roles), func(a, b access.Role) int { return cmp.Compare(a.Name, b.Name) }) {
		if role.TTL.Max > longest {
			l.place("long-lease", Warning, role.Place, fmt.Sprintf("leases of role %q may live %s", role.Name, api.Duration(role.TTL.Max)), "write `ttl: {default: 15m, max: 1h}`: `daypass run` renews while it runs")
		}
		l.outliving(role)
		l.outgoing(role)
	}
}
