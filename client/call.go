package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/secret"
)

// Limits of one call.
const (
	callTimeout = 30 * time.Second // of one attempt, beside what the caller asked the server to wait
	maxAttempts = 4
	maxPause    = 10 * time.Second // a server that asks for more is reported instead
	maxAnswer   = 2 * api.MaxAccess
	maxProblem  = 64 << 10
)

// call is one request to the server.
type call struct {
	method string
	path   string // below the base, with its parts escaped
	query  url.Values
	header http.Header
	body   any
	as     TokenSource   // who calls; nil: nobody, as over the socket
	wait   time.Duration // how long the server was asked to take
	safe   bool          // may be sent again when it is unknown whether the server did it
}

// answer is what the server said, with its own clock.
type answer struct {
	status int
	header http.Header
	date   time.Time // the server's Date; zero where it sent none
	body   []byte
}

// do sends a call and decodes the JSON answer into out unless that is nil.
func (c *Client) do(ctx context.Context, k call, out any) (answer, error) {
	got, err := c.repeat(ctx, k)
	if err != nil || out == nil || len(got.body) == 0 {
		return got, err
	}
	if err := json.Unmarshal(got.body, out); err != nil {
		// The cause may quote the body, which may hold a credential.
		return got, fmt.Errorf("%s %s: the answer of %s is not the JSON expected", k.method, k.path, c.shown)
	}
	return got, nil
}

// repeat sends a call until it is answered for good. It repeats what was refused with a time to come back, and,
// where that is safe, what got no answer.
func (c *Client) repeat(ctx context.Context, k call) (answer, error) {
	for attempt := 1; ; attempt++ {
		got, err := c.once(ctx, k)
		pause, again := retryAfter(err, attempt, k.safe)
		if err == nil || !again || attempt == maxAttempts || ctx.Err() != nil {
			return got, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return got, err
		case <-timer.C:
		}
	}
}

// retryAfter returns how long to wait before the next attempt, and whether there should be one.
func retryAfter(err error, attempt int, safe bool) (time.Duration, bool) {
	if problem, ok := errors.AsType[*api.Problem](err); ok {
		asked := time.Duration(problem.RetryAfter) * time.Second
		overloaded := problem.Status == http.StatusTooManyRequests || problem.Status == http.StatusServiceUnavailable
		return asked + jitter(asked/4), overloaded && asked > 0 && asked <= maxPause
	}
	backoff := 200 * time.Millisecond << (attempt - 1)
	return backoff + jitter(backoff/2), safe && errors.Is(err, ErrUnreachable)
}

// jitter returns a random part of d, so that many clients do not come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// once sends a call once.
func (c *Client) once(ctx context.Context, k call) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+k.wait)
	defer cancel()
	response, err := c.send(ctx, k)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	got := answer{status: response.StatusCode, header: response.Header}
	got.date, _ = http.ParseTime(response.Header.Get("Date"))
	got.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return got, fmt.Errorf("%w at %s: the answer broke off", ErrUnreachable, c.shown)
	case len(got.body) > maxAnswer:
		return got, fmt.Errorf("%s %s: the answer of %s is longer than %d bytes", k.method, k.path, c.shown, maxAnswer)
	}
	return got, nil
}

// send sends a call and returns a response with a good status, whose body the caller closes.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	var tried tries
	for {
		request, shown, err := c.request(ctx, k)
		if err != nil {
			return nil, err
		}
		response, err := c.http.Do(request)
		if err != nil {
			return nil, c.unanswered(ctx, err)
		}
		c.session.learn(response.Header)
		if response.StatusCode >= 200 && response.StatusCode < 300 {
			return response, nil
		}
		refusal := c.refusal(k, response)
		response.Body.Close()
		if !c.session.again(shown, response, &tried) {
			return nil, refusal
		}
	}
}

// request builds the HTTP request of a call, and returns the access token that it carries, if it does.
func (c *Client) request(ctx context.Context, k call) (*http.Request, *access, error) {
	target := c.base.String() + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	var body io.Reader
	if k.body != nil {
		text, err := json.Marshal(k.body)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: encode request: %w", k.method, k.path, err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", k.method, k.path, err)
	}
	for name, values := range k.header {
		request.Header[name] = values
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Accept", "application/json, "+api.MediaProblem)
	request.Header.Set("User-Agent", c.agent)
	switch source := k.as.(type) {
	case nil:
		return request, nil, nil
	case own:
		shown, err := c.show(ctx, source, request)
		return request, shown, err
	}
	return request, nil, c.bear(ctx, k.as, request)
}

// bear adds a token as it is.
func (c *Client) bear(ctx context.Context, source TokenSource, request *http.Request) error {
	token, err := source.Token(ctx)
	if err == nil {
		err = checkToken(token)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	request.Header.Set("Authorization", "Bearer "+token.Reveal())
	return nil
}

// unanswered is the error of a request that got no answer.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if errors.Is(err, ErrNoCertificate) {
		return unwrapURL(err)
	}
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.shown, unwrapURL(err))
}

// unwrapURL takes the method and address off an error of net/http: our own message has them.
func unwrapURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// refusal turns a response with a bad status into an error.
func (c *Client) refusal(k call, response *http.Response) error {
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		return fmt.Errorf("%s %s: %s answers with a redirect to %q, which is not followed with a token: set the URL to the server itself",
			k.method, k.path, c.shown, response.Header.Get("Location"))
	}
	problem := &api.Problem{Status: response.StatusCode}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if media == api.MediaProblem && err == nil && json.Unmarshal(body, problem) == nil && problem.Code != "" {
		problem.Status = response.StatusCode
		if problem.Status == http.StatusUnauthorized && k.as == nil {
			problem.Detail += c.cert.unseen()
		}
		return problem
	}
	// Something between us and the server answered, or it is no Daypass server at all.
	return &api.Problem{
		Status: response.StatusCode,
		Title:  fmt.Sprintf("%s answered %s, and not as a Daypass server does", c.shown, response.Status),
		Code:   fmt.Sprintf("http_%d", response.StatusCode),
	}
}

// path joins escaped parts.
func path(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(part))
	}
	return b.String()
}

// bearer is a source of a token that is known already.
func bearer(token secret.Text) TokenSource {
	if token.IsZero() {
		return nil
	}
	return StaticToken(token)
}
