// Package aws proves to a Daypass server who a workload is to AWS, with nothing but the AWS credentials that it has.
//
// [Source] signs a request for sts:GetCallerIdentity and does not send it; the server does, and AWS tells it whose
// signature it is. The server's name is a part of what is signed, so that no other server can use the request, and AWS
// refuses it after minutes. No credential leaves the process. [Find] looks for credentials where AWS puts them;
// programs that have the SDK's configuration use its provider instead: Source{Credentials: cfg.Credentials}.
//
// The package imports client, secret, api and the signer of the official SDK.
package aws

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/secret"
)

// Prefix begins evidence of this kind.
const Prefix = "dpaws_"

// ServerHeader is the header that names the server which the evidence is for.
const ServerHeader = "X-Daypass-Server"

// nonceHeader makes the evidence another one each time: signatures of one second are the same for the same request, and
// evidence may be good once.
const nonceHeader = "X-Daypass-Nonce"

// DefaultRegion is where requests are signed for unless something else is said. Any region of the credentials'
// partition will do: identity is the same in all of them.
const DefaultRegion = "us-east-1"

// body is the whole request.
const body = "Action=GetCallerIdentity&Version=2011-06-15"

// Source makes evidence of AWS credentials, fresh each time it is asked. Server, Credentials and Now are required.
type Source struct {
	Server      string                  // the server's URL, exactly as its configuration writes it
	Region      string                  // of the endpoint of STS; [DefaultRegion] unless given
	FIPS        bool                    // the endpoint is a FIPS one, which some regions of the United States have
	Credentials sdk.CredentialsProvider // the SDK's, or what [Find] returns
	Now         func() time.Time
}

var _ client.TokenSource = Source{}

var regionForm = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}$`)

// Token returns evidence that is good for five minutes.
func (s Source) Token(ctx context.Context) (secret.Text, error) {
	region := s.Region
	if region == "" {
		region = DefaultRegion
	}
	if !regionForm.MatchString(region) {
		return secret.Text{}, fmt.Errorf("%.40q is no AWS region", region)
	}
	credentials, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return secret.Text{}, fmt.Errorf("find AWS credentials: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint(region, s.FIPS), strings.NewReader(body))
	if err != nil {
		return secret.Text{}, fmt.Errorf("make the request to sign: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set(ServerHeader, s.Server)
	request.Header.Set(nonceHeader, rand.Text())
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), "sts", region, s.Now()); err != nil {
		return secret.Text{}, errors.New("sign the request: the signer refuses")
	}
	return encode(request)
}

// endpoint is the regional endpoint of STS. The names of regions say which partition they are of.
func endpoint(region string, fips bool) string {
	suffix := "amazonaws.com"
	switch {
	case strings.HasPrefix(region, "cn-"):
		suffix = "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		suffix = "amazonaws.eu"
	}
	service := "sts"
	if fips && !strings.HasPrefix(region, "us-gov-") { // whose usual endpoints are FIPS ones
		service = "sts-fips"
	}
	return "https://" + service + "." + region + "." + suffix + "/"
}

// encode writes a signed request as evidence.
func encode(r *http.Request) (secret.Text, error) {
	document := struct {
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}{r.Method, r.URL.String(), map[string]string{}, body}
	for name, values := range r.Header {
		document.Headers[name] = strings.Join(values, ",")
	}
	if _, ok := document.Headers["Content-Length"]; !ok {
		document.Headers["Content-Length"] = fmt.Sprint(len(body)) // it is signed
	}
	text, err := json.Marshal(document)
	if err != nil {
		return secret.Text{}, errors.New("write the signed request: it has no JSON")
	}
	return secret.New(Prefix + base64.RawURLEncoding.EncodeToString(text)), nil
}
