package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/daypass/daypass/target"
)

// connect makes the clients. They try again what AWS throttles or fails at, three times in all, within the caller's time.
func (a *account) connect() {
	s := a.cfg.Settings
	web := &http.Client{Transport: a.cfg.Transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it redirects, which AWS does not")
	}}
	base := sdk.Config{Region: s.Region, HTTPClient: web, Credentials: sdk.AnonymousCredentials{}}
	a.sts = sts.NewFromConfig(base, func(o *sts.Options) { o.BaseEndpoint = endpoint(s.STS) })
	if s.Manage == nil {
		return
	}
	base.Credentials = sdk.NewCredentialsCache(sdk.CredentialsProviderFunc(a.manager), func(o *sdk.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute })
	a.iam = iam.NewFromConfig(base, func(o *iam.Options) { o.BaseEndpoint = endpoint(s.IAM) })
}

func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return &url
}

// manager takes the role that manages.
func (a *account) manager(ctx context.Context) (sdk.Credentials, error) {
	token, err := a.cfg.Sign(ctx, Token{ID: a.prefix() + "manage", Subject: ManagerSubject(a.cfg.Name), Audience: a.cfg.Settings.Aud(), TTL: tokenTTL})
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("sign a token for ourselves: %w", err)
	}
	answer, err := a.sts.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &a.cfg.Settings.Manage.RoleARN, RoleSessionName: sdk.String(a.prefix() + "manage"),
		WebIdentityToken: sdk.String(token.Reveal()), DurationSeconds: sdk.Int32(int32(shortest.Seconds())),
	})
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("take the role that manages, %s: %w", a.cfg.Settings.Manage.RoleARN, told(err))
	}
	c := answer.Credentials
	if c == nil || c.AccessKeyId == nil || c.SecretAccessKey == nil || c.SessionToken == nil || c.Expiration == nil {
		return sdk.Credentials{}, errors.New("take the role that manages: the answer has no credentials")
	}
	return sdk.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken, CanExpire: true, Expires: *c.Expiration}, nil
}

// answerError is what AWS said: its code and its words, and nothing that was sent.
type answerError struct {
	code, text string
	status     int
}

func (e *answerError) Error() string { return e.code + ": " + e.text }

// told reduces an error of the SDK to what AWS said, so that no request and no header of one is in it.
func told(err error) error {
	if err == nil {
		return nil
	}
	said, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	e := &answerError{code: said.ErrorCode(), text: strings.Map(func(r rune) rune {
		if r < ' ' || r == 127 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said.ErrorMessage(), "?"))}
	const most = 300
	if len(e.text) > most {
		e.text = strings.ToValidUTF8(e.text[:most], "") + "…"
	}
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		e.status = answer.HTTPStatusCode()
	}
	return e
}

// said returns the code of AWS's answer, empty where it gave none.
func said(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	if e, ok := errors.AsType[*answerError](err); ok {
		return e.code
	}
	return ""
}

// refused marks answers as definite that AWS gives before it does anything. Every other error, also throttling and limits
// that an earlier try of the same request may have reached, leaves open what was done.
func refused(err error) error {
	switch said(err) {
	case "AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch",
		"ExpiredTokenException", "InvalidIdentityToken", "IDPRejectedClaim", "InvalidParameterValue", "ValidationError", "ValidationException",
		"MalformedPolicyDocument", "PackedPolicyTooLarge", "RegionDisabledException", "InvalidInput":
		return fmt.Errorf("%w: %w", told(err), target.ErrNotDone)
	}
	return told(err)
}

// absent forgives that what was to be deleted, or looked for, is not there.
func absent(err error) error {
	if isAbsent(err) {
		return nil
	}
	return told(err)
}

func isAbsent(err error) bool {
	code := said(err)
	return code == "NoSuchEntity" || code == "NoSuchEntityException"
}

func exists(err error) bool {
	code := said(err)
	return code == "EntityAlreadyExists" || code == "EntityAlreadyExistsException"
}
