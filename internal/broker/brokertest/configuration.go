package brokertest

import (
	"github.com/daypass/daypass/internal/access"
)

// Access is the access file of [Configuration]: who may come, a target in memory and two of its roles.
const Access = `
kind: Issuer
name: ci
oidc: {url: "https://ci.example.com"}
claims: {team: string, level: long?}
---
kind: Issuer
name: ops
oidc: {url: "https://ops.example.com"}
claims: {team: string}
---
kind: Target
name: vault
memory: {}
---
kind: Role
name: reader
target: vault
ttl: {default: 10m, max: 30m}
limits: {live: 100, per_principal: 20}
renew: handle
memory: {read: true}
---
kind: Role
name: writer
target: vault
ttl: {default: 10m, max: 30m, over: refuse}
memory: {read: true}
`

// Policies are those of [Configuration].
const Policies = `
@id("payments-read")
permit (principal is Workload, action in [Action::"acquire", Action::"renew"], resource == Role::"reader")
when { principal.claims.team == "payments" };

@id("payments-write")
permit (principal is Workload, action == Action::"acquire", resource == Role::"writer")
when { principal.claims.team == "payments" };

permit (principal in Issuer::"ops", action in [Action::"read", Action::"lock", Action::"configure", Action::"revoke"], resource);
`

const (
	machines = `---
kind: Posture
name: machine
of: {ci: sub}
fields: {healthy: bool, patches: long?}
max_age: 10m
`
	operators = `
permit (principal in Issuer::"ops", action in [Action::"read", Action::"configure"], resource);
permit (principal in Issuer::"ops", action == Action::"report", resource == Posture::"machine");
`
	devices = `---
kind: Issuer
name: edge
devices: {term: 1h}
`
)

// WhileHealthy is a policy for [WithPosture]: whose machine is healthy may have any role.
const WhileHealthy = `permit (principal in Issuer::"ci", action in [Action::"acquire", Action::"renew"], resource)
when { context.posture has machine && context.posture.machine.healthy };`

// Configuration is what most desks serve: the team payments may read and write, and operators do their work.
func Configuration() access.Files {
	return access.Files{"access.yaml": Access, "policies.cedar": Policies}
}

// WithPosture is a configuration with a source of posture, which operators report, and these policies.
func WithPosture(policies string) access.Files {
	return access.Files{"access.yaml": Access + machines, "policies.cedar": policies + operators}
}

// WithDevices is [Configuration] with an issuer of devices, named edge, that may read.
func WithDevices() access.Files {
	return access.Files{"access.yaml": Access + devices, "policies.cedar": Policies +
		`permit (principal is Device::Workload, action, resource == Role::"reader");`}
}
