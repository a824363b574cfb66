package agent

import (
	"github.com/daypass/daypass/client"
)

// awsOverrides are variables by which AWS's tools would take other keys than ours, or take ours elsewhere.
var awsOverrides = []string{
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CREDENTIAL_EXPIRATION",
	"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE",
}

// awsVariables are what AWS's tools and SDKs read.
func awsVariables(prefix string, c client.Credential) []Variable {
	var all []Variable
	for _, m := range []struct{ variable, field string }{
		{"AWS_ACCESS_KEY_ID", "access_key_id"}, {"AWS_SECRET_ACCESS_KEY", "secret_access_key"}, {"AWS_SESSION_TOKEN", "session_token"},
		{"AWS_REGION", "region"}, {"AWS_DEFAULT_REGION", "region"}, {"AWS_ENDPOINT_URL", "endpoint"},
	} {
		if c.Has(m.field) {
			all = append(all, Variable{prefix + m.variable, c.Secret(m.field)})
		}
	}
	return all
}
