package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/identity"
)

// What an issuer may send.
const (
	maxDiscovery = 64 << 10
	maxKeySet    = 512 << 10
	maxURL       = 2 << 10
)

// source fetches one issuer's documents.
type source struct {
	exact  string // the issuer's URL, byte for byte
	issuer *url.URL
	client *http.Client
}

// checkURL holds an issuer's URL to OpenID Connect Discovery 1.0 §2 and §4.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURL || u.Host == "" || u.Opaque != "" {
		return nil, fmt.Errorf("%s is not a URL", identity.Quote(text))
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return nil, errors.New("an issuer's URL has no user, query or fragment")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("%s is not https; http is for loopback only", identity.Quote(text))
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newSource(cfg Config) (*source, error) {
	u, err := checkURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	client := &http.Client{}
	if cfg.Client != nil {
		*client = *cfg.Client
	}
	if client.Transport == nil {
		if client.Transport, err = newTransport(cfg.CA, cfg.Egress); err != nil {
			return nil, err
		}
	}
	// A redirect would let whoever can move one page choose the keys; a cookie would tell us apart.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	return &source{exact: cfg.URL, issuer: u, client: client}, nil
}

// newTransport trusts the authorities in ca alone, or the system's where there are none.
func newTransport(ca []byte, dialer egress.Dialer) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the authorities hold no PEM certificate")
		}
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // bounds are then bounds of what is sent
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        90 * time.Second,
	}, nil
}

// fetch reads the discovery document, every time, so that an issuer can move its keys, and then the key set.
func (s *source) fetch(ctx context.Context) (KeySet, error) {
	where := strings.TrimSuffix(s.exact, "/") + "/.well-known/openid-configuration"
	document, _, err := s.get(ctx, where, maxDiscovery)
	if err != nil {
		return KeySet{}, fmt.Errorf("fetch the discovery document: %w", err)
	}
	discovery, err := parseDiscovery(document, s.issuer, s.exact)
	if err != nil {
		return KeySet{}, fmt.Errorf("read the discovery document: %w", err)
	}
	jwks, header, err := s.get(ctx, discovery.KeysAt, maxKeySet)
	if err != nil {
		return KeySet{Discovery: discovery}, fmt.Errorf("fetch the key set: %w", err)
	}
	return KeySet{JWKS: jwks, MaxAge: maxAge(header), Discovery: discovery}, nil
}

// parseDiscovery returns what we use of a discovery document. Only an issuer on loopback may name a place on loopback:
// one elsewhere must not be able to point us at what listens on our own machine.
func parseDiscovery(text []byte, issuer *url.URL, exact string) (Discovery, error) {
	document, err := parseObject(text, 32)
	if err != nil {
		return Discovery{}, err
	}
	if got, _ := document["issuer"].(string); got != exact {
		return Discovery{}, fmt.Errorf("it %w: %s, not %s", ErrOtherIssuer, identity.Quote(got), identity.Quote(exact))
	}
	keysAt, _ := document["jwks_uri"].(string)
	u, err := url.Parse(keysAt)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || len(keysAt) > maxURL {
		return Discovery{}, errors.New("its jwks_uri is not a URL")
	}
	local := isLoopback(u.Hostname())
	if local && !isLoopback(issuer.Hostname()) {
		return Discovery{}, errors.New("its jwks_uri is on our own machine, and the issuer is not")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && issuer.Scheme == "http" && local) {
		return Discovery{}, errors.New("its jwks_uri is not https")
	}
	return Discovery{KeysAt: keysAt, Algorithms: texts(document["id_token_signing_alg_values_supported"])}, nil
}

// texts are the texts of a list, sorted and each once; what else is in it does not count.
func texts(value any) []string {
	list, _ := value.([]any)
	var all []string
	for _, element := range list {
		if text, ok := element.(string); ok {
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// get reads at most limit bytes of one page.
func (s *source) get(ctx context.Context, where string, limit int64) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "daypass")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode >= 300 && response.StatusCode < 400:
		return nil, nil, fmt.Errorf("%s redirects, which is not followed", where)
	case response.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("%s answers %d", where, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(body)) > limit {
		return nil, nil, fmt.Errorf("%s sends more than %d bytes", where, limit)
	}
	return body, response.Header, nil
}

// maxAge reads how long a response may be kept (RFC 9111 §5.2.2), less the time that it lay in caches.
func maxAge(header http.Header) time.Duration {
	control := strings.ToLower(strings.Join(header.Values("Cache-Control"), ","))
	for part := range strings.SplitSeq(control, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			lain, _ := strconv.ParseUint(header.Get("Age"), 10, 31)
			return max(0, time.Duration(seconds)*time.Second-time.Duration(lain)*time.Second)
		}
	}
	return -1
}
