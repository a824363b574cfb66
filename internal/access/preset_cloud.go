package access

import "time"

// cloudPresets are clouds that tell who their machines and services are.
func cloudPresets() []Preset {
	return []Preset{google(), entra(), awsToken()}
}

// google is Google as issuer of identity tokens for service accounts. Anybody can have one, for any audience. What a
// token of a Compute Engine machine says in `google` is lifted: {"google": {"compute_engine": {"zone": …}}} becomes
// google.compute_engine.zone. It is there where the token was asked for with format=full, and license_id with licenses=TRUE.
func google() Preset {
	const gce = "google.compute_engine."
	names := []string{"instance_confidentiality", "instance_creation_timestamp", "instance_id", "instance_name", "license_id", "project_id", "project_number", "zone"}
	var nested [][]string
	for _, name := range names {
		nested = append(nested, []string{"google", "compute_engine", name})
	}
	return Preset{
		Name: "google", Title: "Google service accounts", Type: "Google::Workload",
		Docs: "https://cloud.google.com/compute/docs/instances/verifying-instance-identity",
		URL:  "https://accounts.google.com", Shared: []string{"https://accounts.google.com"},
		Forms: []Form{{"https://accounts.google.com", `https://accounts\.google\.com`}},
		Run:   []string{gce + "instance_id"}, Subject: "<project>", Flatten: nested,
		Audience:   Audience{Usual: "what is asked for: there is none by itself", Ours: true, How: "`audience=` of the metadata server's identity endpoint, or `gcloud auth print-identity-token --audiences=…`"},
		Algorithms: []string{"RS256"}, Types: []string{"JWT"}, Age: time.Hour,
		Known: []Claim{
			{Name: "azp", Means: "who asked for the token: the account's ID", Nature: Fixed, Pins: Project},
			{Name: "email", Optional: true, Means: "address of the service account, which a later account can have again", Nature: Mutable, Pins: Project, Partner: "azp"},
			{Name: "email_verified", Kind: Bool, Optional: true, Means: "true for service accounts", Nature: State},
			{Name: gce + "instance_confidentiality", Kind: Long, Optional: true, Means: "1 on a confidential machine", Nature: State},
			{Name: gce + "instance_creation_timestamp", Kind: Long, Optional: true, Means: "when the machine was made, in seconds since 1970", Nature: Fixed},
			{Name: gce + "instance_id", Optional: true, Means: "ID of the machine", Nature: Fixed},
			{Name: gce + "instance_name", Optional: true, Means: "name of the machine, within its project and zone", Nature: Mutable, Partner: gce + "instance_id"},
			{Name: gce + "license_id", Kind: StringSet, Optional: true, Means: "licences of the machine's image", Nature: State},
			{Name: gce + "project_id", Optional: true, Means: "project of the machine; nobody can have it again", Nature: Fixed, Pins: Tenant},
			{Name: gce + "project_number", Kind: Long, Optional: true, Means: "number of the machine's project", Nature: Fixed, Pins: Tenant},
			{Name: gce + "zone", Optional: true, Means: "zone of the machine", Nature: State},
		},
	}
}

// entra is a tenant of Entra ID, which signs tokens for its managed identities and other applications. Which of the two
// issuers a token names is for the application that it is for to say (accessTokenAcceptedVersion): v1 has appid, v2 has
// azp. Claims are there only where they have a value. Tokens live a day, and say that they are five minutes older.
func entra() Preset {
	return Preset{
		Name: "entra", Title: "Entra ID managed identities", Type: "Entra::Workload",
		Docs: "https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference",
		Forms: []Form{
			{"https://login.microsoftonline.com/TENANT-ID/v2.0 (version 2)", `https://login\.microsoftonline\.(?:com|us)/` + uuidPattern + `/v2\.0`},
			{"https://sts.windows.net/TENANT-ID/ (version 1, with the slash)", `https://sts\.windows\.net/` + uuidPattern + `/`},
		},
		Subject:    "<project>",
		Audience:   Audience{Usual: "the application that is asked for", How: "the application ID of the registration that stands for this server (version 2), or its URI (version 1): az account get-access-token --resource api://…"},
		Algorithms: []string{"RS256"}, Types: []string{"JWT"}, Age: 24 * time.Hour, MaxAge: 25 * time.Hour,
		Known: []Claim{
			{Name: "appid", Optional: true, Means: "application ID of the identity (version 1)", Nature: Fixed, Pins: Project},
			{Name: "appidacr", Optional: true, Means: "how the application proved itself: 2 by certificate (version 1)", Nature: State},
			{Name: "azp", Optional: true, Means: "application ID of the identity (version 2)", Nature: Fixed, Pins: Project},
			{Name: "azpacr", Optional: true, Means: "how the application proved itself: 2 by certificate (version 2)", Nature: State},
			{Name: "groups", Kind: StringSet, Optional: true, Means: "object IDs of groups", Nature: Fixed},
			{Name: "idp", Optional: true, Means: "who authenticated the identity", Nature: State},
			{Name: "idtyp", Optional: true, Means: "app where no user is behind the token", Nature: State},
			{Name: "oid", Optional: true, Means: "object ID of the identity in its tenant", Nature: Fixed, Pins: Project},
			{Name: "roles", Kind: StringSet, Optional: true, Means: "application roles that were given to the identity", Nature: State},
			{Name: "tid", Optional: true, Means: "ID of the tenant", Nature: Fixed, Pins: Tenant},
			{Name: "ver", Optional: true, Means: "1.0 or 2.0", Nature: State},
			{Name: "xms_az_rid", Optional: true, Means: "resource that uses a user-assigned identity", Nature: Mutable},
			{Name: "xms_mirid", Optional: true, Means: "resource ID of the managed identity: /subscriptions/…", Nature: Mutable, Pins: Project, Partner: "oid"},
		},
	}
}

// awsToken is an AWS account as issuer of web identity tokens (sts:GetWebIdentityToken). What AWS says of the principal
// is nested under "https://sts.amazonaws.com/", and is lifted: "https://sts.amazonaws.com/.aws_account". Tags are too, each
// under its own name; those of the request are whatever the caller says. Role names can be used again.
func awsToken() Preset {
	const ns = "https://sts.amazonaws.com/"
	var nested [][]string
	for _, name := range []string{"aws_account", "ec2_source_instance_arn", "lambda_source_function_arn", "org_id", "ou_path", "source_identity", "source_region"} {
		nested = append(nested, []string{ns, name})
	}
	nested = append(nested, []string{ns, "principal_tags", "*"}, []string{ns, "request_tags", "*"})
	return Preset{
		Name: "aws-web-identity", Title: "AWS outbound identity federation", Type: "AWSToken::Workload",
		Docs:    "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html",
		Forms:   []Form{{"https://ID.tokens.sts.global.api.aws, as `aws iam get-outbound-web-identity-federation-info` says", `https://[a-z0-9-]+\.tokens\.sts\.global\.api\.aws`}},
		Subject: "arn:aws:iam::<tenant>:<project>", Flatten: nested,
		Audience:   Audience{Usual: "what is asked for: there is none by itself", Ours: true, How: "`aws sts get-web-identity-token --audience …`"},
		Algorithms: []string{"ES384", "RS256"}, Age: 5 * time.Minute,
		Known: []Claim{
			{Name: ns + ".aws_account", Optional: true, Means: "ID of the account", Nature: Fixed, Pins: Tenant},
			{Name: ns + ".ec2_source_instance_arn", Optional: true, Means: "the machine that the role's credentials are of", Nature: Fixed},
			{Name: ns + ".lambda_source_function_arn", Optional: true, Means: "the function that the role's credentials are of", Nature: Mutable},
			{Name: ns + ".org_id", Optional: true, Means: "ID of the organisation of the account", Nature: Fixed, Pins: Tenant},
			{Name: ns + ".ou_path", Optional: true, Means: "place of the account in the organisation", Nature: Mutable, Partner: ns + ".aws_account"},
			{Name: ns + ".source_identity", Optional: true, Means: "source identity of the session", Nature: Chosen},
			{Name: ns + ".source_region", Optional: true, Means: "region that the token was asked for in", Nature: State},
		},
	}
}
