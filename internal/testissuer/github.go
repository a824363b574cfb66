package testissuer

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"strings"
)

// Run is a workflow run on GitHub Actions. What it does not say has a default, so that the zero value is a push
// to the main branch of acme/orders.
type Run struct {
	Audience    string
	Repository  string // owner/name
	Ref         string // such as refs/heads/main
	SHA         string
	Environment string // of the job; often none
	Event       string
	Actor       string
	Workflow    string // file name
	RunID       string
	RunNumber   string
	RunAttempt  string
	Visibility  string
	Runner      string // github-hosted or self-hosted
}

// GitHub returns the claims that GitHub Actions signs for a run, in GitHub's types: all texts but the times.
func (i *Issuer) GitHub(run Run) map[string]any {
	repository := cmp.Or(run.Repository, "acme/orders")
	owner, _, _ := strings.Cut(repository, "/")
	ref := cmp.Or(run.Ref, "refs/heads/main")
	sha := cmp.Or(run.SHA, "5d3c0c6e0c5b9a6b6c5f6b1e9c1f5a5e2d7b8f90")
	workflow := fmt.Sprintf("%s/.github/workflows/%s@%s", repository, cmp.Or(run.Workflow, "deploy.yml"), ref)
	refType := "branch"
	if strings.HasPrefix(ref, "refs/tags/") {
		refType = "tag"
	}
	event := cmp.Or(run.Event, "push")
	now := i.now().Unix()
	claims := map[string]any{
		"sub": fmt.Sprintf("repo:%s:ref:%s", repository, ref), "aud": cmp.Or(run.Audience, "https://github.com/"+owner),
		"ref": ref, "ref_type": refType, "ref_protected": "true", "sha": sha,
		"repository": repository, "repository_id": "741852963", "repository_visibility": cmp.Or(run.Visibility, "private"),
		"repository_owner": owner, "repository_owner_id": "9876543",
		"workflow": "deploy", "workflow_ref": workflow, "workflow_sha": sha,
		"job_workflow_ref": workflow, "job_workflow_sha": sha,
		"run_id": cmp.Or(run.RunID, "16543210987"), "run_number": cmp.Or(run.RunNumber, "421"),
		"run_attempt": cmp.Or(run.RunAttempt, "1"), "check_run_id": "46800011223",
		"actor": cmp.Or(run.Actor, "octocat"), "actor_id": "583231", "event_name": event,
		"base_ref": "", "head_ref": "", "runner_environment": cmp.Or(run.Runner, "github-hosted"),
		"jti": rand.Text(), "iss": i.url, "iat": now, "nbf": now - 300, "exp": now + 300,
	}
	if event == "pull_request" {
		claims["sub"] = fmt.Sprintf("repo:%s:pull_request", repository)
		claims["base_ref"], claims["head_ref"] = "main", "topic"
	}
	if run.Environment != "" {
		claims["environment"] = run.Environment
		claims["sub"] = fmt.Sprintf("repo:%s:environment:%s", repository, run.Environment)
	}
	return claims
}
