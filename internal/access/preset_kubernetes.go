package access

import "time"

// kubernetesPresets are the vocabularies of Kubernetes.
func kubernetesPresets() []Preset { return []Preset{kubernetes()} }

// kubernetes is a cluster that Daypass knows by its kind, which lifts the nested claims under names of their own.
func kubernetes() Preset {
	return Preset{
		Name: "kubernetes", Kind: "kubernetes", Title: "Kubernetes", Type: "Kubernetes::Workload",
		Docs:     "https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/",
		Subject:  "system:serviceaccount:<tenant>:<project>",
		Run:      []string{"pod_uid"},
		Audience: Audience{Usual: "the API server's own", Ours: true, How: "`serviceAccountToken: {audience: …}` in a projected volume of the pod"},
		Age:      time.Hour,
		Known: []Claim{
			{Name: "namespace", Means: "namespace of the account", Nature: Fixed, Pins: Tenant},
			// A later account of the same name is made by who may make accounts in the namespace, and so is as much theirs.
			{Name: "service_account", Means: "name of the account; service_account_uid tells it from a later one", Nature: Fixed, Pins: Within},
			{Name: "service_account_uid", Means: "UID of the account: another one when it is deleted and made again", Nature: Fixed, Pins: Project},
			{Name: "pod", Optional: true, Means: "name of the pod that the token was made for", Nature: OfRun},
			{Name: "pod_uid", Optional: true, Means: "UID of that pod", Nature: OfRun},
			{Name: "node", Optional: true, Means: "name of the node that the pod runs on", Nature: State, Pins: Runner},
			{Name: "node_uid", Optional: true, Means: "UID of that node", Nature: State, Pins: Runner},
			{Name: "credential_id", Optional: true, Means: "ID of the token, as the API server's audit log has it", Nature: OfRun},
		},
	}
}
