package trust_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/trust"
)

// issuers are one of each that matters here.
const issuers = `
kind: Issuer
name: github
preset: github-actions
---
kind: Issuer
name: gitlab
preset: gitlab
---
kind: Issuer
name: builds
preset: buildkite
---
kind: Issuer
name: server
preset: gitlab
oidc: {url: https://gitlab.acme.example}
---
kind: Issuer
name: gcp
preset: google
---
kind: Issuer
name: circle
preset: circleci
oidc: {url: https://oidc.circleci.com/org/c9035eb6-6eb2-4c85-8a81-d9ed6a1d1d1e}
---
kind: Issuer
name: corp
oidc: {url: https://id.acme.example}
claims: {team: string}
---
kind: Target
name: t
fake: {}
---
kind: Role
name: r
target: t
labels: {repository: acme/orders}
fake: {}
`

func kinds() access.Kinds {
	read := func(s access.Section) (any, error) {
		var given struct {
			Subject string `yaml:"subject" json:"subject,omitempty"`
		}
		return &given, s.Decode(&given)
	}
	return access.Kinds{Targets: map[string]access.Kind{"fake": {Settings: read, Rights: read}}, Issuers: map[string]access.IssuerKind{
		"kubernetes": {Vocabulary: "kubernetes", Settings: func(s access.Section) (any, error) {
			var c cluster
			return &c, s.Decode(&c)
		}},
		"devices": {Vocabulary: "devices", Settings: func(access.Section) (any, error) { return &cluster{Address: "urn:devices"}, nil }},
	}}
}

// cluster is what an issuer of the kind kubernetes says.
type cluster struct {
	Address  string `yaml:"url" json:"url"`
	Audience string `yaml:"audience" json:"audience"`
}

func (c *cluster) URL(string) string { return c.Address }

func lint(t *testing.T, files access.Files) []trust.Finding {
	t.Helper()
	cfg, err := access.Parse(files, kinds())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Compile(cfg, nil); err != nil {
		t.Fatal(err)
	}
	found, err := trust.Lint(cfg, files)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// rules returns the findings as "rule" and "rule!" where strangers can pass, without those that are accepted.
func rules(found []trust.Finding) []string {
	var names []string
	for _, f := range found {
		if f.Accepted != "" {
			continue
		}
		mark := map[trust.Severity]string{trust.Problem: "!", trust.Note: "?"}[f.Severity]
		names = append(names, f.Rule+mark)
	}
	slices.Sort(names)
	return names
}

func github(conditions string) string {
	return `permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"r") ` + conditions + ";"
}

const (
	repository = `principal.claims.repository == "acme/orders"`
	id         = `principal.claims.repository_id == "74"`
	main       = `principal.claims.ref == "refs/heads/main"`
	push       = `principal.claims.event_name == "push"`
)

func when(conditions ...string) string {
	return github("when { " + strings.Join(conditions, " && ") + " }")
}

func TestPermitsThatAreWiderThanTheyNeedBeAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		want   string
	}{
		"a whole condition":                          {when(repository, id, main, push), ""},
		"in another order, and turned round":         {when(push, `"refs/heads/main" == principal.claims.ref`, id), ""},
		"nobody named":                               {`permit (principal, action, resource);`, "any-principal! unconditional?"},
		"nobody named, at an hour":                   {`permit (principal, action, resource) when { context.now > datetime("2026-01-01") };`, "any-principal!"},
		"all of GitHub":                              {github(""), "any-tenant! unconditional?"},
		"all of GitHub on main":                      {when(main), "any-tenant!"},
		"all of GitHub from one address":             {when(`context.source_ip.isLoopback()`), "any-tenant!"},
		"all but one repository":                     {when(`principal.claims.repository != "evil/x"`), "any-tenant!"},
		"an organisation":                            {when(`principal.claims.repository_owner == "acme"`, main, push), "mutable-claim organisation-wide"},
		"an organisation by its ID":                  {when(`principal.claims.repository_owner_id == "65"`, main, push), "organisation-wide"},
		"an organisation by pattern":                 {when(`principal.claims.repository like "acme/*"`, main, push), "mutable-claim organisation-wide"},
		"a pattern that others' names fit":           {when(`principal.claims.repository like "acme*"`, main, push), "any-tenant! mutable-claim"},
		"a pattern of the repository alone":          {when(`principal.claims.repository like "*/orders"`, main, push), "any-tenant! mutable-claim"},
		"a pattern without a wildcard":               {when(`principal.claims.repository like "acme/orders"`, id, main, push), ""},
		"a subject of an organisation":               {when(`principal.subject like "repo:acme/*"`), "mutable-claim organisation-wide pull-request"},
		"a subject that others' names fit":           {when(`principal.subject like "repo:acme*"`), "any-tenant!"},
		"a subject of a repository":                  {when(`principal.subject like "repo:acme/orders:*"`, id), "pull-request"},
		"a subject of repositories that begin so":    {when(`principal.subject like "repo:acme/orders*"`), "mutable-claim organisation-wide pull-request"},
		"a subject of a branch":                      {when(`principal.subject == "repo:acme/orders:ref:refs/heads/main"`, push, id), ""},
		"a subject of a branch, without the ID":      {when(`principal.subject == "repo:acme/orders:ref:refs/heads/main"`, push), "mutable-claim"},
		"a subject of a branch with IDs":             {when(`principal.subject == "repo:acme@65/orders@74:ref:refs/heads/main"`, push), ""},
		"a subject of an environment":                {when(`principal.subject == "repo:acme/orders:environment:prod"`, id), ""},
		"a subject of pull requests":                 {when(`principal.subject == "repo:acme/orders:pull_request"`, id), "pull-request!"},
		"one principal":                              {`permit (principal == GitHub::Workload::"github:repo:acme@65/orders@74:environment:prod", action, resource);`, "unconditional?"},
		"no ID":                                      {when(repository, main, push), "mutable-claim"},
		"the owner's ID is not the repository's":     {when(repository, `principal.claims.repository_owner_id == "65"`, main, push), "mutable-claim"},
		"no branch":                                  {when(repository, id), "pull-request"},
		"any ref":                                    {when(repository, id, `principal.claims.ref like "refs/*"`), "pull-request"},
		"any branch that somebody pushes":            {when(repository, id, `principal.claims.ref like "refs/heads/*"`, push), ""},
		"a branch whatever started the run":          {when(repository, id, main), "stranger-event?"},
		"a branch, not for one event":                {when(repository, id, main, `principal.claims.event_name != "pull_request_target"`), "stranger-event?"},
		"pull requests by name":                      {when(repository, id, `["push", "pull_request_target"].contains(principal.claims.event_name)`), "pull-request!"},
		"a pull request's ref by name":               {when(repository, id, `principal.claims.ref == "refs/pull/1/merge"`), "pull-request"},
		"an environment":                             {when(repository, id, `principal.claims has environment`, `principal.claims.environment == "prod"`), ""},
		"a name that the run chooses":                {when(repository, id, main, push, `principal.claims.head_ref == "release"`), "chosen-claim"},
		"machines of one's own":                      {when(repository, id, main, push, `principal.claims.runner_environment == "self-hosted"`), "self-hosted-runner"},
		"either of two, both whole":                  {when("("+repository+" && "+id+` || principal.claims.repository_id == "75")`, main, push), ""},
		"either of two, one open":                    {when("("+repository+" && "+id+` || context.source_ip.isLoopback())`, main, push), "any-tenant!"},
		"if and else":                                {when(id, "(if "+push+" then "+main+` else principal.claims.ref == "refs/heads/next")`), "stranger-event?"},
		"unless on another branch":                   {github(`when { ` + id + ` && ` + push + ` } unless { principal.claims.ref != "refs/heads/main" }`), ""},
		"unless in an organisation":                  {github(`unless { principal.claims.repository_owner_id == "65" }`), "any-tenant!"},
		"what cannot be read":                        {when(`principal.claims.repository == principal.claims.workflow`), "any-tenant!"},
		"the role's label":                           {when(`resource.labels has repository`, `principal.claims.repository == resource.labels.repository`, id, main, push), ""},
		"false":                                      {github("when { false }"), ""},
		"one workload by the scope alone":            {`permit (principal == Workload::"corp:svc", action == Action::"acquire", resource);`, "unconditional?"},
		"a renewal by the scope alone":               {`permit (principal == Workload::"corp:svc", action == Action::"renew", resource);`, ""},
		"no condition, accepted":                     {`@accept("unconditional: the role reads what is public") permit (principal == Workload::"corp:svc", action, resource);`, ""},
		"true":                                       {github("when { true }"), "any-tenant! unconditional?"},
		"GitLab.com":                                 {`permit (principal in Issuer::"gitlab", action, resource);`, "any-tenant! unconditional?"},
		"a project of GitLab on no branch":           {`permit (principal is GitLab::Workload in Issuer::"gitlab", action, resource) when { principal.claims.project_id == "20" };`, "pull-request"},
		"a project of GitLab on a protected branch":  {`permit (principal is GitLab::Workload in Issuer::"gitlab", action, resource) when { principal.claims.project_id == "20" && principal.claims.ref_protected == "true" };`, ""},
		"merge requests by name":                     {`permit (principal is GitLab::Workload in Issuer::"gitlab", action, resource) when { principal.claims.project_id == "20" && principal.claims.pipeline_source == "merge_request_event" };`, "pull-request!"},
		"a GitLab of one's own":                      {`permit (principal in Issuer::"server", action, resource);`, "unconditional? whole-issuer"},
		"both GitLabs, one of them one's own":        {`permit (principal is GitLab::Workload, action, resource);`, "any-tenant! unconditional? whole-issuer"},
		"both GitLabs, told apart by the issuer":     {`permit (principal is GitLab::Workload, action, resource) when { principal.issuer == "server" };`, "whole-issuer"},
		"a pipeline of Buildkite by names":           {`permit (principal is Buildkite::Workload, action, resource) when { principal.claims.organization_slug == "acme" && principal.claims.pipeline_slug == "deploy" && principal.claims.build_branch == "main" };`, "chosen-claim mutable-claim mutable-claim"},
		"a service account by its address":           {`permit (principal is Google::Workload, action, resource) when { principal.claims has email && principal.claims.email == "x@y.iam.gserviceaccount.com" };`, "mutable-claim"},
		"a service account by its ID":                {`permit (principal is Google::Workload, action, resource) when { principal.subject == "107517467455664443765" };`, ""},
		"a project of Google":                        {`permit (principal is Google::Workload, action, resource) when { principal.claims has "google.compute_engine.project_number" && principal.claims["google.compute_engine.project_number"] == 739419398126 };`, "organisation-wide"},
		"CircleCI, forks and all":                    {`permit (principal is CircleCI::Workload, action, resource) when { principal.claims["oidc.circleci.com/project-id"] == "x" };`, "pull-request"},
		"CircleCI, the whole organisation":           {`permit (principal is CircleCI::Workload, action, resource);`, "unconditional? whole-issuer"},
		"one's own issuer":                           {`permit (principal is Workload, action, resource);`, "unconditional? whole-issuer"},
		"one's own issuer, by a claim":               {`permit (principal is Workload, action, resource) when { principal.claims has team && principal.claims.team == "orders" };`, ""},
		"one's own issuer, by the subject":           {`permit (principal is Workload, action, resource) when { principal.subject == "svc" };`, ""},
		"one's own issuer, by some of the subject":   {`permit (principal is Workload, action, resource) when { principal.subject like "svc-*" };`, "whole-issuer"},
		"letters of another alphabet":                {when(`principal.claims.repository == "аcme/orders"`, id, main, push), "lookalike"},
		"letters of another alphabet alone":          {when(`principal.claims.repository == "acme/orders"`, id, main, push, `principal.claims.workflow_ref != "развёртывание"`), ""},
		"a subject of an organisation with its ID":   {when(`principal.subject like "repo:acme/*"`, `principal.claims.repository_owner_id == "65"`, main, push), "organisation-wide"},
		"accented letters":                           {when(repository, id, main, push, `principal.claims.workflow_ref != "café"`), ""},
		"accepted":                                   {`@accept("organisation-wide: one team owns all of them; mutable-claim: the name is a trade mark") ` + when(`principal.claims.repository_owner == "acme"`, main, push), ""},
		"accepted without a reason":                  {`@accept("organisation-wide") ` + when(`principal.claims.repository_owner_id == "65"`, main, push), "organisation-wide"},
		"accepted for nothing":                       {`@accept("any-tenant: all of them are ours") ` + when(id, main, push), "unused-acceptance?"},
		"a forbid":                                   {`forbid (principal, action, resource);`, ""},
		"a forbid that narrows every permit":         {when(repository, id, main) + "\n" + `forbid (principal is GitHub::Workload, action, resource) unless { principal.claims.event_name == "push" };`, ""},
		"a forbid of one event":                      {when(repository, id, main) + "\n" + `forbid (principal is GitHub::Workload, action, resource) when { principal.claims.event_name == "pull_request_target" };`, "stranger-event?"},
		"a forbid on one role, which narrows little": {when(repository, id, main) + "\n" + `forbid (principal is GitHub::Workload, action, resource == Role::"r") unless { principal.claims.event_name == "push" };`, "stranger-event?"},
		"more alternatives than can be looked at":    {when(strings.Repeat(`(principal.claims.ref == "a" || principal.claims.ref == "b") && `, 10) + "true"), "unread?"},
	} {
		t.Run(name, func(t *testing.T) {
			found := slices.DeleteFunc(lint(t, access.Files{"a.yaml": issuers, "p.cedar": c.policy}), func(f trust.Finding) bool { return f.Rule == "any-action" }) // below
			if got := strings.Join(rules(found), " "); got != c.want {
				t.Errorf("found %q, want %q\n%s", got, c.want, describe(found))
			}
			for _, f := range found {
				if f.Place.File != "p.cedar" || f.Place.Line == 0 || f.Place.Column == 0 || f.Why == "" || f.Fix == "" {
					t.Errorf("the finding is not whole: %+v", f)
				}
			}
		})
	}
}

func describe(found []trust.Finding) string {
	var text strings.Builder
	for _, f := range found {
		fmt.Fprintf(&text, "%s %s: %s: %s -> %s (%s)\n", f.Place, f.Severity, f.Rule, f.Why, f.Fix, f.Accepted)
	}
	return text.String()
}

func TestIssuersAndRolesAreLookedAt(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an issuer of one's own":        {"kind: Issuer\nname: a\noidc: {url: https://a.example}\nclaims: {team: string}", ""},
		"no claims":                     {"kind: Issuer\nname: a\noidc: {url: https://a.example}", "undeclared-claims?"},
		"an audience of AWS":            {"kind: Issuer\nname: a\npreset: github-actions\noidc: {audience: sts.amazonaws.com}", "shared-audience"},
		"the default audience":          {"kind: Issuer\nname: a\npreset: github-actions\noidc: {audience: 'https://github.com/acme'}", "shared-audience"},
		"what opens the issuer itself":  {"kind: Issuer\nname: a\noidc: {url: https://a.example, audience: https://a.example}\nclaims: {team: string}", "shared-audience"},
		"a cluster's own audience":      {"kind: Issuer\nname: a\nkubernetes: {url: https://cluster.example, audience: https://cluster.example}", "shared-audience"},
		"the usual one of clusters":     {"kind: Issuer\nname: a\nkubernetes: {url: https://cluster.example, audience: https://kubernetes.default.svc}", "shared-audience"},
		"a cluster's tokens for us":     {"kind: Issuer\nname: a\nkubernetes: {url: https://cluster.example, audience: https://daypass.example}", ""},
		"a cluster without an audience": {"kind: Issuer\nname: a\nkubernetes: {url: https://cluster.example}", ""},
		"an audience for this server":   {"kind: Issuer\nname: a\npreset: github-actions\noidc: {audience: 'https://daypass.example'}", ""},
		"the name of an API":            {"kind: Issuer\nname: a\noidc: {url: https://a.example, audience: 'api://everyone'}\nclaims: {team: string}", "shared-audience"},
		"an application at Entra":       {"kind: Issuer\nname: a\npreset: entra\noidc: {url: 'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0', audience: 'api://daypass'}", "shared-audience?"},
		"a platform that has one alone": {"kind: Issuer\nname: a\npreset: spacelift\noidc: {url: 'https://a.app.spacelift.io', audience: a.app.spacelift.io}", "shared-audience?"},
		"a long lease":                  {"kind: Target\nname: t\nfake: {}\n---\nkind: Role\nname: r\ntarget: t\nfake: {}\nttl: {default: 1h, max: 13h}", "long-lease"},
		"a lease of half a day":         {"kind: Target\nname: t\nfake: {}\n---\nkind: Role\nname: r\ntarget: t\nfake: {}\nttl: {default: 1h, max: 12h}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := lint(t, access.Files{"a.yaml": c.text})
			if got := strings.Join(rules(found), " "); got != c.want {
				t.Errorf("found %q, want %q\n%s", got, c.want, describe(found))
			}
			for _, f := range found {
				if f.Place.Line == 0 || f.Why == "" || f.Fix == "" {
					t.Errorf("the finding is not whole: %+v", f)
				}
			}
		})
	}
}

func TestAPermitOfEveryActionCoversAdministration(t *testing.T) {
	for scope, want := range map[string]bool{
		`action, resource`: true, `action == Action::"acquire", resource`: false, `action, resource == Role::"r"`: false, `action in [Action::"acquire", Action::"renew"], resource`: false,
	} {
		found := lint(t, access.Files{"a.yaml": issuers, "p.cedar": `permit (principal == Workload::"corp:svc", ` + scope + `) when { context.source_ip.isLoopback() };`})
		if got := slices.Contains(rules(found), "any-action?"); got != want {
			t.Errorf("%s: found %v\n%s", scope, got, describe(found))
		}
	}
}

func TestAnOutgoingSubjectIsOfWhatNeverChanges(t *testing.T) {
	for subject, want := range map[string]string{
		"repo:${claims.repository}": "outgoing-subject", "repo:${claims.repository_id}": "", "run:${claims.head_ref}": "outgoing-subject",
		"role:${role}": "", "repo:${claims.repository_id}:ref:${claims.ref}": "", "team:${claims.team}": "", "repo:${claims.repository": "",
	} {
		found := lint(t, access.Files{"a.yaml": issuers + "---\nkind: Role\nname: out\ntarget: t\nfake: {subject: '" + subject + "'}\n"})
		if got := strings.Join(rules(found), " "); got != want {
			t.Errorf("%s: found %q, want %q\n%s", subject, got, want, describe(found))
		}
	}
}

func TestAFixForASetIsAPolicy(t *testing.T) {
	permit := func(condition string) []trust.Finding {
		return lint(t, access.Files{"a.yaml": "kind: Issuer\nname: a\ndevices: {}",
			"a.cedar": `permit (principal is Device::Workload, action == Action::"acquire", resource) when { ` + condition + ` };`})
	}
	found := permit("context.ttl <= duration(\"1h\")")
	if len(found) != 1 || found[0].Rule != "whole-issuer" {
		t.Fatal(describe(found))
	}
	if found = permit(strings.TrimPrefix(found[0].Fix, "add ")); len(found) != 0 {
		t.Error(describe(found))
	}
}

func TestTypicalPoliciesOfThePlatformsAreNarrow(t *testing.T) {
	names, err := filepath.Glob("../access/testdata/presets/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatal("the samples are missing", err)
	}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := access.Files{"rest.yaml": "kind: Target\nname: t\nfake: {}\n---\nkind: Role\nname: r\ntarget: t\nfake: {}\n"}
		for _, file := range archive.Files {
			if ext := filepath.Ext(file.Name); ext == ".yaml" || ext == ".cedar" {
				files[file.Name] = string(file.Data)
			}
		}
		for _, f := range lint(t, files) {
			if f.Severity != trust.Note && f.Rule != "chosen-claim" { // Buildkite has no other branch than the one that is chosen
				t.Errorf("%s: %s", name, describe([]trust.Finding{f}))
			}
		}
	}
}

func TestEveryRuleIsInTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range trust.Rules() {
		if seen[r.Name] || r.Looks == "" || r.Why == "" || r.Severity == "" {
			t.Errorf("rule %q is there twice or says nothing", r.Name)
		}
		seen[r.Name] = true
	}
}
