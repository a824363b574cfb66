package kind

import (
	"time"

	"github.com/daypass/daypass/identity/aws"
	"github.com/daypass/daypass/internal/access"
)

// AWSIssuer is the `aws:` section of an issuer: workloads that sign a request with the AWS credentials they have.
type AWSIssuer struct {
	// Accounts are the account IDs, of twelve digits and in quotes, whose workloads count.
	Accounts []string `yaml:"accounts" json:"accounts"`
	// Partition is aws (the default), aws-cn, aws-us-gov or aws-eusc.
	Partition string `yaml:"partition" json:"partition,omitempty"`
	// Once makes each signed request good once, by its signature. A workload signs another one as often as it likes.
	Once bool `yaml:"single_use" json:"single_use,omitempty"`
}

// config is the verifier's part of the section.
func (s AWSIssuer) config() aws.Config {
	return aws.Config{Accounts: s.Accounts, Partition: s.Partition}
}

// Validate returns what keeps the section from being used.
func (s AWSIssuer) Validate() error {
	return check(s.open(IssuerOrder{Config: access.Issuer{Name: "x"}, Audience: "x", Now: noTime}))
}

// URL implements what package access asks of settings.
func (s AWSIssuer) URL(string) string {
	partition := s.Partition
	if partition == "" {
		partition = aws.DefaultPartition
	}
	url, _ := aws.URL(partition)
	return url
}

// SingleUse implements what package access asks of settings.
func (s AWSIssuer) SingleUse() bool { return s.Once }

func (s AWSIssuer) open(order IssuerOrder) (*aws.Verifier, error) {
	cfg := s.config()
	cfg.Name, cfg.Audience, cfg.Egress, cfg.Now = order.Config.Name, order.Audience, order.Egress, order.Now
	return aws.New(cfg)
}

// noTime is the clock of a verifier that is made to see whether it can be, and verifies nothing.
func noTime() time.Time { return time.Time{} }

// check drops the value of a constructor that was called to see whether it can be.
func check[T any](_ T, err error) error { return err }

func awsIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[AWSIssuer], Vocabulary: "aws",
			Instead: "AWS says who the caller is and nothing else: its account, role and session stand in the vocabulary"},
		Prefix: aws.Prefix, Claimed: aws.ClaimedURL,
		open: func(order IssuerOrder) (OpenIssuer, error) {
			settings, err := readIssuer[AWSIssuer](order.Config)
			if err != nil {
				return OpenIssuer{}, err
			}
			v, err := settings.open(order)
			return OpenIssuer{Tokens: v}, err
		},
	}
}
