package aws_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	clientaws "github.com/daypass/daypass/client/aws"
	ident "github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/aws"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/secret"
)

const (
	audience = "https://daypass.example.com"
	account  = "123456789012"
	roleARN  = "arn:aws:sts::123456789012:assumed-role/orders-deploy/i-0123456789abcdef0"
	roleID   = "AROAEXAMPLEEXAMPLE123"
)

// world is a service that answers like STS, a workload with a role, and a verifier.
type world struct {
	*identitytest.Clock
	sts      *sts
	source   clientaws.Source
	verifier *aws.Verifier
}

func newWorld(t testing.TB, change ...func(*aws.Config)) *world {
	t.Helper()
	w := &world{Clock: identitytest.NewClock()}
	w.sts = startSTS(t, w.Clock)
	w.source = clientaws.Source{Server: audience, Region: "eu-central-1", Now: w.Now, Credentials: w.sts.know(role())}
	cfg := aws.Config{Name: "aws", Audience: audience, Accounts: []string{"000000000000", account}, Endpoint: w.sts.URL, Now: w.Now}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.verifier, err = aws.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func role() identity {
	return identity{
		Credentials: sdk.Credentials{AccessKeyID: "ASIAEXAMPLEEXAMPLE12", SecretAccessKey: "hush", SessionToken: strings.Repeat("FwoGZXIvYXdzE/+=", 40)},
		account:     account, arn: roleARN, userID: roleID + ":i-0123456789abcdef0",
	}
}

func (w *world) evidence(t testing.TB) string {
	t.Helper()
	token, err := w.source.Token(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func (w *world) verify(evidence string) (ident.Principal, error) {
	return w.verifier.Verify(context.Background(), secret.New(evidence))
}

// document is evidence as its maker writes it.
type document struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// changed returns good evidence after a change of its document.
func (w *world) changed(t testing.TB, change func(*document)) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(w.evidence(t), aws.Prefix))
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	change(&d)
	text, err = json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return wrap(string(text))
}

func wrap(text string) string { return aws.Prefix + base64.RawURLEncoding.EncodeToString([]byte(text)) }

// unsigned takes a header out of those that are signed; the signature is not looked at before that.
func unsigned(d *document, name string) {
	d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], name+";", "", 1)
	d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], ";"+name+",", ",", 1)
}

func TestTheVerifierKeepsTheContract(t *testing.T) {
	identitytest.RunEvidence(t, func(t *testing.T) *identitytest.Evidence {
		w := newWorld(t)
		f := &identitytest.Evidence{
			Verifier: w.verifier, Name: "aws", URL: "https://sts.amazonaws.com", Subject: "arn:aws:sts::123456789012:assumed-role/orders-deploy",
			Prefix: aws.Prefix, Now: w.Now, Advance: w.Advance, Life: aws.DefaultMaxAge, Leeway: aws.DefaultLeeway,
			Make: func(t *testing.T) string { return w.evidence(t) }, Asked: w.sts.Asked,
			Bad: map[string]func(*testing.T) string{}, Unsure: map[string]func(*testing.T) string{},
		}
		for name, change := range badRequests() {
			f.Bad[name] = func(t *testing.T) string { return w.changed(t, change) }
		}
		for name, respond := range sickServices() {
			f.Unsure[name] = func(t *testing.T) string {
				w.sts.Respond(respond)
				return w.evidence(t)
			}
		}
		return f
	})
}

// badRequests are changes after which a request is none that we send.
func badRequests() map[string]func(*document) {
	host := func(url string) func(*document) {
		return func(d *document) {
			d.URL = url
			delete(d.Headers, "Host")
		}
	}
	header := func(name, value string) func(*document) { return func(d *document) { d.Headers[name] = value } }
	without := func(name string) func(*document) { return func(d *document) { delete(d.Headers, name) } }
	const sts = "https://sts.eu-central-1.amazonaws.com"
	return map[string]func(*document){
		"another host":                         host("https://evil.example/"),
		"a host that begins like ours":         host(sts + ".evil.example/"),
		"a bucket called sts":                  host("https://sts.s3.amazonaws.com/"),
		"a region that does not exist":         host("https://sts.eu-central-9.amazonaws.com/"),
		"the global endpoint":                  host("https://sts.amazonaws.com/"),
		"another service":                      host("https://iam.eu-central-1.amazonaws.com/"),
		"an endpoint of another partition":     host("https://sts.cn-north-1.amazonaws.com.cn/"),
		"a region under another's suffix":      host("https://sts.cn-north-1.amazonaws.com/"),
		"a FIPS endpoint that does not exist":  host("https://sts-fips.eu-central-1.amazonaws.com/"),
		"a host in capitals":                   host("https://STS.eu-central-1.amazonaws.com/"),
		"a host with a dot behind":             host("https://sts.eu-central-1.amazonaws.com./"),
		"a port":                               host(sts + ":443/"),
		"a user":                               host("https://x@sts.eu-central-1.amazonaws.com/"),
		"no https":                             host("http://sts.eu-central-1.amazonaws.com/"),
		"our own machine":                      host("https://127.0.0.1/"),
		"the metadata service":                 host("http://169.254.169.254/"),
		"a path":                               host(sts + "/x"),
		"two slashes":                          host(sts + "//"),
		"a query":                              host(sts + "/?Action=AssumeRole"),
		"a request that is signed in its URL":  host(sts + "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=604800"),
		"a fragment":                           host(sts + "/#x"),
		"a line break in the URL":              host(sts + "/\n"),
		"GET":                                  func(d *document) { d.Method = "GET" },
		"another action":                       func(d *document) { d.Body = "Action=GetSessionToken&Version=2011-06-15" },
		"one action more":                      func(d *document) { d.Body += "&Action=GetSessionToken" },
		"no body":                              func(d *document) { d.Body = "" },
		"another Host than that of its URL":    header("Host", "sts.us-east-1.amazonaws.com"),
		"no server":                            without(clientaws.ServerHeader),
		"another server":                       header(clientaws.ServerHeader, "https://evil.example"),
		"a server with one slash more":         header(clientaws.ServerHeader, audience+"/"),
		"two servers":                          header("x-daypass-server", audience),
		"a server in two lines":                header(clientaws.ServerHeader, audience+"\r\nX-Other: y"),
		"no date":                              without("X-Amz-Date"),
		"a date that is none":                  header("X-Amz-Date", "20261399T999999Z"),
		"a date of another day than its scope": header("X-Amz-Date", "20260302T000000Z"),
		"no authorization":                     without("Authorization"),
		"another scheme":                       header("Authorization", "Bearer x"),
		"an asymmetric signature": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1)
		},
		"the scope of another region": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "eu-central-1", "us-east-1", 1)
		},
		"the scope of another service": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "/sts/", "/s3/", 1)
		},
		"a signature of another secret": func(d *document) {
			d.Headers["Authorization"] = d.Headers["Authorization"][:len(d.Headers["Authorization"])-4] + "0000"
		},
		"an unknown access key": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "ASIAEXAMPLE", "ASIASTRANGE", 1)
		},
		"another's session token":            header("X-Amz-Security-Token", "stolen"),
		"a header of its own":                header("X-Forwarded-For", "10.0.0.1"),
		"a body encoding":                    header("Transfer-Encoding", "chunked"),
		"another content type":               header("Content-Type", "application/json"),
		"another length":                     header("Content-Length", "44"),
		"a server that is not signed":        func(d *document) { unsigned(d, "x-daypass-server") },
		"a host that is not signed":          func(d *document) { unsigned(d, "host") },
		"a date that is not signed":          func(d *document) { unsigned(d, "x-amz-date") },
		"a session token that is not signed": func(d *document) { unsigned(d, "x-amz-security-token") },
		"a content type that is not signed":  func(d *document) { unsigned(d, "content-type") },
		"a signed header that is missing": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "x-amz-date;", "x-amz-date;x-amz-extra;", 1)
		},
		"a header that is signed twice": func(d *document) {
			d.Headers["Authorization"] = strings.Replace(d.Headers["Authorization"], "host;", "host;host;", 1)
		},
	}
}

// sickServices are answers that say nothing of the caller.
func sickServices() map[string]http.HandlerFunc {
	answer := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	good := fmt.Sprintf(goodAnswer, roleARN, roleID+":i-0123456789abcdef0", account)
	replace := func(old, text string) http.HandlerFunc {
		if !strings.Contains(good, old) {
			panic(old)
		}
		return answer(200, strings.Replace(good, old, text, 1))
	}
	return map[string]http.HandlerFunc{
		"a service that is down":          answer(503, "<html>"),
		"a service that throttles":        answer(400, fmt.Sprintf(errorAnswer, "Throttling")),
		"a service that denies everybody": answer(403, fmt.Sprintf(errorAnswer, "AccessDenied")),
		"a refusal of somebody else":      answer(403, "<html>forbidden by the proxy</html>"),
		"an answer that redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		},
		"an answer that hangs up":           func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"an answer of megabytes":            answer(200, good+strings.Repeat(" ", 1<<20)),
		"an empty answer":                   answer(200, ""),
		"an answer in JSON":                 answer(200, `{"GetCallerIdentityResponse":{}}`),
		"an answer about another action":    replace("<GetCallerIdentityResponse", "<AssumeRoleResponse"),
		"an answer with two callers":        replace("<UserId>", "<Arn>arn:aws:iam::123456789012:root</Arn><UserId>"),
		"an answer with two results":        replace("<ResponseMetadata>", "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:root</Arn></GetCallerIdentityResult><ResponseMetadata>"),
		"an answer with two documents":      answer(200, good+good),
		"an answer with a comment":          replace("orders-", "orders-<!-- x -->"),
		"an answer with a declaration":      answer(200, "<!DOCTYPE x [<!ENTITY a 'b'>]>"+good),
		"an answer with an unknown entity":  replace("orders-deploy", "&orders;"),
		"an answer with elements in text":   replace("orders-deploy", "orders-<b>x</b>deploy"),
		"an answer with a prefixed name":    replace("<GetCallerIdentityResult>", `<x:GetCallerIdentityResult xmlns:x="y">`),
		"an answer that is nested too deep": answer(200, strings.Repeat("<a>", 100_0)+strings.Repeat("</a>", 100_0)),
		"an answer that ends too soon":      answer(200, good[:len(good)-30]),
		"an answer without an account":      replace("<Account>"+account+"</Account>", ""),
		"an account that is none":           replace("<Account>"+account, "<Account>12345"),
		"an ARN of another account":         replace("sts::"+account, "sts::210987654321"),
		"an ARN of another partition":       replace("arn:aws:", "arn:aws-cn:"),
		"an ARN that is none":               replace(roleARN, "orders-deploy-orders-deploy"),
		"a user ID of another session":      replace(roleID+":i-0123456789abcdef0", roleID+":other"),
		"an ARN with a line break":          replace("orders-deploy", "orders\ndeploy"),
	}
}

func TestWhoACallerIs(t *testing.T) {
	for name, c := range map[string]struct {
		arn, userID, subject string
		claims               map[string]any // beside those that all have; no subject: rejected
	}{
		"a role": {roleARN, roleID + ":i-0123456789abcdef0", "arn:aws:sts::123456789012:assumed-role/orders-deploy", map[string]any{
			"type": "role", "role_name": "orders-deploy", "role_id": roleID, "session_name": "i-0123456789abcdef0"}},
		"a role with all that a name may hold": {"arn:aws:sts::123456789012:assumed-role/a_b+c=d,e.f@g-h/me@acme.example", roleID + ":me@acme.example",
			"arn:aws:sts::123456789012:assumed-role/a_b+c=d,e.f@g-h", map[string]any{"type": "role", "role_name": "a_b+c=d,e.f@g-h", "role_id": roleID, "session_name": "me@acme.example"}},
		"a user with a path": {"arn:aws:iam::123456789012:user/ci/runner", "AIDAEXAMPLEEXAMPLE123", "arn:aws:iam::123456789012:user/ci/runner", map[string]any{"type": "user"}},
		"a federated user":   {"arn:aws:sts::123456789012:federated-user/bob", account + ":bob", "arn:aws:sts::123456789012:federated-user/bob", map[string]any{"type": "federated"}},
		"root":               {"arn:aws:iam::123456789012:root", account, "arn:aws:iam::123456789012:root", map[string]any{"type": "root"}},

		"something else":                  {"arn:aws:iam::123456789012:server-certificate/x", roleID, "", nil},
		"a role without a session":        {"arn:aws:sts::123456789012:assumed-role/orders-deploy", roleID + ":x", "", nil},
		"a role with two sessions":        {"arn:aws:sts::123456789012:assumed-role/orders-deploy/x/y", roleID + ":x", "", nil},
		"a role of the platform":          {"arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123", account + ":aws:ec2-instance:i-0123", "", nil},
		"a user whose path is very long":  {"arn:aws:iam::123456789012:user/" + strings.Repeat("p/", 120) + "u", "AIDAEXAMPLEEXAMPLE123", "", nil},
		"a user that calls himself root":  {"arn:aws:iam::123456789012:root/x", account, "", nil},
		"a role by its name in IAM":       {"arn:aws:iam::123456789012:role/orders-deploy", roleID, "", nil},
		"a session that holds characters": {"arn:aws:sts::123456789012:assumed-role/orders-deploy/a;b", roleID + ":a;b", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id := role()
			id.arn, id.userID = c.arn, c.userID
			w.source.Credentials = w.sts.know(id)
			p, err := w.verify(w.evidence(t))
			if c.subject == "" {
				why(t, err, aws.WhySubject)
				return
			}
			want := map[string]any{"account": account, "arn": c.arn, "user_id": c.userID, "partition": "aws", "region": "eu-central-1"}
			for name, value := range c.claims {
				want[name] = value
			}
			if err != nil || p.Subject != c.subject || !reflect.DeepEqual(p.Claims, want) {
				t.Errorf("got %s %v, %v", p.Subject, p.Claims, err)
			}
		})
	}
}

// why fails unless err is a rejection of that kind.
func why(t *testing.T, err error, want aws.Why) {
	t.Helper()
	rejection, ok := errors.AsType[*aws.Rejection](err)
	if !ok || rejection.Why != want || !errors.Is(err, ident.ErrRejected) {
		t.Errorf("got %v; want a rejection for %s", err, want)
	}
}

func TestRejectionsSayWhy(t *testing.T) {
	w := newWorld(t)
	for want, change := range map[aws.Why]func(*document){
		aws.WhyEndpoint:  badRequests()["a bucket called sts"],
		aws.WhyRequest:   badRequests()["another action"],
		aws.WhyAudience:  badRequests()["another server"],
		aws.WhySignature: badRequests()["a signature of another secret"],
	} {
		_, err := w.verify(w.changed(t, change))
		why(t, err, want)
	}
	_, err := w.verify("dpaws_")
	why(t, err, aws.WhyMalformed)
	evidence := w.evidence(t)
	w.Advance(-time.Minute)
	_, err = w.verify(evidence)
	why(t, err, aws.WhyEarly)
	w.Advance(time.Hour)
	_, err = w.verify(evidence)
	why(t, err, aws.WhyExpired)
}

func TestARequestForAnotherServerCannotBeMadeOursByWhoeverReceivesIt(t *testing.T) {
	w := newWorld(t)
	w.source.Server = "https://other.example"
	_, err := w.verify(w.evidence(t))
	why(t, err, aws.WhyAudience)
	if w.sts.Asked() != 0 {
		t.Error("STS was asked")
	}
	_, err = w.verify(w.changed(t, func(d *document) { d.Headers[clientaws.ServerHeader] = audience }))
	why(t, err, aws.WhySignature)
}

func TestAccountsThatAreNotNamedAreStrangers(t *testing.T) {
	w := newWorld(t, func(c *aws.Config) { c.Accounts = []string{"210987654321"} })
	_, err := w.verify(w.evidence(t))
	why(t, err, aws.WhyAccount)
}

func TestOnlyTheOneRequestReachesSTS(t *testing.T) {
	w := newWorld(t)
	if _, err := w.verify(w.evidence(t)); err != nil {
		t.Fatal(err)
	}
	r := w.sts.seen
	if r.Host != "sts.eu-central-1.amazonaws.com" || r.Method != "POST" || r.URL.String() != "/" || r.ContentLength != 43 {
		t.Errorf("got %s %s %s %d", r.Host, r.Method, r.URL, r.ContentLength)
	}
	for name := range r.Header {
		switch name {
		case "Authorization", "Content-Length", "Content-Type", "User-Agent", "X-Amz-Date", "X-Amz-Security-Token", "X-Daypass-Nonce", clientaws.ServerHeader:
		default:
			t.Errorf("STS gets the header %s", name)
		}
	}
}

func TestEveryPartitionHasAnIssuerAndEndpointsOfItsOwn(t *testing.T) {
	for partition, c := range map[string]struct{ region, arn, url string }{
		"aws":        {"us-east-1", roleARN, "https://sts.amazonaws.com"},
		"aws-cn":     {"cn-northwest-1", strings.Replace(roleARN, "arn:aws:", "arn:aws-cn:", 1), "https://sts.amazonaws.com.cn"},
		"aws-us-gov": {"us-gov-west-1", strings.Replace(roleARN, "arn:aws:", "arn:aws-us-gov:", 1), "https://sts.us-gov.amazonaws.com"},
		"aws-eusc":   {"eusc-de-east-1", strings.Replace(roleARN, "arn:aws:", "arn:aws-eusc:", 1), "https://sts.amazonaws.eu"},
	} {
		for _, fips := range []bool{false, partition == "aws" || partition == "aws-us-gov"} {
			w := newWorld(t, func(cfg *aws.Config) { cfg.Partition = partition })
			id := role()
			id.arn = c.arn
			w.source.Region, w.source.FIPS, w.source.Credentials = c.region, fips, w.sts.know(id)
			evidence := w.evidence(t)
			p, err := w.verify(evidence)
			if err != nil || p.IssuerURL != c.url || p.Claims["partition"] != partition {
				t.Errorf("%s: got %+v, %v", partition, p, err)
			}
			if url, err := aws.ClaimedURL(secret.New(evidence)); err != nil || url != c.url {
				t.Errorf("%s: got %q, %v", partition, url, err)
			}
		}
	}
	if _, err := aws.ClaimedURL(secret.New("dpaws_AA")); !errors.Is(err, ident.ErrRejected) {
		t.Errorf("got %v", err)
	}
}

func TestTooManyCallsAtOnceAreNotARejection(t *testing.T) {
	w := newWorld(t, func(c *aws.Config) { c.Timeout = time.Minute })
	arrived, release := make(chan bool, 64), make(chan bool)
	w.sts.Respond(func(http.ResponseWriter, *http.Request) { arrived <- true; <-release })
	evidence, done := w.evidence(t), make(chan error, 64)
	for range 32 {
		go func() { _, err := w.verify(evidence); done <- err }()
	}
	for range 32 {
		<-arrived
	}
	if _, err := w.verify(evidence); err == nil || errors.Is(err, ident.ErrRejected) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("got %v", err)
	}
	close(release)
	for range 32 {
		<-done
	}
}

func TestNoPartOfACredentialReachesErrors(t *testing.T) {
	w := newWorld(t)
	text := ""
	for _, change := range badRequests() {
		_, err := w.verify(w.changed(t, change))
		text += fmt.Sprintf("%v %+v %#v\n", err, err, err)
	}
	for _, respond := range sickServices() {
		w.sts.Respond(respond)
		_, err := w.verify(w.evidence(t))
		text += fmt.Sprintf("%v %+v %#v\n", err, err, err)
	}
	for _, secret := range []string{"FwoGZXIvYXdzE", "ASIAEXAMPLE", "Signature=", "hush"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown: %s", secret, text)
		}
	}
}

func TestConfigurationsThatCannotBeSafeAreRefused(t *testing.T) {
	good := aws.Config{Name: "aws", Audience: audience, Accounts: []string{account}, Now: identitytest.NewClock().Now}
	if _, err := aws.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*aws.Config){
		"no name":                 func(c *aws.Config) { c.Name = "" },
		"a colon in the name":     func(c *aws.Config) { c.Name = "a:b" },
		"no audience":             func(c *aws.Config) { c.Audience = "" },
		"no clock":                func(c *aws.Config) { c.Now = nil },
		"no account":              func(c *aws.Config) { c.Accounts = nil },
		"every account":           func(c *aws.Config) { c.Accounts = []string{"*"} },
		"an account of 11 digits": func(c *aws.Config) { c.Accounts = []string{"12345678901"} },
		"another partition":       func(c *aws.Config) { c.Partition = "aws-iso" },
		"too old a request":       func(c *aws.Config) { c.MaxAge = time.Hour },
		"a negative age":          func(c *aws.Config) { c.MaxAge = -1 },
		"too much leeway":         func(c *aws.Config) { c.Leeway = time.Hour },
		"a negative timeout":      func(c *aws.Config) { c.Timeout = -1 },
		"an endpoint elsewhere":   func(c *aws.Config) { c.Endpoint = "https://evil.example" },
	} {
		config := good
		change(&config)
		if _, err := aws.New(config); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
