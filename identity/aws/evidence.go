package aws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/secret"
)

// Prefix begins evidence of this kind.
const Prefix = "dpaws_"

// ServerHeader is the header in which the workload names the server that its request is for.
const ServerHeader = "X-Daypass-Server"

// The only request there is.
const (
	method      = "POST"
	body        = "Action=GetCallerIdentity&Version=2011-06-15"
	contentType = "application/x-www-form-urlencoded"
	timeFormat  = "20060102T150405Z"
)

// What evidence may hold.
const (
	maxHeader = 12 << 10 // bytes of one value: session tokens are the longest
	maxServer = 512
)

// document is evidence as it is written.
type document struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// request is a signed request that is nothing else than it may be. Its signature is for STS to check.
type request struct {
	endpoint  endpoint
	headers   map[string]string // by name in lower case, with what the signature covers and the signature
	server    string
	signedAt  time.Time
	signature string
}

// id names the request: its signature covers everything that counts. The signature itself is no secret any more than
// a token's, but it has no place in records.
func (r *request) id() string {
	hash := sha256.Sum256([]byte(r.signature))
	return hex.EncodeToString(hash[:])
}

// parseEvidence reads evidence. It is strict to the letter, because what we send must be what we looked at.
func parseEvidence(evidence string) (*request, error) {
	text, err := decode(evidence)
	if err != nil {
		return nil, err
	}
	// Repeated and unknown names, and what is not UTF-8, are errors; names are told apart by case.
	var d document
	if err := json.Unmarshal(text, &d, json.RejectUnknownMembers(true)); err != nil {
		return nil, identity.Reject(WhyMalformed, "the evidence is not the JSON of a request") // the cause may quote it
	}
	r := &request{headers: map[string]string{}}
	if err := r.line(d); err != nil {
		return nil, err
	}
	if err := r.read(d.Headers); err != nil {
		return nil, err
	}
	return r, r.authorize()
}

// decode takes the prefix and base64url away.
func decode(evidence string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(evidence, Prefix)
	if !ok || len(evidence) > api.MaxToken || strings.ContainsAny(encoded, "\r\n") {
		return nil, identity.Reject(WhyMalformed, "the evidence is not %s and base64url, or has more than %d bytes", Prefix, api.MaxToken)
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, identity.Reject(WhyMalformed, "the evidence is not base64url")
	}
	return text, nil
}

// line holds method, URL and body to the one request there is. A request that is signed in its URL ("presigned") has a
// query, and is refused: it lives for as long as its maker likes.
func (r *request) line(d document) error {
	host, ok := strings.CutPrefix(d.URL, "https://")
	host = strings.TrimSuffix(host, "/")
	if r.endpoint, _ = endpointOf(host); !ok || r.endpoint.host == "" {
		return identity.Reject(WhyEndpoint, "it is not for a regional endpoint of STS that we know, such as https://sts.us-east-1.amazonaws.com/")
	}
	if d.Method != method || d.Body != body {
		return identity.Reject(WhyRequest, "it is not %s %s", method, body)
	}
	return nil
}

// forms are what the values of headers look like, by name in lower case. Others are refused.
var forms = map[string]*regexp.Regexp{
	"authorization":        regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[A-Z0-9]{16,128}/([0-9]{8})/([a-z0-9-]+)/sts/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`),
	"content-length":       regexp.MustCompile(`^43$`),
	"content-type":         regexp.MustCompile(`^application/x-www-form-urlencoded(; charset=utf-8)?$`),
	"host":                 regexp.MustCompile(`^[a-z0-9.-]+$`),
	"x-amz-date":           regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`),
	"x-amz-security-token": regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`),
	"x-daypass-nonce":      regexp.MustCompile(`^[A-Za-z0-9]{16,64}$`), // tells requests of one second apart
	"x-daypass-server":     regexp.MustCompile(`^[!-~]+$`),
}

// read takes the headers in, each once.
func (r *request) read(headers map[string]string) error {
	for name, value := range headers {
		lower := strings.ToLower(name)
		form := forms[lower]
		if form == nil {
			return identity.Reject(WhyRequest, "the header %s is not one of those that it may have", identity.Quote(name))
		}
		if _, twice := r.headers[lower]; twice {
			return identity.Reject(WhyRequest, "the header %s is there twice", lower)
		}
		if len(value) > maxHeader || !form.MatchString(value) {
			return identity.Reject(WhyRequest, "the header %s does not have the form it must have", lower)
		}
		r.headers[lower] = value
	}
	for _, name := range []string{"authorization", "content-type", "x-amz-date", "x-daypass-server"} {
		if r.headers[name] == "" {
			return identity.Reject(WhyRequest, "the header %s is missing", name)
		}
	}
	if host, ok := r.headers["host"]; ok && host != r.endpoint.host {
		return identity.Reject(WhyEndpoint, "its Host is not that of its URL")
	}
	if r.server = r.headers["x-daypass-server"]; len(r.server) > maxServer {
		return identity.Reject(WhyAudience, "the server that it names has more than %d bytes", maxServer)
	}
	return nil
}

// authorize looks at what is signed: everything that we rely on and everything that we send. What a signature does not
// cover anybody could have put there.
func (r *request) authorize() error {
	parts := forms["authorization"].FindStringSubmatch(r.headers["authorization"])
	date, region, signed := parts[1], parts[2], strings.Split(parts[3], ";")
	r.signature = parts[4]
	var err error
	if r.signedAt, err = time.Parse(timeFormat, r.headers["x-amz-date"]); err != nil {
		return identity.Reject(WhyRequest, "X-Amz-Date is no time")
	}
	if date != r.headers["x-amz-date"][:8] || region != r.endpoint.region {
		return identity.Reject(WhyRequest, "it is signed for another day or region than its own")
	}
	if !slices.IsSorted(signed) || len(slices.Compact(slices.Clone(signed))) != len(signed) {
		return identity.Reject(WhyRequest, "the names of the signed headers are not in order")
	}
	if !slices.Contains(signed, "host") {
		return identity.Reject(WhyRequest, "the header host is not signed")
	}
	for name := range r.headers {
		if name != "authorization" && !slices.Contains(signed, name) {
			return identity.Reject(WhyRequest, "the header %s is not signed", name)
		}
	}
	for _, name := range signed {
		if _, ok := r.headers[name]; !ok && name != "host" {
			return identity.Reject(WhyRequest, "the header %s is signed and missing", identity.Quote(name))
		}
	}
	return nil
}

// ClaimedURL returns the issuer that evidence names: the partition of the endpoint. Nobody has vouched for it: it is
// good for choosing the verifier, which checks it, and for nothing else. The error is a [Rejection].
func ClaimedURL(evidence secret.Text) (string, error) {
	r, err := parseEvidence(evidence.Reveal())
	if err != nil {
		return "", err
	}
	url, _ := URL(r.endpoint.partition)
	return url, nil
}
