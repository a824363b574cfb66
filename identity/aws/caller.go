package aws

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/daypass/daypass/identity"
)

// The types of callers.
const (
	Role      = "role"      // a session of an assumed role: what workloads have
	User      = "user"      // an IAM user
	Federated = "federated" // a session of sts:GetFederationToken
	Root      = "root"      // the owner of an account
)

// caller is who STS says it is.
type caller struct {
	answer
	partition   string
	kind        string
	subject     string
	roleName    string
	roleID      string
	sessionName string
}

const maxSubject = 255 // bytes; identity.Principal promises it

// What the parts of an ARN look like (IAM user guide, "IAM and AWS STS quotas").
var (
	oneName  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	session  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}/[A-Za-z0-9_+=,.@-]{1,64}$`)
	pathName = regexp.MustCompile(`^([!-.0-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}$`)
	callerID = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
)

// parseCaller takes an ARN apart.
//
// The subject of a role is its ARN without the session's name. Whoever assumes a role chooses that name, so that with
// it a workload could leave a lock or a limit behind by choosing another. STS leaves the path of the role out, and we
// do not guess at it: the names of an account's roles differ without it, and what is left is exactly what STS says.
func parseCaller(a answer) (caller, error) {
	c := caller{answer: a, subject: a.arn}
	parts := strings.SplitN(a.arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[3] != "" || parts[4] != a.account {
		return c, fmt.Errorf("STS answers with what is no ARN of account %s", identity.Quote(a.account))
	}
	c.partition = parts[1]
	service, resource := parts[2], parts[5]
	kind, name, _ := strings.Cut(resource, "/")
	switch {
	case service == "sts" && kind == "assumed-role" && session.MatchString(name):
		c.kind = Role
		c.roleName, c.sessionName, _ = strings.Cut(name, "/")
		c.subject = strings.TrimSuffix(a.arn, "/"+c.sessionName)
		id, of, _ := strings.Cut(a.userID, ":")
		if !callerID.MatchString(id) || of != c.sessionName {
			return c, errors.New("STS answers with a role and a user ID that do not fit each other")
		}
		c.roleID = id
	case service == "sts" && kind == "federated-user" && oneName.MatchString(name):
		c.kind = Federated
	case service == "iam" && kind == "user" && pathName.MatchString(name) && callerID.MatchString(a.userID):
		c.kind = User
	case service == "iam" && resource == "root" && a.userID == a.account:
		c.kind = Root
	default:
		return c, identity.Reject(WhySubject, "the caller %s is neither a role, a user, a federated user nor root", identity.Quote(a.arn))
	}
	if len(c.subject) > maxSubject {
		return c, identity.Reject(WhySubject, "the subject has more than %d bytes", maxSubject)
	}
	return c, nil
}

// claims are what policies may ask of a caller. What only a role has is missing for others.
func (c caller) claims(e endpoint) map[string]any {
	all := map[string]any{
		"account": c.account, "arn": c.arn, "user_id": c.userID, "type": c.kind, "partition": c.partition, "region": e.region,
	}
	if c.kind == Role {
		all["role_name"], all["role_id"], all["session_name"] = c.roleName, c.roleID, c.sessionName
	}
	return all
}
