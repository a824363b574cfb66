package access

import "time"

// codePresets are platforms that keep code and run pipelines beside it.
func codePresets() []Preset {
	return []Preset{githubActions(), gitlab(), bitbucket(), azureDevOps()}
}

// githubActions is the issuer of GitHub's workflow runs. Every value is a string, also IDs, counters and ref_protected
// ("true" or "false"). In tokens of runs that no pull request started, head_ref and base_ref are there and empty. What
// depends on the job, on the plan of the account or on the age of the installation is optional.
//
// Runs on pull_request_target have the ref of the base branch, and `sub` names the environment where there is one: so
// neither tells them from runs on push. Subjects of repositories made since July 2026 hold IDs beside the names.
func githubActions() Preset {
	return Preset{
		Name: "github-actions", Title: "GitHub Actions", Type: "GitHub::Workload",
		Docs: "https://docs.github.com/en/actions/reference/security/oidc",
		URL:  "https://token.actions.githubusercontent.com", Shared: []string{"https://token.actions.githubusercontent.com"},
		Forms: []Form{
			{"https://token.actions.githubusercontent.com", `https://token\.actions\.githubusercontent\.com`},
			{"https://token.actions.githubusercontent.com/ENTERPRISE", `https://token\.actions\.githubusercontent\.com/` + slugPattern},
			{"https://token.actions.ENTERPRISE.ghe.com", `https://token\.actions\.[a-z0-9-]+\.ghe\.com(?:/` + slugPattern + `)?`},
			{"https://HOST/_services/token of a GitHub Enterprise Server", `https://` + hostPattern + `/_services/token`},
		},
		Run: []string{"run_id", "run_attempt"}, Subject: "repo:<tenant>/<project>:<guard>", Partner: "repository_id",
		Pull: Pull{
			Can:   "a run for any branch that somebody pushes, a pull request of the repository and a workflow on pull_request_target get tokens too",
			Guard: `principal.claims.ref == "refs/heads/main" && principal.claims.event_name == "push"`,
			Events: map[string][]string{"event_name": {
				"pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "issues", "issue_comment",
				"discussion", "discussion_comment", "fork", "watch", "workflow_run",
			}},
			Event: "event_name",
		},
		Audience:   Audience{Usual: "the URL of the repository's owner", Ours: true, How: "`audience` of the request, as `daypass` does by itself"},
		Algorithms: []string{"RS256"}, Types: []string{"JWT"}, Age: 5 * time.Minute,
		Known: []Claim{
			{Name: "actor", Means: "the account that started the run", Nature: Mutable, Partner: "actor_id"},
			{Name: "actor_id", Means: "ID of the account that started the run", Nature: Fixed},
			{Name: "base_ref", Means: "target branch of the pull request, else empty", Nature: State},
			{Name: "check_run_id", Optional: true, Means: "ID of the job's check run (since November 2025)", Nature: OfRun},
			{Name: "enterprise", Optional: true, Means: "enterprise of the repository", Nature: Mutable, Pins: Tenant, Partner: "enterprise_id"},
			{Name: "enterprise_id", Optional: true, Means: "ID of the enterprise", Nature: Fixed, Pins: Tenant},
			{Name: "environment", Optional: true, Means: "environment that the job names", Nature: State, Pins: Guard},
			{Name: "environment_node_id", Optional: true, Means: "ID of that environment", Nature: Fixed, Pins: Guard},
			{Name: "event_name", Means: "what started the run: push, pull_request, schedule …", Nature: State, Pins: Guard},
			{Name: "head_ref", Means: "source branch of the pull request, else empty", Nature: Chosen},
			{Name: "issuer_scope", Optional: true, Means: "of issuers of one enterprise", Nature: State},
			{Name: "job_workflow_ref", Means: "path and ref of the workflow file that the job is in, also a reusable one", Nature: Mutable, Pins: Guard},
			{Name: "job_workflow_sha", Optional: true, Means: "commit of that workflow file", Nature: Fixed, Pins: Guard},
			{Name: "ref", Means: "the git ref that the run is for: refs/heads/main", Nature: State, Pins: Guard},
			{Name: "ref_protected", Optional: true, Means: "\"true\" where the ref is protected", Nature: State, Pins: Guard},
			{Name: "ref_type", Means: "branch or tag", Nature: State},
			{Name: "repository", Means: "owner and name of the repository", Nature: Mutable, Pins: Project, Partner: "repository_id"},
			{Name: "repository_id", Means: "ID of the repository", Nature: Fixed, Pins: Project},
			{Name: "repository_owner", Means: "account that owns the repository", Nature: Mutable, Pins: Tenant, Partner: "repository_owner_id"},
			{Name: "repository_owner_id", Means: "ID of the account that owns the repository", Nature: Fixed, Pins: Tenant},
			{Name: "repository_visibility", Means: "public, private or internal", Nature: State},
			{Name: "run_attempt", Means: "how often the run was tried", Nature: OfRun},
			{Name: "run_id", Means: "ID of the run", Nature: OfRun},
			{Name: "run_number", Means: "count of the workflow's runs", Nature: OfRun},
			{Name: "runner_environment", Means: "github-hosted or self-hosted", Nature: State, Pins: Runner},
			{Name: "sha", Means: "commit that the run is for", Nature: OfRun, Pins: Guard},
			{Name: "workflow", Means: "name of the workflow", Nature: Chosen},
			{Name: "workflow_ref", Means: "path and ref of the workflow file", Nature: Mutable, Pins: Guard},
			{Name: "workflow_sha", Means: "commit of the workflow file", Nature: Fixed, Pins: Guard},
		},
	}
}

// gitlab is a GitLab instance: GitLab.com or a server of one's own. Values are strings, but for runner_id. Since the
// correction of a hole in 2025 the project claims of a merge request from a fork name the fork; job_project_id (18.4)
// names the project where it runs. The subject can be put together in another way by the project's settings.
func gitlab() Preset {
	return Preset{
		Name: "gitlab", Title: "GitLab CI/CD", Type: "GitLab::Workload",
		Docs: "https://docs.gitlab.com/ci/secrets/id_token_authentication/",
		URL:  "https://gitlab.com", Shared: []string{"https://gitlab.com"},
		Forms: []Form{{"https://gitlab.com", `https://gitlab\.com`}, {"https://HOST of your own instance", `https://` + hostPattern + `(?:/` + slugPattern + `)*`}},
		Run:   []string{"pipeline_id", "job_id"}, Subject: "project_path:<tenant>/<project>:ref_type:<any>:ref:<guard>", Partner: "project_id",
		Pull: Pull{
			Can:    "a job on any branch of the project, merge requests included, gets a token too",
			Guard:  `principal.claims.ref_protected == "true" && principal.claims.ref == "main" && principal.claims.ref_type == "branch"`,
			Events: map[string][]string{"pipeline_source": {"merge_request_event", "external_pull_request_event"}},
		},
		Audience:   Audience{Usual: "the URL of the instance", Ours: true, How: "`id_tokens: {NAME: {aud: …}}` of the job"},
		Algorithms: []string{"RS256"}, Types: []string{"JWT"}, Age: time.Hour,
		Known: []Claim{
			{Name: "ci_config_ref_uri", Optional: true, Means: "where the pipeline's definition comes from, with its ref", Nature: Mutable, Pins: Guard},
			{Name: "ci_config_sha", Optional: true, Means: "commit of the pipeline's definition", Nature: Fixed, Pins: Guard},
			{Name: "deployment_tier", Optional: true, Means: "tier of the environment: production, staging …", Nature: State},
			{Name: "environment", Optional: true, Means: "environment that the job deploys to", Nature: State, Pins: Guard},
			{Name: "environment_protected", Optional: true, Means: "\"true\" where the environment is protected", Nature: State, Pins: Guard},
			{Name: "groups_direct", Kind: StringSet, Optional: true, Means: "groups of the user who runs the job, up to 200", Nature: Mutable},
			{Name: "job_id", Means: "ID of the job", Nature: OfRun},
			{Name: "job_namespace_id", Optional: true, Means: "ID of the group where the job runs", Nature: Fixed, Pins: Tenant},
			{Name: "job_namespace_path", Optional: true, Means: "path of the group where the job runs", Nature: Mutable, Pins: Tenant, Partner: "job_namespace_id"},
			{Name: "job_project_id", Optional: true, Means: "ID of the project where the job runs", Nature: Fixed, Pins: Project},
			{Name: "job_project_path", Optional: true, Means: "path of the project where the job runs", Nature: Mutable, Pins: Project, Partner: "job_project_id"},
			{Name: "namespace_id", Means: "ID of the group or user of the project", Nature: Fixed, Pins: Tenant},
			{Name: "namespace_path", Means: "path of the group or user of the project", Nature: Mutable, Pins: Tenant, Partner: "namespace_id"},
			{Name: "pipeline_id", Means: "ID of the pipeline", Nature: OfRun},
			{Name: "pipeline_source", Means: "what started the pipeline: push, merge_request_event, schedule …", Nature: State, Pins: Guard},
			{Name: "project_id", Means: "ID of the project; the fork's in a merge request from a fork", Nature: Fixed, Pins: Project},
			{Name: "project_path", Means: "path of the project", Nature: Mutable, Pins: Project, Partner: "project_id"},
			{Name: "project_visibility", Optional: true, Means: "public, internal or private", Nature: State},
			{Name: "ref", Means: "branch or tag, without refs/heads", Nature: State, Pins: Guard},
			{Name: "ref_path", Optional: true, Means: "the whole ref: refs/heads/main (since 16.0)", Nature: State, Pins: Guard},
			{Name: "ref_protected", Means: "\"true\" where the ref is protected", Nature: State, Pins: Guard},
			{Name: "ref_type", Means: "branch or tag", Nature: State},
			{Name: "runner_environment", Optional: true, Means: "gitlab-hosted or self-hosted (since 16.0)", Nature: State, Pins: Runner},
			{Name: "runner_id", Kind: Long, Optional: true, Means: "ID of the runner (since 16.0)", Nature: Fixed, Pins: Runner},
			{Name: "sha", Optional: true, Means: "commit that the job is for (since 16.0)", Nature: OfRun, Pins: Guard},
			{Name: "user_access_level", Optional: true, Means: "what the user may do in the project: developer, maintainer …", Nature: State},
			{Name: "user_email", Means: "address of the user who runs the job", Nature: Mutable, Partner: "user_id"},
			{Name: "user_id", Means: "ID of the user who runs the job", Nature: Fixed},
			{Name: "user_login", Means: "name of the user who runs the job", Nature: Mutable, Partner: "user_id"},
		},
	}
}

// bitbucket is Bitbucket Pipelines: one issuer for each workspace, whose name is in its URL. UUIDs stand in braces. The
// subject ends with the step's UUID, so that no two tokens share one.
func bitbucket() Preset {
	return Preset{
		Name: "bitbucket-pipelines", Title: "Bitbucket Pipelines", Type: "Bitbucket::Workload",
		Docs: "https://support.atlassian.com/bitbucket-cloud/docs/integrate-pipelines-with-resource-servers-using-oidc/",
		Forms: []Form{{"https://api.bitbucket.org/2.0/workspaces/WORKSPACE/pipelines-config/identity/oidc",
			`https://api\.bitbucket\.org/2\.0/workspaces/` + slugPattern + `/pipelines-config/identity/oidc`}},
		Run: []string{"pipelineUuid", "stepUuid"},
		Pull: Pull{
			Can:   "a step on any branch, pull requests included, gets a token too",
			Guard: `principal.claims has deploymentEnvironmentUuid && principal.claims.deploymentEnvironmentUuid == "{UUID}"`,
		},
		Audience: Audience{Usual: "ari:cloud:bitbucket::workspace/UUID of the workspace",
			How: "repository settings, OpenID Connect, Audience: ari:cloud:bitbucket::workspace/UUID, or the one that the step's `oidc` names"},
		Algorithms: []string{"RS256"}, Age: time.Hour,
		Known: []Claim{
			{Name: "accountUuid", Optional: true, Means: "UUID of the workspace's account", Nature: Fixed, Pins: Tenant},
			{Name: "branchName", Optional: true, Means: "branch that the step runs on", Nature: State, Pins: Guard},
			{Name: "deploymentEnvironmentUuid", Optional: true, Means: "UUID of the deployment environment that the step names", Nature: Fixed, Pins: Guard},
			{Name: "pipelineUuid", Means: "UUID of the pipeline's run", Nature: OfRun},
			{Name: "repositoryUuid", Means: "UUID of the repository, in braces", Nature: Fixed, Pins: Project},
			{Name: "stepUuid", Means: "UUID of the step's run", Nature: OfRun},
			{Name: "workspaceUuid", Means: "UUID of the workspace, in braces", Nature: Fixed, Pins: Tenant},
		},
	}
}

// azureDevOps is Azure Pipelines: one issuer for each organisation. A pipeline's token has the subject
// p://organisation/project/pipeline, that of a service connection sc://organisation/project/connection and none of the
// other claims. Every token is for api://AzureADTokenExchange, so that each who gets one can use it at all others.
func azureDevOps() Preset {
	return Preset{
		Name: "azure-devops", Title: "Azure DevOps", Type: "AzureDevOps::Workload",
		Docs:  "https://learn.microsoft.com/azure/devops/pipelines/release/configure-workload-identity",
		Forms: []Form{{"https://vstoken.dev.azure.com/ORGANISATION-ID", `https://vstoken\.dev\.azure\.com/` + uuidPattern}},
		Run:   []string{"run_id"}, Subject: "p://<tenant>/<project>/<any>", Partner: "prj_id",
		Pull: Pull{
			Can:   "a run of the pipeline for any branch, pull requests included, gets a token too",
			Guard: `principal.claims has rpo_ref && principal.claims.rpo_ref == "refs/heads/main"`,
		},
		Audience:   Audience{Usual: "api://AzureADTokenExchange", How: "api://AzureADTokenExchange, which every token of Azure DevOps has"},
		Algorithms: []string{"RS256"}, Age: 10 * time.Minute,
		Known: []Claim{
			{Name: "def_id", Optional: true, Means: "ID of the pipeline, within its project", Nature: Fixed},
			{Name: "org_id", Optional: true, Means: "ID of the organisation", Nature: Fixed, Pins: Tenant},
			{Name: "prj_id", Optional: true, Means: "ID of the project", Nature: Fixed, Pins: Project},
			{Name: "rpo_id", Optional: true, Means: "repository: its ID, or its name where it is kept elsewhere", Nature: Mutable},
			{Name: "rpo_ref", Optional: true, Means: "the git ref that the run is for", Nature: State, Pins: Guard},
			{Name: "rpo_uri", Optional: true, Means: "URL of the repository", Nature: Mutable},
			{Name: "rpo_ver", Optional: true, Means: "commit that the run is for", Nature: OfRun, Pins: Guard},
			{Name: "run_id", Optional: true, Means: "ID of the run", Nature: OfRun},
		},
	}
}
