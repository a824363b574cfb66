package aws_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/daypass/daypass/client/aws"
)

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func static(context.Context) (sdk.Credentials, error) {
	return sdk.Credentials{AccessKeyID: "AKIDEXAMPLEEXAMPLE12", SecretAccessKey: "hush", SessionToken: "session"}, nil
}

// document is evidence as it goes over the wire.
type document struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func read(t *testing.T, s aws.Source) document {
	t.Helper()
	token, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	encoded, ok := strings.CutPrefix(token.Reveal(), aws.Prefix)
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	var d document
	if !ok || err != nil || json.Unmarshal(text, &d) != nil {
		t.Fatalf("%s is no evidence", token.Reveal())
	}
	return d
}

func TestTheServerIsAPartOfWhatIsSignedAndNoSecretLeaves(t *testing.T) {
	source := aws.Source{Server: "https://daypass.example.com", Credentials: sdk.CredentialsProviderFunc(static), Now: now}
	d := read(t, source)
	if d.Method != "POST" || d.URL != "https://sts.us-east-1.amazonaws.com/" || d.Body != "Action=GetCallerIdentity&Version=2011-06-15" {
		t.Errorf("got %+v", d)
	}
	if d.Headers[aws.ServerHeader] != source.Server || d.Headers["X-Amz-Date"] != "20260301T120000Z" || d.Headers["X-Amz-Security-Token"] != "session" {
		t.Errorf("got %v", d.Headers)
	}
	if !strings.Contains(d.Headers["Authorization"], "SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-daypass-nonce;x-daypass-server,") {
		t.Errorf("got %s", d.Headers["Authorization"])
	}
	if strings.Contains(fmt.Sprint(d), "hush") {
		t.Error("the secret key is in the evidence")
	}
	if again := read(t, source); again.Headers["Authorization"] == d.Headers["Authorization"] {
		t.Error("two requests of one second are one, so that the second would be refused where evidence is good once")
	}
}

func TestEveryRegionHasItsEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "sts.eu-central-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn",
		"us-gov-west-1": "sts.us-gov-west-1.amazonaws.com", "eusc-de-east-1": "sts.eusc-de-east-1.amazonaws.eu",
	} {
		if d := read(t, aws.Source{Server: "s", Region: region, Credentials: sdk.CredentialsProviderFunc(static), Now: now}); d.URL != "https://"+want+"/" {
			t.Errorf("%s: got %s", region, d.URL)
		}
	}
	if d := read(t, aws.Source{Server: "s", Region: "us-west-2", FIPS: true, Credentials: sdk.CredentialsProviderFunc(static), Now: now}); d.URL != "https://sts-fips.us-west-2.amazonaws.com/" {
		t.Errorf("FIPS: got %s", d.URL)
	}
	for _, region := range []string{"x", "evil.example/", "s3", "eu-central-1.evil.example", "EU-CENTRAL-1"} {
		if _, err := (aws.Source{Server: "s", Region: region, Credentials: sdk.CredentialsProviderFunc(static), Now: now}).Token(t.Context()); err == nil {
			t.Errorf("region %q is accepted", region)
		}
	}
}

func TestMissingCredentialsAreSaidPlainly(t *testing.T) {
	gone := errors.New("gone")
	_, err := (aws.Source{Server: "s", Now: now, Credentials: sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) { return sdk.Credentials{}, gone })}).Token(t.Context())
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// platform is a machine with an environment and services of AWS on loopback.
type platform struct {
	env    map[string]string
	server *httptest.Server
	vendor string
}

func newPlatform(t *testing.T, vendor string, answer http.HandlerFunc) *platform {
	t.Helper()
	p := &platform{env: map[string]string{}, vendor: filepath.Join(t.TempDir(), "sys_vendor"), server: httptest.NewServer(answer)}
	t.Cleanup(p.server.Close)
	if err := os.WriteFile(p.vendor, []byte(vendor+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *platform) find() (aws.Found, bool) {
	return aws.Find(aws.Where{Getenv: func(name string) string { return p.env[name] }, Vendor: p.vendor, Metadata: p.server.URL, Tasks: p.server.URL})
}

const credentials = `{"Code":"Success","AccessKeyId":"ASIAFOUND","SecretAccessKey":"hush","Token":"session","Expiration":"2026-03-01T18:00:00Z"}`

func (p *platform) retrieve(t *testing.T) (sdk.Credentials, error) {
	t.Helper()
	found, ok := p.find()
	if !ok {
		t.Fatal("nothing is found")
	}
	return found.Credentials.Retrieve(t.Context())
}

func TestNothingIsFoundAndNobodyAskedOnAMachineOfSomebodyElse(t *testing.T) {
	p := newPlatform(t, "Acme", func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked for", r.URL) })
	p.env["AWS_REGION"], p.env["AWS_PROFILE"], p.env["AWS_ACCESS_KEY_ID"] = "eu-central-1", "me", "half"
	if found, ok := p.find(); ok {
		t.Errorf("found %+v", found)
	}
	p = newPlatform(t, "Amazon EC2", nil)
	p.env["AWS_EC2_METADATA_DISABLED"] = "true"
	if found, ok := p.find(); ok {
		t.Errorf("found %+v", found)
	}
}

func TestTheEnvironmentHasCredentialsAndTheRegion(t *testing.T) {
	p := newPlatform(t, "Amazon EC2", nil)
	p.env = map[string]string{"AWS_ACCESS_KEY_ID": "ASIAENV", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_SESSION_TOKEN": "s", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_USE_FIPS_ENDPOINT": "true"}
	found, ok := p.find()
	if !ok || found.Region != "eu-west-1" || !found.FIPS || found.Origin != "AWS_ACCESS_KEY_ID" {
		t.Errorf("found %+v", found)
	}
	if c, err := p.retrieve(t); err != nil || c.AccessKeyID != "ASIAENV" || c.SessionToken != "s" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestAContainerAsksItsCredentialsServiceWithItsToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlatform(t, "Acme", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/credentials/x" || r.Header.Get("Authorization") != "second" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, credentials)
	})
	p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = p.server.URL + "/v2/credentials/x"
	p.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "not this one"
	p.env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = file
	put("first\n")
	if _, err := p.retrieve(t); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v", err)
	}
	put("second\n")
	if c, err := p.retrieve(t); err != nil || c.AccessKeyID != "ASIAFOUND" || c.SessionToken != "session" {
		t.Errorf("got %v, %v", c, err)
	}
	put("second\nX-Other: y")
	if _, err := p.retrieve(t); err == nil {
		t.Error("a token of two lines is sent")
	}
	delete(p.env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	p.env["AWS_CONTAINER_AUTHORIZATION_TOKEN"], p.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "second", "/v2/credentials/x"
	if c, err := p.retrieve(t); err != nil || c.AccessKeyID != "ASIAFOUND" {
		t.Errorf("got %v, %v", c, err)
	}
	p.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "@evil.example/"
	if _, err := p.retrieve(t); err == nil {
		t.Error("a relative address leads elsewhere")
	}
}

func TestAContainersTokenGoesToNobodyElse(t *testing.T) {
	p := newPlatform(t, "Acme", nil)
	for _, where := range []string{"http://evil.example/", "http://169.254.169.254/", "http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "x", "http://"} {
		p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = where
		if _, err := p.retrieve(t); err == nil || !strings.Contains(err.Error(), "AWS_CONTAINER_CREDENTIALS_FULL_URI") {
			t.Errorf("%s: got %v", where, err)
		}
	}
}

func TestAnInstanceAsksItsMetadataServiceByTheSecondVersion(t *testing.T) {
	p := newPlatform(t, "Amazon EC2", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "PUT" && r.URL.Path == "/latest/api/token" && r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "60":
			fmt.Fprint(w, "session-token")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session-token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
			fmt.Fprint(w, "orders")
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/orders":
			fmt.Fprint(w, credentials)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	if c, err := p.retrieve(t); err != nil || c.AccessKeyID != "ASIAFOUND" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestAnswersThatAreNoneAreErrorsWithoutTheirText(t *testing.T) {
	for _, text := range []string{"", "[]", `{"AccessKeyId":"ASIAFOUND"}`, `{"SecretAccessKey":"hush"`, strings.Repeat("hush", 100_000)} {
		p := newPlatform(t, "Acme", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
		p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = p.server.URL
		if _, err := p.retrieve(t); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%.40s: got %v", text, err)
		}
	}
	p := newPlatform(t, "Acme", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://evil.example/", http.StatusFound)
	})
	p.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = p.server.URL
	if _, err := p.retrieve(t); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("a redirect: got %v", err)
	}
}
