package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/aws"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/secret"
)

// ProjectedToken is where a pod's projected service account token is looked for.
const ProjectedToken = "/var/run/secrets/tokens/daypass"

// DeviceVariable names the state file of a device that was enrolled.
const DeviceVariable = "DAYPASS_DEVICE"

// Where says where to look for evidence. Getenv is required.
type Where struct {
	TokenFile string                   // as the user named it; wins over all
	Certs     Certs                    // as the user named them
	Server    string                   // the server's URL: the audience of tokens, unless DAYPASS_AUDIENCE is set
	Getenv    func(name string) string // the process's environment
	Projected string                   // instead of [ProjectedToken]
	Maker     string                   // of the machine: the file that names it, instead of that of Linux; for tests
	HTTP      *http.Client             // for platforms that give tokens over HTTP; nil: one with a timeout
}

// Certs are the files of a client certificate and its key.
type Certs struct{ Certificate, Key string }

// Evidence is a source of tokens, or of certificates, and where it was found.
type Evidence struct {
	client.TokenSource                          // nil: the certificate says who we are
	Certificate        client.CertificateSource // nil: none; beside a token it is shown too
	Origin             string                   // for people: "the GitHub Actions job"
	// Keep renews what the evidence hangs on, until the context ends; nil where there is nothing to renew.
	Keep func(ctx context.Context, c *client.Client, tell func(string))
}

// NoEvidenceError says that no place holds evidence, and what was found at each.
type NoEvidenceError struct {
	Looked []Place
}

// Place is one place without evidence.
type Place struct {
	Name  string // what was looked at
	Found string // what is there instead
	Fix   string // what to do when this is the platform in use; empty when it is plainly another
}

// Error lists every place.
func (e *NoEvidenceError) Error() string {
	var b strings.Builder
	b.WriteString("no identity token was found; looked at:")
	for _, p := range e.Looked {
		fmt.Fprintf(&b, "\n  %s: %s", p.Name, p.Found)
	}
	return b.String()
}

// Hints returns what to do, the most likely first.
func (e *NoEvidenceError) Hints() []string {
	var hints []string
	for _, p := range e.Looked {
		if p.Fix != "" {
			hints = append(hints, p.Fix)
		}
	}
	if hints == nil {
		hints = []string{"name a file that holds a token: --token-file PATH, or DAYPASS_TOKEN_FILE",
			"or a certificate and its key: --client-cert PATH --client-key PATH"}
	}
	return hints
}

// Is makes the error one of missing evidence for callers that know only the client.
func (e *NoEvidenceError) Is(target error) bool { return target == client.ErrNoToken }

// Find returns the first evidence that is there: a token file or a client certificate named by the user, a token file of
// DAYPASS_TOKEN_FILE, a certificate of DAYPASS_CLIENT_CERT, an SVID that DAYPASS_SPIFFE asks for, a device that was enrolled
// (DAYPASS_DEVICE), a token in DAYPASS_ID_TOKEN (GitLab's id_tokens put it there), GitHub Actions, a projected Kubernetes token, a
// JWT-SVID of the SPIFFE Workload API, AWS credentials. A place
// that was named but does not work is an error of its own when a call asks for the token: what the user named is
// never passed over. A certificate that was named is shown beside a token that was named, too.
func Find(w Where) (Evidence, error) {
	certificate, err := w.certificate()
	if err != nil {
		return Evidence{}, err
	}
	var looked []Place
	for _, look := range []func(Where) (Evidence, Place){namedFile, namedCertificate, environmentFile, environmentCertificate, namedSPIFFE, enrolledDevice, environmentToken, gitHub, projected, workloadAPI, amazon} {
		evidence, place := look(w)
		if evidence.TokenSource != nil || evidence.Certificate != nil {
			if certificate != nil {
				evidence.Certificate = certificate
			}
			return evidence, nil
		}
		looked = append(looked, place)
	}
	return Evidence{}, &NoEvidenceError{Looked: looked}
}

// certificate is the client certificate that the user or the environment names, or nil.
func (w Where) certificate() (client.CertificateSource, error) {
	from, files := "--client-cert and --client-key", w.Certs
	if files == (Certs{}) {
		from, files = clientCert+" and "+clientKey, Certs{w.Getenv(clientCert), w.Getenv(clientKey)}
	}
	switch {
	case files == (Certs{}):
		return nil, nil
	case files.Certificate == "" || files.Key == "":
		return nil, fmt.Errorf("%s belong together: one names the certificate, the other its key", from)
	}
	return client.FileCertificate(files.Certificate, files.Key), nil
}

// The variables that name a client certificate and its key.
const clientCert, clientKey = "DAYPASS_CLIENT_CERT", "DAYPASS_CLIENT_KEY"

// namedCertificate is --client-cert.
func namedCertificate(w Where) (Evidence, Place) {
	if w.Certs.Certificate == "" {
		return Evidence{}, Place{Name: "--client-cert", Found: "not given"}
	}
	return Evidence{Certificate: client.FileCertificate(w.Certs.Certificate, w.Certs.Key), Origin: "certificate " + w.Certs.Certificate}, Place{}
}

// environmentCertificate is DAYPASS_CLIENT_CERT.
func environmentCertificate(w Where) (Evidence, Place) {
	path := w.Getenv(clientCert)
	if path == "" {
		return Evidence{}, Place{Name: clientCert, Found: "not set"}
	}
	return Evidence{Certificate: client.FileCertificate(path, w.Getenv(clientKey)), Origin: "certificate " + path + " (" + clientCert + ")"}, Place{}
}

// namedFile is --token-file.
func namedFile(w Where) (Evidence, Place) {
	if w.TokenFile == "" {
		return Evidence{}, Place{Name: "--token-file", Found: "not given"}
	}
	return Evidence{TokenSource: client.FileToken(w.TokenFile), Origin: "file " + w.TokenFile}, Place{}
}

// environmentFile is DAYPASS_TOKEN_FILE.
func environmentFile(w Where) (Evidence, Place) {
	path := w.Getenv("DAYPASS_TOKEN_FILE")
	if path == "" {
		return Evidence{}, Place{Name: "DAYPASS_TOKEN_FILE", Found: "not set"}
	}
	return Evidence{TokenSource: client.FileToken(path), Origin: "file " + path + " (DAYPASS_TOKEN_FILE)"}, Place{}
}

// enrolledDevice is a device that was enrolled, whose state file DAYPASS_DEVICE names. It signs evidence itself.
func enrolledDevice(w Where) (Evidence, Place) {
	path := w.Getenv(DeviceVariable)
	if path == "" {
		return Evidence{}, Place{Name: DeviceVariable, Found: "not set"}
	}
	sign := func(ctx context.Context) (secret.Text, error) {
		state, err := device.Read(path)
		if err != nil {
			return secret.Text{}, err
		}
		key, err := device.ReadKey(state.Key)
		if err != nil {
			return secret.Text{}, err
		}
		return device.Source{State: state, Key: key, Now: time.Now}.Token(ctx)
	}
	keep := func(ctx context.Context, c *client.Client, tell func(string)) {
		device.Keep(ctx, c, path, time.Now, tell)
	}
	return Evidence{TokenSource: client.TokenFunc(sign), Origin: "the device of " + path + " (" + DeviceVariable + ")", Keep: keep}, Place{}
}

// environmentToken is DAYPASS_ID_TOKEN, which GitLab sets where the job asks for it under that name.
func environmentToken(w Where) (Evidence, Place) {
	if token := w.Getenv("DAYPASS_ID_TOKEN"); token != "" {
		return Evidence{TokenSource: client.StaticToken(secret.New(token)), Origin: "DAYPASS_ID_TOKEN"}, Place{}
	}
	place := Place{Name: "DAYPASS_ID_TOKEN (GitLab CI)", Found: "not set"}
	if w.Getenv("GITLAB_CI") != "" {
		place.Found = "not set, though this is a GitLab job"
		place.Fix = fmt.Sprintf("add to the job in .gitlab-ci.yml:  id_tokens: {DAYPASS_ID_TOKEN: {aud: %s}}", audience(w))
	}
	return Evidence{}, place
}

// projected is a service account token that the kubelet mounts and refreshes.
func projected(w Where) (Evidence, Place) {
	path := w.Projected
	if path == "" {
		path = ProjectedToken
	}
	if _, err := os.Stat(path); err == nil {
		return Evidence{TokenSource: client.FileToken(path), Origin: "projected token " + path}, Place{}
	}
	place := Place{Name: path + " (Kubernetes)", Found: "no such file"}
	if w.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		place.Found = "no such file, though this is a pod"
		place.Fix = fmt.Sprintf("mount a projected volume with a serviceAccountToken (audience %s, path daypass) at /var/run/secrets/tokens", audience(w))
	}
	return Evidence{}, place
}

// amazon is a workload with AWS credentials, which it keeps: what goes out is a request that they sign. It is last,
// since a job may hold credentials of AWS for other things.
func amazon(w Where) (Evidence, Place) {
	found, ok := aws.Find(aws.Where{Getenv: w.Getenv, Vendor: w.Maker})
	if !ok {
		return Evidence{}, Place{Name: "AWS credentials (environment, container, EC2)", Found: "none"}
	}
	source := aws.Source{Server: audience(w), Region: found.Region, FIPS: found.FIPS, Credentials: found.Credentials, Now: time.Now}
	return Evidence{TokenSource: source, Origin: found.Origin}, Place{}
}

// gitHub is a GitHub Actions job that may ask for ID tokens.
func gitHub(w Where) (Evidence, Place) {
	endpoint, bearer := w.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), w.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if endpoint != "" && bearer != "" {
		source := actionsToken{endpoint: endpoint, bearer: secret.New(bearer), audience: audience(w), http: w.HTTP}
		return Evidence{TokenSource: source, Origin: "the GitHub Actions job"}, Place{}
	}
	place := Place{Name: "ACTIONS_ID_TOKEN_REQUEST_URL (GitHub Actions)", Found: "not set"}
	if w.Getenv("GITHUB_ACTIONS") != "" {
		place.Found = "not set, though this is a GitHub Actions job"
		place.Fix = "add to the job in the workflow file:  permissions: {id-token: write, contents: read}"
	}
	return Evidence{}, place
}

// audience is who tokens must be meant for: the server's URL as its configuration writes it, without a slash at
// the end.
func audience(w Where) string {
	if named := w.Getenv("DAYPASS_AUDIENCE"); named != "" {
		return named
	}
	return strings.TrimRight(w.Server, "/")
}

// actionsToken asks GitHub for a fresh ID token each time: they live for minutes.
type actionsToken struct {
	endpoint string
	bearer   secret.Text
	audience string
	http     *http.Client
}

// Token asks for a token.
func (a actionsToken) Token(ctx context.Context) (secret.Text, error) {
	endpoint, err := a.address()
	if err != nil {
		return secret.Text{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return secret.Text{}, errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is not a URL")
	}
	request.Header.Set("Authorization", "Bearer "+a.bearer.Reveal())
	response, err := a.client().Do(request)
	if err != nil {
		return secret.Text{}, fmt.Errorf("ask GitHub Actions for a token: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return secret.Text{}, fmt.Errorf("ask GitHub Actions for a token: %s", response.Status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 2*api.MaxToken))
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.Value == "" {
		return secret.Text{}, errors.New("ask GitHub Actions for a token: the answer holds none")
	}
	return secret.New(answer.Value), nil
}

// address is the endpoint with the audience. The request token is for GitHub alone, so plain http is refused, but
// for this machine.
func (a actionsToken) address() (string, error) {
	u, err := url.Parse(a.endpoint)
	if err != nil || u.Host == "" {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is not a URL")
	}
	host, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !host.IsLoopback()) {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is not an https URL")
	}
	query := u.Query()
	query.Set("audience", a.audience)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// client returns the HTTP client, which follows no redirect with the request token.
func (a actionsToken) client() *http.Client {
	c := &http.Client{}
	if a.http != nil {
		*c = *a.http
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}
