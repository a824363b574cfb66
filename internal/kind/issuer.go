package kind

import (
	"context"
	"log/slog"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/oidc"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// Issuer is a kind of issuer: how access files write it, and how its evidence is checked.
type Issuer struct {
	access.IssuerKind
	open func(order IssuerOrder) (OpenIssuer, error)
	// files are the references of its settings to files below secrets_dir; nil where there are none.
	files func(access.Issuer) ([]reference, error)

	// Prefix begins the tokens of this kind that no JSON Web Token is; empty where there are none.
	Prefix string
	// Claimed reads which issuer such a token names, where there can be several of the kind; nil where there is one.
	Claimed func(secret.Text) (url string, err error)
}

// IssuerOrder is what an issuer's verifier is made from.
type IssuerOrder struct {
	Config   access.Issuer
	Audience string // our own URL
	Keys     oidc.KeyStore
	Store    *store.Store
	Secrets  secretdir.Dir
	Observer oidc.Observer
	Egress   egress.Dialer
	Now      func() time.Time
	Log      *slog.Logger
}

// OpenIssuer is what checks the evidence of one issuer.
type OpenIssuer struct {
	Tokens       identity.Verifier            // nil: the issuer has none
	Certificates identity.CertificateVerifier // nil: the issuer has none
	Run          func(context.Context) error  // keeps its keys fresh until the context ends; nil where that is nothing to do
	Status       func() oidc.Status           // of its keys; nil where it has none of its own
	Relied       time.Duration                // how long its word counts that it can take back; zero: it cannot
}

// Open makes what checks the issuer's evidence. It asks nobody anything.
func (k Issuer) Open(order IssuerOrder) (OpenIssuer, error) { return k.open(order) }

// Fingerprint is a hash of all that a verifier is made from, its files included.
func (k Issuer) Fingerprint(i access.Issuer, dir secretdir.Dir) (string, error) {
	var files []reference
	if k.files != nil {
		var err error
		if files, err = k.files(i); err != nil {
			return "", err
		}
	}
	return fingerprint(files, dir, i.Name, i.Kind, i.URL, i.Preset, i.OIDC, i.Settings)
}

// FileName refers to a file below secrets_dir.
type FileName struct {
	File string `yaml:"file" json:"file,omitempty"`
}

// readIssuer reads the section of an issuer back from the form in which the configuration keeps it.
func readIssuer[S any](i access.Issuer) (S, error) {
	return read[S](i.Settings, "settings of issuer", i.Name)
}
