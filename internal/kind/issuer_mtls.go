package kind

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/identity/mtls"
	"github.com/daypass/daypass/internal/access"
)

// MTLSIssuer is the `mtls:` section of an issuer: clients that show a certificate of a named authority.
type MTLSIssuer struct {
	// CA names the file below secrets_dir with the certificates (PEM) of the authorities.
	CA FileName `yaml:"ca" json:"ca"`
	// Subject says which name of a certificate is the subject: uri, dns, email, cn or serial.
	Subject string `yaml:"subject" json:"subject"`
	// CRL names the file below secrets_dir with the revocation lists (PEM, or one in DER) of every authority that may
	// stand in a chain. It is read again within a minute of being replaced. Absent: nothing is revoked.
	CRL FileName `yaml:"crl" json:"crl,omitzero"`
	// ID is a URI that tells this issuer from every other, for ever; locks hold it. urn:daypass:mtls:<name> unless given.
	ID string `yaml:"id" json:"id,omitempty"`
}

// Validate returns what keeps the section from being used.
func (s MTLSIssuer) Validate() error {
	if s.CA.File == "" {
		return errors.New("the authorities are missing: ca: {file: …}")
	}
	if u, err := url.Parse(s.ID); s.ID != "" && (err != nil || u.Scheme == "" || len(s.ID) > 512 || strings.ContainsAny(s.ID, " \t\r\n")) {
		return fmt.Errorf("the id %.40q is not a URI", s.ID)
	}
	_, err := mtls.ParseRule(s.Subject)
	return err
}

// URL implements what package access asks of settings.
func (s MTLSIssuer) URL(issuer string) string {
	if s.ID != "" {
		return s.ID
	}
	return mtls.DefaultID(issuer)
}

func mtlsIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[MTLSIssuer], Vocabulary: "mtls",
			Instead: "what a certificate says of its subject stands in the vocabulary; other extensions are not read"},
		open: openMTLS,
		files: func(issuer access.Issuer) ([]reference, error) {
			// Not the revocation lists: they are read while the verifier runs, and may be missing for a moment.
			settings, err := readIssuer[MTLSIssuer](issuer)
			return []reference{{settings.CA.File, true}}, err
		},
	}
}

// certificateRelied is how long a certificate counts that was looked at: its authority may revoke it, or it may expire.
const certificateRelied = 5 * time.Minute

func openMTLS(order IssuerOrder) (OpenIssuer, error) {
	settings, err := readIssuer[MTLSIssuer](order.Config)
	if err != nil {
		return OpenIssuer{}, err
	}
	cfg := mtls.Config{Name: order.Config.Name, ID: order.Config.URL, Subject: mtls.Rule(settings.Subject), Now: order.Now}
	if cfg.CA, err = order.Secrets.Certificates(settings.CA.File); err != nil {
		return OpenIssuer{}, fmt.Errorf("ca of issuer %q: %w", order.Config.Name, err)
	}
	if file := settings.CRL.File; file != "" {
		cfg.Revocations = func() ([]byte, error) { return order.Secrets.Read(file) }
	}
	v, err := mtls.New(cfg)
	return OpenIssuer{Certificates: v, Relied: certificateRelied}, err
}
