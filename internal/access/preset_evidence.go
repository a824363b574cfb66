package access

// evidencePresets are the vocabularies of evidence that comes with a verifier of its own.
func evidencePresets() []Preset {
	return []Preset{awsCaller(), spiffeIdentity(), clientCertificate(), enrolledDevice()}
}

// awsCaller is who AWS says signed a request (sts:GetCallerIdentity). Federated users and root can be told by `type`;
// what only a session of a role has is optional.
func awsCaller() Preset {
	return Preset{
		Name: "aws", Kind: "aws", Title: "AWS IAM", Type: "AWS::Caller",
		Docs:    "https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html",
		Subject: "arn:<partition>:sts::<tenant>:assumed-role/<project>",
		Known: []Claim{
			{Name: "account", Means: "ID of the account, twelve digits", Nature: Fixed, Pins: Tenant},
			{Name: "arn", Means: "ARN of the caller, with the name of its session", Nature: Chosen},
			{Name: "partition", Means: "aws, aws-cn, aws-us-gov or aws-eusc", Nature: Fixed},
			{Name: "region", Means: "region of the endpoint that vouched for it; the workload may choose any", Nature: Chosen},
			{Name: "role_id", Optional: true, Means: "ID of the role; another role of the same name has another", Nature: Fixed, Pins: Project},
			{Name: "role_name", Optional: true, Means: "name of the role, without its path", Nature: Mutable, Pins: Project, Partner: "role_id"},
			{Name: "session_name", Optional: true, Means: "name of the session: the instance ID on EC2, the function's name on Lambda", Nature: Chosen},
			{Name: "type", Means: "role, user, federated or root", Nature: Fixed},
			{Name: "user_id", Means: "ID of the caller; with the session's name for roles", Nature: Chosen},
		},
	}
}

// spiffeIdentity is what JWT-SVIDs and X509-SVIDs have in common, and what certificates have besides.
func spiffeIdentity() Preset {
	return Preset{
		Name: "spiffe", Kind: "spiffe", Title: "SPIFFE", Type: "SPIFFE::Workload",
		Docs:    "https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/",
		Subject: "spiffe://<tenant>/<project>",
		Known: []Claim{
			{Name: "fingerprint", Optional: true, Means: "SHA-256 of the X509-SVID, in hexadecimal", Nature: OfRun},
			{Name: "path", Means: "path of the SPIFFE ID, which begins with a slash; other trust domains have the same", Nature: Fixed},
			{Name: "serial", Optional: true, Means: "serial number of the X509-SVID, in hexadecimal", Nature: OfRun},
			{Name: "spiffe_id", Means: "the SPIFFE ID", Nature: Fixed, Pins: Project},
			{Name: "trust_domain", Means: "trust domain of the SPIFFE ID", Nature: Fixed, Pins: Tenant},
		},
	}
}

// clientCertificate is what a TLS client certificate says. Everything is there; what a certificate does not have is empty.
func clientCertificate() Preset {
	return Preset{
		Name: "mtls", Kind: "mtls", Title: "TLS client certificates", Type: "Certificate::Workload",
		Docs: "https://www.rfc-editor.org/rfc/rfc5280",
		Known: []Claim{
			{Name: "common_name", Means: "common name of the subject", Nature: Fixed, Pins: Project},
			{Name: "country", Kind: StringSet, Means: "countries of the subject", Nature: Fixed},
			{Name: "dns", Kind: StringSet, Means: "DNS names", Nature: Fixed, Pins: Project},
			{Name: "email", Kind: StringSet, Means: "addresses of mail", Nature: Fixed, Pins: Project},
			{Name: "fingerprint", Means: "SHA-256 of the certificate, in hexadecimal", Nature: OfRun},
			{Name: "ip", Kind: StringSet, Means: "IP addresses", Nature: Fixed},
			{Name: "issuer_dn", Means: "distinguished name of the authority that signed it", Nature: Fixed},
			{Name: "not_after", Kind: Long, Means: "until when it is good, in seconds since 1970", Nature: OfRun},
			{Name: "organization", Kind: StringSet, Means: "organizations of the subject", Nature: Fixed, Pins: Tenant},
			{Name: "organizational_unit", Kind: StringSet, Means: "organizational units of the subject", Nature: Fixed},
			{Name: "serial", Means: "serial number, in hexadecimal", Nature: OfRun},
			{Name: "subject_dn", Means: "distinguished name of the subject", Nature: Fixed, Pins: Project},
			{Name: "uri", Kind: StringSet, Means: "URIs", Nature: Fixed, Pins: Project},
		},
	}
}

// enrolledDevice is what is known of a device that was enrolled here. All of it stands in our own store.
func enrolledDevice() Preset {
	return Preset{
		Name: KindDevices, Kind: KindDevices, Title: "Enrolled devices", Type: "Device::Workload",
		Docs: "https://www.rfc-editor.org/rfc/rfc7523",
		Known: []Claim{
			{Name: "enrolled_at", Kind: Long, Means: "when it was enrolled, in seconds since 1970", Nature: Fixed},
			{Name: "labels", Kind: StringSet, Means: "what the administrator said of it at its enrolment, each as name=value", Nature: Fixed, Pins: Project},
			{Name: "name", Means: "name of the device; one that is removed frees it", Nature: Fixed, Pins: Project},
			{Name: "thumbprint", Means: "thumbprint of its key (RFC 7638), which changes when the device changes its key", Nature: Fixed, Pins: Project},
		},
	}
}
