package cloudtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

const (
	callTime   = 15 * time.Second
	maxAnswer  = 64 << 10
	maxMessage = 200 // bytes of what a cloud says of a refusal
)

// caller speaks to a cloud. Bodies are bounded, redirects refused, and what it sends is in no error.
type caller struct {
	http *http.Client
	now  func() time.Time
}

func newCaller(client *http.Client, now func() time.Time) *caller {
	own := http.Client{}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &caller{&own, now}
}

// post sends a body and decodes the answer into out. Bearer is sent as authorization where it is not zero.
func (c *caller) post(ctx context.Context, where, media, body string, bearer secret.Text, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: the address is none", where)
	}
	request.Header.Set("Content-Type", media)
	request.Header.Set("Accept", "application/json")
	if !bearer.IsZero() {
		request.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", where, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("ask %s: %w", where, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("ask %s: the answer has more than %d bytes", where, maxAnswer)
	case response.StatusCode >= 500:
		return fmt.Errorf("ask %s: %w: status %d", where, target.ErrUnreachable, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("ask %s: status %d: %s", where, response.StatusCode, refusalOf(text))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("ask %s: the answer cannot be read", where) // the cause may quote it
	}
	return nil
}

// postForm is post for a form.
func (c *caller) postForm(ctx context.Context, where string, form url.Values, out any) error {
	return c.post(ctx, where, "application/x-www-form-urlencoded", form.Encode(), secret.Text{}, out)
}

// refusalOf is what an error document says, for the log: RFC 6749 §5.2, or Google's own form.
func refusalOf(text []byte) string {
	var flat struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(text, &flat) != nil || flat.Error == nil {
		return "no reason that could be read"
	}
	var nested struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	var code string
	if json.Unmarshal(flat.Error, &code) == nil {
		return printable(code + ": " + flat.Description)
	}
	if json.Unmarshal(flat.Error, &nested) == nil {
		return printable(nested.Status + ": " + nested.Message)
	}
	return "no reason that could be read"
}

// printable bounds a stranger's text and keeps what could change a terminal out of it, and what could be a token: some
// services quote what they were sent.
func printable(text string) string {
	text = regexp.MustCompile(`[A-Za-z0-9_.~+/=-]{40,}`).ReplaceAllString(text, "(…)")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > 0x7f && r != '…' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxMessage)]
}

// checkEndpoint refuses an address that a token of ours must not be sent to.
func checkEndpoint(field, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "/") {
		return &target.FieldError{Path: field, Text: "it is not the address of a service", Help: "write https://host, without a slash at its end"}
	}
	address, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && err == nil && address.IsLoopback() {
		return nil
	}
	return &target.FieldError{Path: field, Text: "plain http is for loopback addresses only", Help: "use https"}
}

var errNoToken = errors.New("the answer holds no token")
