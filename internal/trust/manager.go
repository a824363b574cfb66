package trust

import (
	"encoding/json"
	"strings"
)

// Making is what a [Manager] at AWS makes per lease, for all roles of its target.
type Making struct {
	Kinds      []string // user, role
	Policies   []string // managed policies that it attaches
	Boundaries []string // permissions boundaries; nil where a role has none, since then none can be demanded
}

// statement is one of a policy of AWS.
type statement struct {
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// Permissions is the policy of a manager at AWS: what [Making] takes, or where it makes nothing, what ending sessions of its
// roles takes. instance is the server's, in the language that the policy stands in.
func (m Manager) Permissions(instance string) (string, error) {
	statements := m.ending()
	if m.Making != nil {
		statements = m.making(instance)
	}
	text, err := json.MarshalIndent(map[string]any{"Version": "2012-10-17", "Statement": statements}, "", "  ")
	return string(text), err
}

// ending is what writing a deny on a role takes. Roles are named one by one.
func (m Manager) ending() []statement {
	return []statement{{Effect: "Allow", Resource: m.Sessions,
		Action: []string{"iam:PutRolePolicy", "iam:GetRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies", "iam:GetRole"}}}
}

// making is what making and deleting users and roles takes, below the paths of one instance.
func (m Manager) making(instance string) []statement {
	at := m.Principal[:strings.Index(m.Principal, ":role/")+1]
	path := func(kind, place string) string { return at + kind + "/daypass/" + instance + "/" + place + "/*" }
	// AWS, asked about what does not exist, knows no path of it: a name alone is for looking and deleting.
	ours := []string{at + "user/daypass/" + instance + "/*", at + "user/dp_" + instance + "_*", at + "role/daypass/" + instance + "/*", at + "role/dp_" + instance + "_*"}
	tags := func(names ...string) map[string]map[string][]string {
		return map[string]map[string][]string{"ForAllValues:StringEquals": {"aws:TagKeys": names}}
	}
	all := []statement{
		{Effect: "Allow", Action: []string{"iam:ListUsers", "iam:ListRoles"}, Resource: []string{"*"}},
		{Effect: "Allow", Resource: ours, Action: []string{
			"iam:GetUser", "iam:DeleteUser", "iam:ListUserTags", "iam:GetUserPolicy", "iam:DeleteUserPolicy", "iam:ListUserPolicies", "iam:DetachUserPolicy",
			"iam:ListAttachedUserPolicies", "iam:ListAccessKeys", "iam:DeleteAccessKey", "iam:DeleteLoginProfile", "iam:ListMFADevices", "iam:DeactivateMFADevice",
			"iam:ListSSHPublicKeys", "iam:DeleteSSHPublicKey", "iam:ListServiceSpecificCredentials", "iam:DeleteServiceSpecificCredential",
			"iam:ListSigningCertificates", "iam:DeleteSigningCertificate", "iam:ListGroupsForUser", "iam:RemoveUserFromGroup",
			"iam:GetRole", "iam:DeleteRole", "iam:GetRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies", "iam:DetachRolePolicy",
			"iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:RemoveRoleFromInstanceProfile"}},
		{Effect: "Allow", Action: []string{"iam:CreateUser", "iam:TagUser"}, Resource: []string{path("user", "mark")}, Condition: tags("instance", "target", "boot", "epoch")},
		// Tombs, which may do nothing.
		{Effect: "Allow", Action: []string{"iam:CreateUser", "iam:TagUser"}, Resource: []string{path("user", "ended")}, Condition: tags("lease")},
		{Effect: "Allow", Action: []string{"iam:CreateRole", "iam:TagRole"}, Resource: []string{path("role", "ended")}, Condition: tags("lease")},
		{Effect: "Allow", Action: []string{"iam:PutUserPolicy", "iam:PutRolePolicy"}, Resource: []string{path("user", "ended"), path("role", "ended")}},
	}
	for _, kind := range m.Making.Kinds {
		all = append(all, m.live(kind, path(kind, "live"), tags("lease", "principal"))...)
	}
	return all
}

// live is what giving a user or role of a lease its rights takes. A condition on the boundary is in it where every role of
// the target has one.
func (m Manager) live(kind, path string, tags map[string]map[string][]string) []statement {
	title := strings.ToUpper(kind[:1]) + kind[1:]
	bounded := func(more map[string]map[string][]string) map[string]map[string][]string {
		if m.Making.Boundaries != nil {
			more["StringEquals"] = map[string][]string{"iam:PermissionsBoundary": m.Making.Boundaries}
		}
		return more
	}
	all := []statement{
		{Effect: "Allow", Action: []string{"iam:Create" + title}, Resource: []string{path}, Condition: bounded(map[string]map[string][]string{"ForAllValues:StringEquals": tags["ForAllValues:StringEquals"]})},
		{Effect: "Allow", Action: []string{"iam:Tag" + title}, Resource: []string{path}, Condition: tags},
		{Effect: "Allow", Action: []string{"iam:Put" + title + "Policy"}, Resource: []string{path}, Condition: bounded(map[string]map[string][]string{})},
	}
	if len(m.Making.Policies) > 0 {
		all = append(all, statement{Effect: "Allow", Action: []string{"iam:Attach" + title + "Policy"}, Resource: []string{path},
			Condition: bounded(map[string]map[string][]string{"ArnEquals": {"iam:PolicyARN": m.Making.Policies}})})
	}
	if kind == "user" {
		all = append(all, statement{Effect: "Allow", Action: []string{"iam:CreateAccessKey"}, Resource: []string{path}})
	}
	return all
}

// RoleName is the name of a manager's role at AWS, and RolePath where it stands.
func (m Manager) RoleName() string { return m.Principal[strings.LastIndexByte(m.Principal, '/')+1:] }

// RolePath is the path of a manager's role at AWS.
func (m Manager) RolePath() string {
	_, rest, _ := strings.Cut(m.Principal, ":role/")
	return "/" + strings.TrimSuffix(rest, m.RoleName())
}
