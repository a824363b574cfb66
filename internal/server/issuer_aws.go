package server

import (
	"encoding/json"
	"fmt"
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
}

// config is the verifier's part of the section.
func (s AWSIssuer) config() aws.Config {
	return aws.Config{Accounts: s.Accounts, Partition: s.Partition}
}

// Validate returns what keeps the section from being used.
func (s AWSIssuer) Validate() error {
	return check(s.open(issuerOrder{config: access.Issuer{Name: "x"}, audience: "x", now: time.Now}))
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

func (s AWSIssuer) open(order issuerOrder) (*aws.Verifier, error) {
	cfg := s.config()
	cfg.Name, cfg.Audience, cfg.Egress, cfg.Now = order.config.Name, order.audience, order.egress, order.now
	return aws.New(cfg)
}

// check drops the value of a constructor that was called to see whether it can be.
func check[T any](_ T, err error) error { return err }

func awsIssuers() issuerKind {
	return issuerKind{
		IssuerKind: access.IssuerKind{Settings: decode[AWSIssuer], Vocabulary: "aws"},
		prefix:     aws.Prefix, claimed: aws.ClaimedURL,
		open: func(order issuerOrder) (openIssuer, error) {
			settings, err := readIssuer[AWSIssuer](order.config)
			if err != nil {
				return openIssuer{}, err
			}
			v, err := settings.open(order)
			return openIssuer{tokens: v}, err
		},
	}
}

// readIssuer reads the section of an issuer back from the form in which the configuration keeps it.
func readIssuer[S any](issuer access.Issuer) (settings S, err error) {
	if err = json.Unmarshal(issuer.Settings, &settings); err != nil {
		err = fmt.Errorf("read the settings of issuer %q: %w", issuer.Name, err)
	}
	return settings, err
}
