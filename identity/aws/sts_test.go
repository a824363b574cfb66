package aws_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/daypass/daypass/identity/identitytest"
)

// sts answers as STS does, by its documentation and by recordings of its answers: it is not the real service. It checks
// signatures by signing the request again with the official signer.
type sts struct {
	*httptest.Server
	clock *identitytest.Clock

	mu      sync.Mutex
	asked   int
	keys    map[string]identity // by access key ID
	respond http.HandlerFunc    // instead of an answer, unless nil
	seen    *http.Request       // the last
}

// identity is whom an access key belongs to.
type identity struct {
	sdk.Credentials
	account, arn, userID string
}

func startSTS(t testing.TB, c *identitytest.Clock) *sts {
	s := &sts{clock: c, keys: map[string]identity{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// Asked counts calls.
func (s *sts) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Respond replaces the answer.
func (s *sts) Respond(with http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = with
}

// know makes an access key one of somebody.
func (s *sts) know(id identity) sdk.CredentialsProvider {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[id.AccessKeyID] = id
	return sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return id.Credentials, nil })
}

func (s *sts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	s.seen = r
	respond := s.respond
	s.mu.Unlock()
	if respond != nil {
		respond(w, r)
		return
	}
	id, code := s.check(r)
	w.Header().Set("Content-Type", "text/xml")
	if code != "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, errorAnswer, code)
		return
	}
	fmt.Fprintf(w, goodAnswer, id.arn, id.userID, id.account)
}

// check does what SigV4 asks of a service.
func (s *sts) check(r *http.Request) (identity, string) {
	text, _ := io.ReadAll(r.Body)
	if r.Method != "POST" || r.URL.RequestURI() != "/" || string(text) != "Action=GetCallerIdentity&Version=2011-06-15" {
		return identity{}, "InvalidAction"
	}
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ := strings.Cut(rest, ",")
	parts := strings.Split(scope, "/")
	s.mu.Lock()
	id, ok := s.keys[parts[0]]
	s.mu.Unlock()
	if !ok || id.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		return id, "InvalidClientTokenId"
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if age := s.clock.Now().Sub(at); err != nil || age > 15*time.Minute || age < -15*time.Minute {
		return id, "SignatureDoesNotMatch"
	}
	_, rest, _ = strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	signed, _, _ := strings.Cut(rest, ",")
	again, _ := http.NewRequest(r.Method, "https://"+r.Host+"/", strings.NewReader(string(text)))
	for _, name := range strings.Split(signed, ";") {
		if name != "host" && name != "content-length" && name != "x-amz-security-token" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(text)
	if err := v4.NewSigner().SignHTTP(r.Context(), id.Credentials, again, hex.EncodeToString(hash[:]), "sts", parts[2], at); err != nil {
		return id, "InternalFailure"
	}
	if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return id, "SignatureDoesNotMatch"
	}
	return id, ""
}

// The answers as they are documented (AWS STS API reference, GetCallerIdentity and Common Errors).
const (
	goodAnswer = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>%s</Arn>
    <UserId>%s</UserId>
    <Account>%s</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata>
    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
  </ResponseMetadata>
</GetCallerIdentityResponse>
`
	errorAnswer = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error>
    <Type>Sender</Type>
    <Code>%s</Code>
    <Message>The security token included in the request is invalid.</Message>
  </Error>
  <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
</ErrorResponse>
`
)
