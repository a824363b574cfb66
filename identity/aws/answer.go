package aws

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
)

// What STS may send.
const (
	maxAnswer = 64 << 10
	maxDepth  = 8
)

// What the parts of an answer look like.
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	arnForm     = regexp.MustCompile(`^[!-~]{20,1000}$`)
	userIDForm  = regexp.MustCompile(`^[!-~]{12,256}$`)
	codeForm    = regexp.MustCompile(`^[A-Za-z.]{1,64}$`)
)

// errBusy says that too many calls to STS are on their way.
var errBusy = errors.New("too many calls to STS are on their way")

// newTransport speaks to STS alone.
func newTransport(dialer egress.Dialer) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // bounds are then bounds of what is sent
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    maxCalls,
		IdleConnTimeout:        90 * time.Second,
	}
}

// ask sends the request to STS and returns its answer.
func (v *Verifier) ask(ctx context.Context, r *request) ([]byte, error) {
	select {
	case v.calls <- struct{}{}:
		defer func() { <-v.calls }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	base := "https://" + r.endpoint.host
	if v.cfg.Endpoint != "" {
		base = v.cfg.Endpoint
	}
	call, err := http.NewRequestWithContext(ctx, method, base+"/", strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask STS: %w", err)
	}
	for name, value := range r.headers {
		call.Header.Set(name, value)
	}
	call.Header.Del("Host") // not a header to the library: call.Host is
	call.Header.Del("Content-Length")
	call.Header.Set("User-Agent", "daypass")
	call.Host = r.endpoint.host
	response, err := v.client.Do(call)
	if err != nil {
		return nil, fmt.Errorf("ask STS: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask STS: %w", err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("ask STS: it sends more than %d bytes", maxAnswer)
	case response.StatusCode != http.StatusOK:
		return nil, refusal(response.StatusCode, text)
	}
	return text, nil
}

// refusal tells what STS says of the evidence from what it says of itself. Only the former is for ever.
func refusal(status int, text []byte) error {
	fields, err := flatten(text)
	code := fields["ErrorResponse/Error/Code"]
	if err != nil || !codeForm.MatchString(code) {
		return fmt.Errorf("ask STS: it answers %d", status)
	}
	if status == http.StatusBadRequest || status == http.StatusForbidden {
		switch code {
		case "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
			"MissingAuthenticationToken", "InvalidAccessKeyId", "UnrecognizedClientException":
			return identity.Reject(WhySignature, "STS does not accept it: %s", code)
		}
	}
	return fmt.Errorf("ask STS: it answers %d, %s", status, code)
}

// answer is what STS says of a caller.
type answer struct {
	account, arn, userID string
}

// parseAnswer reads a GetCallerIdentityResponse.
func parseAnswer(text []byte) (answer, error) {
	fields, err := flatten(text)
	if err != nil {
		return answer{}, err
	}
	const result = "GetCallerIdentityResponse/GetCallerIdentityResult/"
	a := answer{account: fields[result+"Account"], arn: fields[result+"Arn"], userID: fields[result+"UserId"]}
	switch {
	case !accountForm.MatchString(a.account):
		return answer{}, errors.New("it names no account")
	case !arnForm.MatchString(a.arn):
		return answer{}, errors.New("it names no ARN")
	case !userIDForm.MatchString(a.userID):
		return answer{}, errors.New("it names no user ID")
	}
	return a, nil
}

// flatten returns the texts of a document by the path to each. It refuses what two readers could take for two
// documents: an element that is there twice, text beside elements, declarations, comments, and anything but one root.
func flatten(text []byte) (map[string]string, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	f := flattener{fields: map[string]string{}, parents: map[string]bool{}}
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("it is not XML")
		}
		if err := f.take(token); err != nil {
			return nil, err
		}
	}
	if len(f.path) != 0 || !f.rooted {
		return nil, errors.New("it is not one XML document")
	}
	return f.fields, nil
}

// flattener is where flatten is in a document.
type flattener struct {
	path    []string
	text    strings.Builder
	rooted  bool
	fields  map[string]string
	parents map[string]bool // paths of elements that hold elements
}

func (f *flattener) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return f.open(t)
	case xml.EndElement:
		return f.close(t)
	case xml.CharData:
		if len(f.path) == 0 && strings.TrimSpace(string(t)) != "" {
			return errors.New("it has text outside its root")
		}
		f.text.Write(t)
	case xml.ProcInst:
		if t.Target != "xml" || f.rooted {
			return errors.New("it has a processing instruction")
		}
	default:
		return errors.New("it has a comment or a declaration")
	}
	return nil
}

func (f *flattener) open(t xml.StartElement) error {
	if len(f.path) == 0 && f.rooted || len(f.path) == maxDepth {
		return errors.New("it has two roots, or is nested too deep")
	}
	if t.Name.Space != "" || strings.TrimSpace(f.text.String()) != "" {
		return errors.New("it has a prefixed name, or text beside elements")
	}
	for _, a := range t.Attr {
		if a.Name.Space != "" || a.Name.Local != "xmlns" || len(f.path) != 0 {
			return errors.New("it has an attribute")
		}
	}
	f.parents[strings.Join(f.path, "/")] = true
	f.path, f.rooted = append(f.path, t.Name.Local), true
	f.text.Reset()
	here := strings.Join(f.path, "/")
	if _, twice := f.fields[here]; twice || f.parents[here] {
		return errors.New("it has an element twice")
	}
	return nil
}

func (f *flattener) close(t xml.EndElement) error {
	if len(f.path) == 0 || t.Name.Space != "" || f.path[len(f.path)-1] != t.Name.Local {
		return errors.New("it is not XML")
	}
	here := strings.Join(f.path, "/")
	switch {
	case !f.parents[here]:
		f.fields[here] = f.text.String()
	case strings.TrimSpace(f.text.String()) != "":
		return errors.New("it has text beside elements")
	}
	f.text.Reset()
	f.path = f.path[:len(f.path)-1]
	return nil
}
