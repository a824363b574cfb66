package watch

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/secret"
)

// SignatureHeader is the header of the signature of a webhook: "t=<seconds since 1970>,v1=<hex>", where hex is
// HMAC-SHA256 under the key of the seconds, a dot and the body.
const SignatureHeader = "Daypass-Signature"

// Web is what sinks over HTTP need.
type Web struct {
	// URL is asked for at each message: it may be in a file, since some are as good as a password.
	URL func() (secret.Text, error)
	// Key signs the body of a webhook; nil: nothing is signed.
	Key func() (secret.Text, error)
	// CA, in PEM, are the authorities to trust instead of the system's.
	CA     []byte
	Egress egress.Dialer
	Now    func() time.Time
}

// webhook posts JSON.
type webhook struct {
	Web
	client *http.Client
	body   func(Message) ([]byte, error)
}

// NewWebhook returns what posts each message as JSON. It connects to nothing.
func NewWebhook(cfg Web) (Sender, error) {
	return newWeb(cfg, func(m Message) ([]byte, error) { return json.Marshal(m) })
}

// NewSlack returns what posts each message as Slack's incoming webhooks want it, and what is compatible with them.
func NewSlack(cfg Web) (Sender, error) {
	return newWeb(cfg, func(m Message) ([]byte, error) {
		// As code: strangers' texts then make no link and no mark. Its three control characters are escaped everywhere.
		escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "'")
		text := "```" + escape.Replace(m.sentence()) + "```"
		if m.State == Opened {
			text += "\n" + escape.Replace(m.Advice)
		}
		return json.Marshal(map[string]string{"text": text + "\nDaypass " + escape.Replace(m.Instance+", "+m.Server)})
	})
}

func newWeb(cfg Web, body func(Message) ([]byte, error)) (Sender, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != nil {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, errors.New("the authorities hold no PEM certificate")
		}
	}
	return &webhook{Web: cfg, body: body, client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: cfg.Egress.DialContext, TLSClientConfig: settings, ForceAttemptHTTP2: true,
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CheckURL holds the URL of a sink to what is sent to: https, or http on this machine.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("it is not a URL") // the cause may quote it
	case u.User != nil || strings.Contains(text, "#"):
		return errors.New("it has a user or a fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return errors.New("it is not https; http is for loopback only")
	}
	return nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Send implements [Sender]. Its errors name no URL.
func (s *webhook) Send(ctx context.Context, m Message) error {
	body, err := s.body(m)
	if err != nil {
		return err
	}
	where, err := s.URL()
	if err != nil {
		return err
	}
	if err := CheckURL(where.Reveal()); err != nil {
		return fmt.Errorf("its URL: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where.Reveal(), bytes.NewReader(body))
	if err != nil {
		return errors.New("its URL is not one")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "daypass")
	if s.Key != nil {
		key, err := s.Key()
		if err != nil {
			return err
		}
		request.Header.Set(SignatureHeader, sign(key, s.Now(), body))
	}
	response, err := s.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL
		}
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("it answers %d", response.StatusCode)
	}
	return nil
}

// sign makes the signature of a body.
func sign(key secret.Text, now time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	fmt.Fprintf(mac, "%d.%s", now.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
