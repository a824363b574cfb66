// Package aws verifies who a workload is to AWS: one [Verifier] for the accounts of one partition.
//
// The evidence is a request for sts:GetCallerIdentity that the workload signed with its AWS credentials and did not
// send. We send it, and STS says whose signature it is; no AWS credential is held here or passes through. The room
// owns what such a request may look like (evidence.go), where it may go (region.go), what STS may answer (answer.go)
// and who that is (caller.go). It promises that nothing but this one request is ever sent, to nobody but STS, that a
// request signed for another server is refused, and that one is good for minutes. It does not remember requests:
// who must refuse a second use of one has its ID.
//
// The package imports identity, secret and api. Package client/aws makes the evidence. The exchange was verified with
// recorded answers and with signatures of the official SDK, not against the real service.
package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

// What [Config] means where it says nothing.
const (
	DefaultPartition = "aws"
	DefaultMaxAge    = 5 * time.Minute
	DefaultLeeway    = 30 * time.Second
	MaxLeeway        = 2 * time.Minute
	DefaultTimeout   = 5 * time.Second
)

// maxCalls bounds how many calls to STS are on their way at once: each costs a connection, and strangers can make them.
const maxCalls = 32

// Config is one issuer. Name, Audience, Accounts and Now are required.
type Config struct {
	Name      string   // in the access configuration, such as "aws"
	Audience  string   // our own URL, which the workload signs in the header X-Daypass-Server, byte for byte
	Partition string   // of the accounts: aws, aws-cn, aws-us-gov or aws-eusc; [DefaultPartition] unless given
	Accounts  []string // twelve digits each: whose workloads count. Everybody can have an account, so that there is no "all"

	// MaxAge is how long a request is good after it was signed; [DefaultMaxAge] unless given, which is what STS
	// itself allows, and at most that.
	MaxAge time.Duration
	// Leeway is how far the workload's clock may be from ours; [DefaultLeeway] unless given, at most [MaxLeeway].
	Leeway time.Duration
	// Timeout bounds one call to STS; [DefaultTimeout] unless given.
	Timeout time.Duration

	// Client speaks to STS; redirects are refused and time is bounded with it too. One that trusts the system's
	// authorities unless given.
	Client *http.Client
	// Egress makes the connections, unless Client is given.
	Egress egress.Dialer
	// Endpoint, in tests, is where requests go instead of to STS: the base of a URL on loopback.
	Endpoint string

	Now func() time.Time
}

// Verifier verifies evidence of one partition.
type Verifier struct {
	cfg    Config
	url    string // the issuer's
	client *http.Client
	calls  chan struct{} // holds one value for each call on its way
}

var _ identity.Verifier = (*Verifier)(nil)

// names are the names of issuers; no colon, so that a principal's name is unambiguous.
const names = `^[a-z0-9-]{1,40}$`

// New returns a verifier. It asks nobody anything.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	client := &http.Client{Transport: newTransport(cfg.Egress)}
	if cfg.Client != nil {
		*client = *cfg.Client
	}
	// A redirect would let somebody else than STS say who the caller is.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	url, _ := URL(cfg.Partition)
	return &Verifier{cfg: cfg, url: url, client: client, calls: make(chan struct{}, maxCalls)}, nil
}

// complete checks c and fills in what it does not say.
func (c *Config) complete() error {
	c.Partition = cmp.Or(c.Partition, DefaultPartition)
	switch _, known := URL(c.Partition); {
	case !regexp.MustCompile(names).MatchString(c.Name):
		return errors.New("a name is 1 to 40 of a-z, 0-9 and -")
	case c.Audience == "":
		return errors.New("the audience is missing")
	case c.Now == nil:
		return errors.New("the clock is missing")
	case !known:
		return fmt.Errorf("partition %.40q is not known: aws, aws-cn, aws-us-gov or aws-eusc", c.Partition)
	case len(c.Accounts) == 0:
		return errors.New("no account is named: everybody can have one, so that they must be")
	case c.MaxAge < 0 || c.MaxAge > DefaultMaxAge:
		return fmt.Errorf("an age of %v is not between 0 and %v, which is what STS allows", c.MaxAge, DefaultMaxAge)
	case c.Leeway < 0 || c.Leeway > MaxLeeway:
		return fmt.Errorf("a leeway of %v is not between 0 and %v", c.Leeway, MaxLeeway)
	case c.Timeout < 0:
		return fmt.Errorf("a timeout of %v is negative", c.Timeout)
	}
	for _, a := range c.Accounts {
		if !accountForm.MatchString(a) {
			return fmt.Errorf("account %.40q is not twelve digits", a)
		}
	}
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || !isLoopback(u.Hostname()) || u.Path != "" {
			return fmt.Errorf("endpoint %.100q is not a URL of loopback without a path", c.Endpoint)
		}
	}
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.Leeway = cmp.Or(c.Leeway, DefaultLeeway)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	return nil
}

// Verify returns who signed the request in the evidence. See [Rejection] for evidence that is bad.
func (v *Verifier) Verify(ctx context.Context, evidence secret.Text) (identity.Principal, error) {
	principal, err := v.verify(ctx, evidence.Reveal())
	if err != nil {
		return identity.Principal{}, fmt.Errorf("verify a signed request for issuer %q: %w", v.cfg.Name, err)
	}
	return principal, nil
}

func (v *Verifier) verify(ctx context.Context, evidence string) (identity.Principal, error) {
	r, err := parseEvidence(evidence)
	if err != nil {
		return identity.Principal{}, err
	}
	if err := v.admit(r); err != nil {
		return identity.Principal{}, err
	}
	body, err := v.ask(ctx, r)
	if err != nil {
		return identity.Principal{}, err
	}
	who, err := parseAnswer(body)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("read the answer of STS: %w", err)
	}
	c, err := v.caller(who)
	if err != nil {
		return identity.Principal{}, err
	}
	return identity.Principal{
		Issuer: v.cfg.Name, IssuerURL: v.url, Subject: c.subject, Claims: c.claims(r.endpoint),
		TokenID: r.id(), IssuedAt: r.signedAt, ExpiresAt: r.signedAt.Add(v.cfg.MaxAge),
	}, nil
}

// admit refuses requests for others, and those that are too old or from the future.
func (v *Verifier) admit(r *request) error {
	now := v.cfg.Now()
	switch {
	case r.endpoint.partition != v.cfg.Partition:
		return identity.Reject(WhyEndpoint, "it is for partition %s, not %s", r.endpoint.partition, v.cfg.Partition)
	case r.server != v.cfg.Audience:
		return identity.Reject(WhyAudience, "it was signed for the server %s, not %s", identity.Quote(r.server), identity.Quote(v.cfg.Audience))
	case now.Add(v.cfg.Leeway).Before(r.signedAt):
		return identity.Reject(WhyEarly, "it was signed in the future, at %s", r.signedAt.Format(time.RFC3339))
	case !now.Add(-v.cfg.Leeway).Before(r.signedAt.Add(v.cfg.MaxAge)):
		return identity.Reject(WhyExpired, "it was signed at %s, more than %v ago", r.signedAt.Format(time.RFC3339), v.cfg.MaxAge)
	}
	return nil
}

// caller holds who STS says it is to our accounts.
func (v *Verifier) caller(who answer) (caller, error) {
	c, err := parseCaller(who)
	if err != nil {
		return c, err
	}
	switch {
	case c.partition != v.cfg.Partition:
		return c, fmt.Errorf("STS of partition %s speaks of partition %s", v.cfg.Partition, identity.Quote(c.partition))
	case !slices.Contains(v.cfg.Accounts, c.account):
		return c, identity.Reject(WhyAccount, "account %s is not one of this issuer", c.account)
	}
	return c, nil
}
