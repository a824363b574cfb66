package access

import "time"

// providerPresets are identity providers that one runs, or has run, for many applications. What their tokens carry is for
// their administrators to say: an issuer's `claims` adds to these.
func providerPresets() []Preset {
	return []Preset{okta(), auth0(), keycloak()}
}

// okta is a custom authorisation server of Okta, by client credentials. The server of the organisation itself, without
// /oauth2/ID, signs access tokens that only Okta may look into.
func okta() Preset {
	return Preset{
		Name: "okta", Title: "Okta", Type: "Okta::Workload",
		Docs:       "https://developer.okta.com/docs/reference/api/oidc/#access-token",
		Forms:      []Form{{"https://HOST/oauth2/SERVER-ID, such as https://acme.okta.com/oauth2/default", `https://` + hostPattern + `/oauth2/` + slugPattern}},
		Subject:    "<project>",
		Audience:   Audience{Usual: "that of the authorisation server", Ours: true, How: "the audience of the authorisation server, which is one for all of its tokens: make one for this server"},
		Algorithms: []string{"RS256"}, Age: time.Hour,
		Known: []Claim{
			{Name: "cid", Means: "ID of the application that asked for the token", Nature: Fixed, Pins: Project},
			{Name: "scp", Kind: StringSet, Optional: true, Means: "scopes that were granted", Nature: State},
			{Name: "uid", Optional: true, Means: "ID of the user, where there is one", Nature: Fixed},
		},
	}
}

// auth0 is a tenant of Auth0, by client credentials. The issuer's URL ends with a slash.
func auth0() Preset {
	return Preset{
		Name: "auth0", Title: "Auth0", Type: "Auth0::Workload",
		Docs:       "https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles",
		Forms:      []Form{{"https://TENANT.auth0.com/ with the slash, or your own domain", `https://` + hostPattern + `/`}},
		Subject:    "<project>",
		Audience:   Audience{Usual: "the API that is asked for", Ours: true, How: "the identifier of an API that stands for this server"},
		Algorithms: []string{"RS256", "PS256"}, Types: []string{"JWT", "at+jwt", ""}, Age: 24 * time.Hour,
		Known: []Claim{
			{Name: "azp", Optional: true, Means: "ID of the application that asked for the token", Nature: Fixed, Pins: Project},
			{Name: "client_id", Optional: true, Means: "the same, in tokens of RFC 9068", Nature: Fixed, Pins: Project},
			{Name: "gty", Optional: true, Means: "client-credentials where no user is behind the token", Nature: State},
			{Name: "permissions", Kind: StringSet, Optional: true, Means: "permissions that were granted", Nature: State},
			{Name: "scope", Optional: true, Means: "scopes that were granted, with spaces between", Nature: State},
		},
	}
}

// keycloak is a realm of Keycloak, by client credentials. The roles of the realm and of its clients are nested, and are
// lifted: realm_access.roles, and resource_access.CLIENT.roles for those that an issuer's `claims` declares.
func keycloak() Preset {
	return Preset{
		Name: "keycloak", Title: "Keycloak", Type: "Keycloak::Workload",
		Docs:    "https://www.keycloak.org/docs/latest/server_admin/#_service_accounts",
		Forms:   []Form{{"https://HOST/realms/REALM", `https://` + hostPattern + `(?:/` + slugPattern + `)*/realms/` + slugPattern}},
		Subject: "<project>", Flatten: [][]string{{"realm_access", "roles"}, {"resource_access", "*", "roles"}},
		Audience: Audience{Usual: "account, and clients whose roles it has", Ours: true, How: "a client scope with an audience mapper for this server, and none besides: a token for several is refused"},
		Age:      5 * time.Minute,
		Known: []Claim{
			{Name: "azp", Means: "name of the client that asked for the token", Nature: Mutable, Pins: Project},
			{Name: "client_id", Optional: true, Means: "the same, where the service account's mapper is there", Nature: Mutable, Pins: Project},
			{Name: "preferred_username", Optional: true, Means: "service-account- and the client's name", Nature: Mutable},
			{Name: "realm_access.roles", Kind: StringSet, Optional: true, Means: "roles of the realm", Nature: State},
			{Name: "scope", Optional: true, Means: "scopes that were granted, with spaces between", Nature: State},
		},
	}
}
