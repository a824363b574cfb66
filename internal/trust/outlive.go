package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/daypass/daypass/internal/access"
)

// outliving looks for rights by which a lease may make what does not end with it: accounts, keys and bindings of others.
// Daypass takes back what it made, and what the credential was given; what else its holder makes there is the target's.
func (l *linter) outliving(role access.Role) {
	var all struct {
		PerLease json.RawMessage `json:"per_lease"`
		Policy   struct {
			Statement json.RawMessage
		} `json:"policy"`
		PolicyARNs []string `json:"policy_arns"`
		Boundary   string   `json:"permissions_boundary"`
	}
	if json.Unmarshal(role.Rights, &all) != nil || all.PerLease == nil {
		return // of what exists already, this is whoever's made it to say
	}
	switch l.config.Targets[role.Target].Kind {
	case "kubernetes":
		var account struct {
			Bind []struct {
				ClusterRole string `json:"cluster_role"`
			} `json:"bind"`
		}
		if json.Unmarshal(all.PerLease, &account) != nil {
			return
		}
		for _, b := range account.Bind {
			if slices.Contains([]string{"cluster-admin", "admin", "edit"}, b.ClusterRole) || strings.HasPrefix(b.ClusterRole, "system:") {
				l.outlives(role, fmt.Sprintf("accounts of role %q have the cluster role %s: with it they can make tokens, pods or bindings that stay", role.Name, b.ClusterRole),
					"bind a role of your own that may neither create pods, secrets, serviceaccounts/token and bindings nor bind, escalate and impersonate")
				return
			}
		}
	case "aws":
		if what := iamRights(all.Policy.Statement, all.PolicyARNs); what != "" && all.Boundary == "" {
			l.outlives(role, fmt.Sprintf("what role %q makes per lease has %s: with it it can make users, keys and roles that stay", role.Name, what),
				"name the actions that are needed, or a permissions_boundary that has no iam:*")
		}
	}
}

func (l *linter) outlives(role access.Role, why, fix string) {
	l.place("outliving-rights", Warning, role.Place, why, fix)
}

// iamRights returns an action or a managed policy that lets its holder change who may do what in the account; empty where
// there is none. An action that is allowed by leaving others out (NotAction) may be any.
func iamRights(statements json.RawMessage, managed []string) string {
	for _, arn := range managed {
		if _, name, ok := strings.Cut(arn, ":policy/"); ok && slices.Contains([]string{"AdministratorAccess", "IAMFullAccess"}, name) {
			return "the managed policy " + name
		}
	}
	for _, statement := range oneOrMany[map[string]json.RawMessage](statements) {
		if text(statement["Effect"]) != "Allow" {
			continue
		}
		if statement["NotAction"] != nil {
			return "every action but some (NotAction)"
		}
		for _, action := range oneOrMany[string](statement["Action"]) {
			service, name, _ := strings.Cut(strings.ToLower(action), ":")
			reads := strings.HasPrefix(name, "get") || strings.HasPrefix(name, "list") || strings.HasPrefix(name, "simulate")
			if !strings.ContainsAny(service, "*?") && service != "iam" || service == "iam" && reads {
				continue
			}
			return "the action " + action
		}
	}
	return ""
}

func text(value json.RawMessage) (out string) {
	_ = json.Unmarshal(value, &out) // what is no text says nothing
	return out
}

// oneOrMany reads a value that stands alone or in a list, as those of AWS policies do.
func oneOrMany[T any](value json.RawMessage) (all []T) {
	if json.Unmarshal(value, &all) == nil {
		return all
	}
	var one T
	if json.Unmarshal(value, &one) != nil {
		return nil
	}
	return []T{one}
}
