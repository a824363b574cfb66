// Package aws makes and ends credentials of AWS. No key of AWS is held anywhere: Daypass shows tokens of its own issuer
// to AWS, which trusts it as an OpenID Connect provider.
//
// It owns two kinds of target under one name. [Sessions] assume a role for a lease, by web identity, and narrow it: AWS
// keeps nothing of them that could be deleted, so that they are ended by a deny on the role, or not at all before their
// time. [Principals] make an IAM user or role per lease, which is deleted with it; they own the path
// /daypass/<instance>/ of the account's IAM.
//
// It promises what [target.Target] asks, as far as AWS can: what it says and does about consistency is in
// docs/howto/aws-target.md. Names are a function of the instance and the lease ID; what strangers chose goes into tags,
// escaped, and into nothing else.
//
// It imports target, secret, api and the official SDK's sts and iam, and nothing that signs, decides or records.
package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Kind is the type of the credentials, and the name of this kind of target in access files.
const Kind = "aws"

const (
	// shortest is the shortest session that AWS gives.
	shortest = 15 * time.Minute
	// longest is the longest.
	longest = 12 * time.Hour
	// tokenTTL is how long our token is good at AWS, which a request in flight may need.
	tokenTTL = 5 * time.Minute
	// settling is how long a new principal is given to be known everywhere, before its lease is handed out all the same.
	settling = 20 * time.Second
)

// Token is what AWS is shown.
type Token struct {
	ID       string // jti
	Subject  string
	Audience string
	TTL      time.Duration
	Claims   map[string]any
}

// Held is what the store knows of a lease.
type Held struct {
	Rights    json.RawMessage // of its role when it was granted; nil for a lease that the store does not know
	HandedOut bool            // somebody may have its credential
	Made      time.Time
	Until     time.Time // when it ends, as Grant's TTL said
}

// Config is everything that [NewSessions] and [NewPrincipals] need.
type Config struct {
	Instance string // the installation, 4 to 6 characters of lowercase base32
	Name     string // of the target in access files: the subject of our own token says it
	Issuer   string // URL of the issuer that signs
	Settings Settings
	Client   Client
	Sign     func(context.Context, Token) (secret.Text, error)
	Lease    func(ctx context.Context, lease string) (Held, error)
	// Roles gives the roles of ours that are sessions of this target, each with the ARN of the role at AWS; nil where nobody knows.
	Roles     func(context.Context) (map[string]string, error)
	Now       func() time.Time
	Transport http.RoundTripper // nil: the usual one
	Log       *slog.Logger      // nil: nothing is logged
}

// account is one AWS account as we reach it.
type account struct {
	cfg Config
	sts *sts.Client // asks without a key
	iam *iam.Client // as the role that manages; nil where there is none
	log *slog.Logger
}

func newAccount(cfg Config) (*account, error) {
	if len(cfg.Instance) < 4 || len(cfg.Instance) > 6 || strings.Trim(cfg.Instance, base32Alphabet) != "" {
		return nil, fmt.Errorf("instance %q: want 4 to 6 characters of lowercase base32", cfg.Instance)
	}
	if err := errors.Join(cfg.Settings.Validate(), cfg.Client.Validate()); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &account{cfg: cfg, log: cfg.Log}
	a.connect()
	return a, nil
}

// base32Alphabet is what instances and lease IDs are made of: AWS allows all of it in every name.
const base32Alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// name is what everything of a lease is called: the session, or the user or role. AWS allows 64 characters.
func (a *account) name(lease string) string { return a.prefix() + lease }

func (a *account) prefix() string { return "dp_" + a.cfg.Instance + "_" }

// lease is the inverse of name.
func (a *account) lease(name string) (string, bool) {
	lease, ours := strings.CutPrefix(name, a.prefix())
	return lease, ours && target.CheckLease(lease) == nil
}

// title names the account in errors.
func (a *account) title() string { return "AWS in " + a.cfg.Settings.Region }

// ManagerSubject is the subject of the tokens by which Daypass itself takes the role that manages, for a target. No role
// can have a subject that begins so.
func ManagerSubject(targetName string) string { return "daypass:target:" + targetName }

// leaseSubject is the subject that the role of one lease trusts, and nobody else.
func leaseSubject(lease string) string { return "daypass:lease:" + lease }

// begin is what every Grant looks at before it does anything.
func begin(ctx context.Context, g target.Grant) (rights Rights, err error) {
	if err = ctx.Err(); err == nil {
		err = target.CheckLease(g.Lease)
	}
	if err == nil {
		rights, err = readRights(g.Rights)
	}
	if err == nil && g.TTL > longest {
		err = &target.RefusalError{Text: "AWS ends sessions after 12h at most: ask for less, or lower ttl.max of the role"}
	}
	return rights, target.NotDone(err)
}

// pause waits for d, or as long as ctx allows.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
