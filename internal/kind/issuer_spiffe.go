package kind

import (
	"fmt"

	"github.com/daypass/daypass/identity/spiffe"
	"github.com/daypass/daypass/internal/access"
)

// SPIFFEScheme begins SPIFFE IDs and the URLs of trust domains.
const SPIFFEScheme = "spiffe://"

// SPIFFEIssuer is the `spiffe:` section of an issuer: workloads of one trust domain.
type SPIFFEIssuer struct {
	// TrustDomain is the name of the trust domain, such as example.org.
	TrustDomain string `yaml:"trust_domain" json:"trust_domain"`
	// Bundle names the file below secrets_dir with the bundle in the JWKS form of SPIFFE. A file that is replaced counts
	// within a minute. With an endpoint of the profile https_spiffe it is the first bundle.
	Bundle FileName `yaml:"bundle" json:"bundle,omitzero"`
	// Endpoint is where the bundle is fetched from; absent: it comes from the file.
	Endpoint SPIFFEEndpoint `yaml:"endpoint" json:"endpoint,omitzero"`
	// Once makes each JWT-SVID good once, by its `jti`; one without is refused. X509-SVIDs are shown with their key, in a
	// handshake that nobody can use again.
	Once bool `yaml:"single_use" json:"single_use,omitempty"`
}

// SPIFFEEndpoint is the `endpoint:` of a `spiffe:` section.
type SPIFFEEndpoint struct {
	// URL is the https URL of the bundle endpoint.
	URL string `yaml:"url" json:"url"`
	// Profile is https_web or https_spiffe.
	Profile string `yaml:"profile" json:"profile"`
	// ID is the SPIFFE ID of the endpoint, in the trust domain; for https_spiffe.
	ID string `yaml:"id" json:"id,omitempty"`
	// CA names the file below secrets_dir with the certificates (PEM) to trust instead of the system's; for https_web.
	CA FileName `yaml:"ca" json:"ca,omitzero"`
}

// config is the verifier's part of the section, with files read by read.
func (s SPIFFEIssuer) config(read func(name string) ([]byte, error)) spiffe.Config {
	cfg := spiffe.Config{TrustDomain: s.TrustDomain}
	cfg.Bundle = spiffe.Bundle{Endpoint: s.Endpoint.URL, Profile: s.Endpoint.Profile, ServerID: s.Endpoint.ID}
	if s.Bundle.File != "" {
		cfg.Bundle.File = func() ([]byte, error) { return read(s.Bundle.File) }
	}
	return cfg
}

// Validate returns what keeps the section from being used.
func (s SPIFFEIssuer) Validate() error {
	cfg := s.config(func(string) ([]byte, error) { return nil, nil })
	cfg.Name, cfg.Audience, cfg.Now = "x", "x", noTime
	if s.Endpoint.CA.File != "" && s.Endpoint.Profile != spiffe.Web {
		return fmt.Errorf("authorities of the web are for the profile %s", spiffe.Web)
	}
	return check(spiffe.New(cfg))
}

// URL implements what package access asks of settings.
func (s SPIFFEIssuer) URL(string) string {
	url, err := spiffe.URL(s.TrustDomain)
	if err != nil {
		return SPIFFEScheme // Validate says what is wrong
	}
	return url
}

// SingleUse implements what package access asks of settings.
func (s SPIFFEIssuer) SingleUse() bool { return s.Once }

func spiffeIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[SPIFFEIssuer], Vocabulary: "spiffe", Declares: true},
		open:       openSPIFFE,
		files: func(issuer access.Issuer) ([]reference, error) {
			// Not the bundle: it is read while the verifier runs, and may be missing for a moment.
			settings, err := readIssuer[SPIFFEIssuer](issuer)
			if settings.Endpoint.CA.File == "" {
				return nil, err
			}
			return []reference{{settings.Endpoint.CA.File, true}}, err
		},
	}
}

func openSPIFFE(order IssuerOrder) (OpenIssuer, error) {
	settings, err := readIssuer[SPIFFEIssuer](order.Config)
	if err != nil {
		return OpenIssuer{}, err
	}
	cfg := settings.config(order.Secrets.Read)
	cfg.Bundle.Egress, cfg.Observer = order.Egress, order.Observer
	cfg.Name, cfg.Audience, cfg.Keys, cfg.Now, cfg.Log = order.Config.Name, order.Audience, order.Keys, order.Now, order.Log
	if file := settings.Endpoint.CA.File; file != "" {
		if cfg.Bundle.CA, err = order.Secrets.Certificates(file); err != nil {
			return OpenIssuer{}, fmt.Errorf("ca of issuer %q: %w", order.Config.Name, err)
		}
	}
	v, err := spiffe.New(cfg)
	if err != nil {
		return OpenIssuer{}, err
	}
	return OpenIssuer{Tokens: v, Certificates: v, Run: v.Run, Status: v.Status}, nil
}
