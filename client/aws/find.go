package aws

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

	sdk "github.com/aws/aws-sdk-go-v2/aws"
)

// Where says where [Find] looks. Getenv is required; the others are for tests.
type Where struct {
	Getenv   func(name string) string
	HTTP     *http.Client // nil: one with a timeout and without a proxy
	Vendor   string       // the file that says who made the machine; /sys/class/dmi/id/sys_vendor unless given
	Metadata string       // the base of the metadata service of EC2; http://169.254.169.254 unless given
	Tasks    string       // the base of the credentials service of ECS; http://169.254.170.2 unless given
}

// Found is where credentials are.
type Found struct {
	Credentials sdk.CredentialsProvider // asked anew each time: what is there now is what counts
	Region      string                  // as the environment says; empty: it does not
	FIPS        bool                    // the environment asks for FIPS endpoints
	Origin      string                  // for people: "the instance profile of EC2"
}

// Find looks for AWS credentials where AWS itself puts them: the environment (Lambda), the credentials service of a
// container (ECS, EKS Pod Identity), and the instance profile of EC2, in this order. It asks nobody: a machine that
// is none of EC2's is known by its maker. It reads no profiles of people. Programs that need more of what the SDK can
// find use the SDK.
func Find(w Where) (Found, bool) {
	found := Found{FIPS: w.Getenv("AWS_USE_FIPS_ENDPOINT") == "true", Region: w.Getenv("AWS_REGION")}
	if found.Region == "" {
		found.Region = w.Getenv("AWS_DEFAULT_REGION")
	}
	vendor := w.Vendor
	if vendor == "" {
		vendor = "/sys/class/dmi/id/sys_vendor"
	}
	switch {
	case w.Getenv("AWS_ACCESS_KEY_ID") != "" && w.Getenv("AWS_SECRET_ACCESS_KEY") != "":
		found.Credentials, found.Origin = sdk.CredentialsProviderFunc(w.environment), "AWS_ACCESS_KEY_ID"
	case w.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || w.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "":
		found.Credentials, found.Origin = sdk.CredentialsProviderFunc(w.container), "the AWS role of the container"
	case w.Getenv("AWS_EC2_METADATA_DISABLED") != "true" && isEC2(vendor):
		found.Credentials, found.Origin = sdk.CredentialsProviderFunc(w.instance), "the instance profile of EC2"
	default:
		return Found{}, false
	}
	return found, true
}

func isEC2(vendor string) bool {
	text, err := os.ReadFile(vendor)
	return err == nil && strings.TrimSpace(string(text)) == "Amazon EC2"
}

func (w Where) environment(context.Context) (sdk.Credentials, error) {
	return sdk.Credentials{AccessKeyID: w.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: w.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: w.Getenv("AWS_SESSION_TOKEN")}, nil
}

// container asks the credentials service of a container.
func (w Where) container(ctx context.Context) (sdk.Credentials, error) {
	where := w.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := w.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		if !strings.HasPrefix(relative, "/") {
			return sdk.Credentials{}, errors.New("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is no path")
		}
		where = orDefault(w.Tasks, "http://169.254.170.2") + relative
	} else if err := checkContainer(where); err != nil {
		return sdk.Credentials{}, err
	}
	header := http.Header{}
	token := w.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := w.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		text, err := os.ReadFile(file) // each time: the kubelet replaces it
		if err != nil {
			return sdk.Credentials{}, fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if strings.ContainsAny(token, "\r\n") {
		return sdk.Credentials{}, errors.New("the authorization token of the container has more than one line")
	}
	if token != "" {
		header.Set("Authorization", token)
	}
	text, err := w.ask(ctx, http.MethodGet, where, header)
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("ask the credentials service of the container: %w", err)
	}
	return parseCredentials(text)
}

// checkContainer lets the token go to this machine, to the services of ECS and EKS, and over https: the same as the SDK.
func checkContainer(where string) error {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" {
		return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL")
	}
	switch address, err := netip.ParseAddr(u.Hostname()); {
	case u.Scheme == "https":
	case u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && address.IsLoopback()):
	case u.Scheme == "http" && (u.Hostname() == "169.254.170.2" || u.Hostname() == "169.254.170.23" || u.Hostname() == "fd00:ec2::23"):
	default:
		return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this machine")
	}
	return nil
}

// instance asks the metadata service of EC2, by its second version alone.
func (w Where) instance(ctx context.Context) (sdk.Credentials, error) {
	base := orDefault(w.Metadata, "http://169.254.169.254")
	token, err := w.ask(ctx, http.MethodPut, base+"/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}})
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("ask the metadata service of EC2 (in a container its hop limit must be 2): %w", err)
	}
	header := http.Header{"X-Aws-Ec2-Metadata-Token": {strings.TrimSpace(string(token))}}
	const roles = "/latest/meta-data/iam/security-credentials/"
	name, err := w.ask(ctx, http.MethodGet, base+roles, header)
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("ask for the instance profile of EC2; the instance may have none: %w", err)
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(name)), "\n")
	text, err := w.ask(ctx, http.MethodGet, base+roles+url.PathEscape(role), header)
	if err != nil {
		return sdk.Credentials{}, fmt.Errorf("ask for the credentials of the instance profile: %w", err)
	}
	return parseCredentials(text)
}

// ask makes one call to a service of the platform, which is near or not there.
func (w Where) ask(ctx context.Context, method, where string, header http.Header) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, where, nil)
	if err != nil {
		return nil, errors.New("its address is no URL")
	}
	request.Header = header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy: the services are ours alone
	if w.HTTP != nil {
		*client = *w.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %d", response.StatusCode)
	}
	return text, err
}

// parseCredentials reads the one form that both services have.
func parseCredentials(text []byte) (sdk.Credentials, error) {
	var c struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
	}
	if err := json.Unmarshal(text, &c); err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return sdk.Credentials{}, errors.New("the answer holds no credentials") // without the cause, which may quote them
	}
	return sdk.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token}, nil
}

func orDefault(text, usual string) string {
	if text == "" {
		return usual
	}
	return text
}
