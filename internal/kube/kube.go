// Package kube speaks to the API server of a Kubernetes cluster: the few requests that Daypass needs, by plain REST.
//
// It owns how a cluster is reached and what its answers mean. It promises that a credential goes to the one server that
// the configuration names, that no redirect is followed, that answers are bounded, and that an [Error] tells a request
// that was refused, and so changed nothing, from one whose outcome nobody knows. It keeps nothing: whoever wants an
// answer remembered remembers it. It imports secret and the standard library only.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
)

// What an API server may send, and how long it may take.
const (
	maxAnswer = 4 << 20
	maxWait   = 30 * time.Second
	pageSize  = 500
)

// Config says how a cluster is reached. URL is required, and either Token or Certificate and Key.
type Config struct {
	URL string // https://host:port, and a path where the server has one
	CA  []byte // PEM; empty: the system's authorities

	// Token returns the bearer token of a request. It is asked each time, since clusters replace tokens in their files.
	Token func() (secret.Text, error)
	// Certificate and Key, in PEM, are a client certificate.
	Certificate []byte
	Key         secret.Text
}

// Client speaks to one API server. Its methods may be called concurrently.
type Client struct {
	url   string
	token func() (secret.Text, error)
	http  *http.Client
}

// CheckURL holds the URL of an API server to what [New] takes.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("want https://host:port")
	case u.Scheme != "https":
		return errors.New("want https: the credential would travel in the clear")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return errors.New("want neither user nor query nor fragment")
	}
	return nil
}

// New returns a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("url of the API server: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(cfg.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, errors.New("the authorities of the API server hold no certificate in PEM")
		}
	}
	switch {
	case (cfg.Token != nil) == (len(cfg.Certificate) > 0):
		return nil, errors.New("the API server takes a token or a client certificate, and one of them must be given")
	case cfg.Token == nil:
		pair, err := tls.X509KeyPair(cfg.Certificate, []byte(cfg.Key.Reveal()))
		if err != nil {
			return nil, errors.New("the client certificate and its key do not fit, or are no PEM") // the cause may quote them
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &Client{
		url:   strings.TrimRight(cfg.URL, "/"),
		token: cfg.Token,
		http: &http.Client{
			Timeout:       maxWait,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				TLSClientConfig:        config,
				ForceAttemptHTTP2:      true,
				HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}, // or a dead connection is kept
				MaxResponseHeaderBytes: 64 << 10,
				MaxIdleConnsPerHost:    16,
				IdleConnTimeout:        90 * time.Second,
			},
		},
	}, nil
}

// URL returns where the API server is.
func (c *Client) URL() string { return c.url }

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Now tells the API server's time, in whole seconds.
func (c *Client) Now(ctx context.Context) (time.Time, error) {
	response, err := c.send(ctx, http.MethodGet, "/version", nil)
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	now, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return time.Time{}, errors.New("the API server tells no time")
	}
	return now.UTC(), nil
}

// Keys returns the key set (RFC 7517) with which the cluster's service account tokens are verified.
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	response, err := c.send(ctx, http.MethodGet, "/openid/v1/jwks", nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readAnswer(response)
}

// do sends in as JSON, where there is any, and reads the answer into out, where it is wanted.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return &Error{Refused: true, Message: "the request has no JSON form"} // the cause may quote a token
		}
	}
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := readAnswer(response)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return &Error{Code: response.StatusCode, Message: "the answer cannot be read"}
	}
	return nil
}

// send sends one request and returns its answer when it is a success.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, &Error{Refused: true, cause: err}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Refused: true, Message: "the request is no HTTP request"}
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "daypass")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return nil, &Error{Refused: true, cause: err}
		}
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &Error{cause: err}
	}
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close()
	return nil, readFailure(response)
}

func readAnswer(response *http.Response) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, &Error{Code: response.StatusCode, cause: err}
	}
	if len(answer) > maxAnswer {
		return nil, &Error{Code: response.StatusCode, Message: fmt.Sprintf("the answer has more than %d bytes", maxAnswer)}
	}
	return answer, nil
}
