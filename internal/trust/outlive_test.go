package trust_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/trust"
)

// Rights of a lease's own account by which its holder makes what stays when the account has gone.
func TestRightsToMakeWhatOutlivesALeaseAreFound(t *testing.T) {
	all := kinds()
	for _, kind := range []string{"kubernetes", "aws"} {
		all.Targets[kind] = access.Kind{Settings: all.Targets["fake"].Settings, Rights: func(s access.Section) (any, error) {
			var rights map[string]any
			return rights, s.Decode(&rights)
		}}
	}
	allow := func(action string) string {
		return fmt.Sprintf(`aws: {per_lease: user, policy: {Version: "2012-10-17", Statement: {Effect: Allow, Action: %s, Resource: "*"}}}`, action)
	}
	for rights, found := range map[string]bool{
		`kubernetes: {per_lease: {namespace: jobs, bind: [{role: deployer}]}}`:                                                                                  false,
		`kubernetes: {per_lease: {namespace: jobs, bind: [{cluster_role: view}]}}`:                                                                              false,
		`kubernetes: {service_account: {namespace: jobs, name: admin}}`:                                                                                         false,
		`kubernetes: {per_lease: {namespace: jobs, bind: [{role: a}, {cluster_role: cluster-admin}]}}`:                                                          true,
		`kubernetes: {per_lease: {namespace: jobs, bind: [{cluster_role: edit, namespace: jobs}]}}`:                                                             true,
		`kubernetes: {per_lease: {namespace: jobs, bind: [{cluster_role: "system:node"}]}}`:                                                                     true,
		`aws: {role_arn: "arn:aws:iam::123456789012:role/admin"}`:                                                                                               false,
		`aws: {per_lease: role, policy_arns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}`:                                                                       false,
		`aws: {per_lease: role, policy_arns: ["arn:aws-cn:iam::aws:policy/IAMFullAccess"]}`:                                                                     true,
		`aws: {per_lease: user, policy_arns: ["arn:aws:iam::aws:policy/AdministratorAccess"]}`:                                                                  true,
		`aws: {per_lease: user, policy_arns: ["arn:aws:iam::aws:policy/AdministratorAccess"], permissions_boundary: "arn:aws:iam::123456789012:policy/leased"}`: false,
		allow(`"s3:*"`):                                       false,
		allow(`["s3:GetObject", "iam:GetUser"]`):              false,
		allow(`["s3:GetObject", "iam:CreateUser"]`):           true,
		allow(`"IAM:*"`):                                      true,
		allow(`"i?m:PassRole"`):                               true,
		allow(`"*"`):                                          true,
		strings.Replace(allow(`"iam:*"`), "Allow", "Deny", 1): false,
		strings.Replace(allow(`"iam:DeleteUser"`), "Action:", "NotAction:", 1): true,
	} {
		kind, _, _ := strings.Cut(rights, ":")
		files := access.Files{"a.yaml": fmt.Sprintf("kind: Target\nname: t\n%s: {}\n---\nkind: Role\nname: r\ntarget: t\n%s\n", kind, rights)}
		cfg, err := access.Parse(files, all)
		if err != nil {
			t.Fatalf("%s: %v", rights, err)
		}
		got, err := trust.Lint(cfg, files)
		if err != nil {
			t.Fatal(err)
		}
		if names := strings.Join(rules(got), " "); (names == "outliving-rights") != found || !found && names != "" {
			t.Errorf("%s: found %q", rights, names)
		}
	}
}
