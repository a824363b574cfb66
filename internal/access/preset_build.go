package access

import "time"

// buildPresets are platforms that build and deploy code which is kept elsewhere.
func buildPresets() []Preset {
	return []Preset{circleci(), buildkite(), terraform(), spacelift()}
}

// circleci is CircleCI: one issuer for each organisation. The token in CIRCLE_OIDC_TOKEN_V2 has the source of the change
// in its subject, that in CIRCLE_OIDC_TOKEN has not. Builds of forks get a token where the project passes secrets to them,
// and then vcs-origin alone tells them apart.
func circleci() Preset {
	const ns = "oidc.circleci.com/"
	return Preset{
		Name: "circleci", Title: "CircleCI", Type: "CircleCI::Workload",
		Docs:  "https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/",
		Forms: []Form{{"https://oidc.circleci.com/org/ORGANISATION-ID", `https://oidc\.circleci\.com/org/` + uuidPattern}, {"https://HOST/org/ORGANISATION-ID of a CircleCI server", `https://` + hostPattern + `/org/` + uuidPattern}},
		Run:   []string{ns + "pipeline-id", ns + "job-id"}, Subject: "org/<tenant>/project/<project>/user/<any>/vcs-origin/<guard>/vcs-ref/<any>",
		Pull: Pull{
			Can:   "a build of a fork's pull request gets a token too, where the project passes secrets to forks",
			Guard: `principal.claims has "oidc.circleci.com/vcs-origin" && principal.claims["oidc.circleci.com/vcs-origin"] == "github.com/ACME/REPOSITORY"`,
		},
		Audience:   Audience{Usual: "the organisation's ID", Ours: true, How: "`circleci run oidc get --claims '{\"aud\": \"…\"}'`"},
		Algorithms: []string{"RS256"}, Age: time.Hour,
		Known: []Claim{
			{Name: ns + "context-ids", Kind: StringSet, Optional: true, Means: "IDs of the contexts that the job uses", Nature: Fixed, Pins: Guard},
			{Name: ns + "job-id", Optional: true, Means: "ID of the job", Nature: OfRun},
			{Name: ns + "org-id", Optional: true, Means: "ID of the organisation", Nature: Fixed, Pins: Tenant},
			{Name: ns + "pipeline-definition-id", Optional: true, Means: "ID of the pipeline's definition", Nature: Fixed},
			{Name: ns + "pipeline-id", Optional: true, Means: "ID of the pipeline's run", Nature: OfRun},
			{Name: ns + "project-id", Means: "ID of the project", Nature: Fixed, Pins: Project},
			{Name: ns + "ssh-rerun", Kind: Bool, Optional: true, Means: "somebody can log in to the job by SSH", Nature: State},
			{Name: ns + "vcs-origin", Optional: true, Means: "repository of the change, also a fork: github.com/acme/orders", Nature: Mutable, Pins: Guard},
			{Name: ns + "vcs-ref", Optional: true, Means: "ref of the change: refs/heads/main", Nature: State},
			{Name: ns + "workflow-id", Optional: true, Means: "ID of the workflow's run", Nature: OfRun},
		},
	}
}

// buildkite is Buildkite: one issuer for all organisations. IDs of organisation and pipeline are there where the step
// asks for them. Agents always run on machines of the customer or of a cluster of his.
func buildkite() Preset {
	return Preset{
		Name: "buildkite", Title: "Buildkite", Type: "Buildkite::Workload",
		Docs: "https://buildkite.com/docs/agent/v3/cli-oidc",
		URL:  "https://agent.buildkite.com", Shared: []string{"https://agent.buildkite.com"},
		Forms: []Form{{"https://agent.buildkite.com", `https://agent\.buildkite\.com`}},
		Run:   []string{"job_id"}, Subject: "organization:<tenant>:pipeline:<project>:ref:<guard>:commit:<any>:step:<any>", Partner: "pipeline_id",
		Pull: Pull{
			Can:   "a build of any branch, pull requests included, gets a token too",
			Guard: `principal.claims.build_branch == "main"`,
		},
		Audience:   Audience{Usual: "https://buildkite.com/ORGANISATION", Ours: true, How: "`buildkite-agent oidc request-token --audience …`"},
		Algorithms: []string{"RS256"}, Age: 5 * time.Minute,
		Known: []Claim{
			{Name: "agent_id", Means: "ID of the agent", Nature: Fixed, Pins: Runner},
			{Name: "build_branch", Means: "branch of the build, which a pull request of a fork names as it likes", Nature: Chosen, Pins: Guard},
			{Name: "build_commit", Means: "commit that the build is for", Nature: OfRun, Pins: Guard},
			{Name: "build_number", Kind: Long, Means: "number of the build in its pipeline", Nature: OfRun},
			{Name: "build_source", Optional: true, Means: "what started the build: webhook, ui, schedule …", Nature: State},
			{Name: "build_tag", Optional: true, Means: "tag of the build", Nature: Chosen},
			{Name: "cluster_id", Optional: true, Means: "ID of the agent's cluster; on request", Nature: Fixed, Pins: Runner},
			{Name: "job_id", Means: "ID of the job", Nature: OfRun},
			{Name: "organization_id", Optional: true, Means: "ID of the organisation; on request", Nature: Fixed, Pins: Tenant},
			{Name: "organization_slug", Means: "short name of the organisation", Nature: Mutable, Pins: Tenant, Partner: "organization_id"},
			{Name: "pipeline_id", Optional: true, Means: "ID of the pipeline; on request", Nature: Fixed, Pins: Project},
			{Name: "pipeline_slug", Means: "short name of the pipeline, within its organisation", Nature: Mutable, Pins: Within, Partner: "pipeline_id"},
			{Name: "step_key", Optional: true, Means: "key of the step", Nature: Chosen},
		},
	}
}

// terraform is HCP Terraform, which was Terraform Cloud, or a Terraform Enterprise. Speculative plans run whatever a pull
// request says, with the phase "plan". Tokens of module tests have no workspace and no project.
func terraform() Preset {
	return Preset{
		Name: "terraform-cloud", Title: "HCP Terraform", Type: "Terraform::Workload",
		Docs: "https://developer.hashicorp.com/terraform/cloud-docs/dynamic-provider-credentials/workload-identity-tokens",
		URL:  "https://app.terraform.io", Shared: []string{"https://app.terraform.io", "https://app.eu.terraform.io"},
		Forms: []Form{{"https://app.terraform.io", `https://app(?:\.eu)?\.terraform\.io`}, {"https://HOST of a Terraform Enterprise", `https://` + hostPattern}},
		Run:   []string{"terraform_run_id"}, Subject: "organization:<tenant>:project:<any>:workspace:<project>:run_phase:<guard>", Partner: "terraform_workspace_id",
		Pull: Pull{
			Can:    "a speculative plan of a pull request gets a token too",
			Guard:  `principal.claims.terraform_run_phase == "apply"`,
			Events: map[string][]string{"terraform_run_phase": {"plan"}},
		},
		Audience:   Audience{Usual: "what the workspace says: there is none by itself", Ours: true, How: "`TFC_WORKLOAD_IDENTITY_AUDIENCE` of the workspace"},
		Algorithms: []string{"RS256"}, Types: []string{"JWT"}, Age: 2 * time.Hour,
		Known: []Claim{
			{Name: "terraform_full_workspace", Optional: true, Means: "organisation, project and workspace by name", Nature: Mutable, Pins: Project, Partner: "terraform_workspace_id"},
			{Name: "terraform_organization_id", Means: "ID of the organisation", Nature: Fixed, Pins: Tenant},
			{Name: "terraform_organization_name", Means: "name of the organisation", Nature: Mutable, Pins: Tenant, Partner: "terraform_organization_id"},
			{Name: "terraform_project_id", Optional: true, Means: "ID of the project, which holds workspaces", Nature: Fixed, Pins: Tenant},
			{Name: "terraform_project_name", Optional: true, Means: "name of the project", Nature: Mutable, Partner: "terraform_project_id"},
			{Name: "terraform_run_id", Means: "ID of the run", Nature: OfRun},
			{Name: "terraform_run_phase", Means: "plan or apply", Nature: State, Pins: Guard},
			{Name: "terraform_workspace_id", Optional: true, Means: "ID of the workspace", Nature: Fixed, Pins: Project},
			{Name: "terraform_workspace_name", Optional: true, Means: "name of the workspace, within its organisation", Nature: Mutable, Pins: Within, Partner: "terraform_workspace_id"},
		},
	}
}

// spacelift is Spacelift: one issuer for each account. IDs of stacks and spaces are made from their names, once.
func spacelift() Preset {
	return Preset{
		Name: "spacelift", Title: "Spacelift", Type: "Spacelift::Workload",
		Docs:  "https://docs.spacelift.io/integrations/cloud-providers/oidc",
		Forms: []Form{{"https://ACCOUNT.app.spacelift.io", `https://[a-z0-9-]+\.app(?:\.us)?\.spacelift\.io`}, {"https://HOST of your own installation", `https://` + hostPattern}},
		Run:   []string{"runId"}, Subject: "space:<any>:stack:<project>:run_type:<guard>:scope:<any>",
		Pull: Pull{
			Can:    "a proposed run, which a pull request starts, gets a token too",
			Guard:  `principal.claims.runType == "TRACKED"`,
			Events: map[string][]string{"runType": {"PROPOSED"}, "scope": {"read"}},
		},
		Audience:   Audience{Usual: "the account's host name", How: "the account's host name: ACCOUNT.app.spacelift.io"},
		Algorithms: []string{"RS256"}, Age: time.Hour,
		Known: []Claim{
			{Name: "callerId", Means: "ID of the stack or module", Nature: Fixed, Pins: Project},
			{Name: "callerType", Means: "stack or module", Nature: State},
			{Name: "runId", Means: "ID of the run", Nature: OfRun},
			{Name: "runType", Means: "PROPOSED, which a pull request starts, TRACKED, TASK, TESTING or DESTROY", Nature: State, Pins: Guard},
			{Name: "scope", Means: "read or write; proposed runs have read", Nature: State, Pins: Guard},
			{Name: "spaceId", Means: "ID of the space", Nature: Fixed, Pins: Tenant},
		},
	}
}
