package cloud

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
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

const (
	callTime   = 15 * time.Second // of one try
	tries      = 4
	firstWait  = 100 * time.Millisecond // between two tries; it doubles
	longWait   = 5 * time.Second        // as long as a cloud may ask us to wait
	shortText  = 64 << 10               // an answer with a token
	longText   = 4 << 20                // a page of a list, or a policy
	maxMessage = 200                    // bytes of what a cloud says of a refusal
)

// Caller speaks to a cloud. Answers are bounded, redirects refused, and what it sends is in no error.
type Caller struct {
	http *http.Client
	now  func() time.Time
}

// NewCaller returns a Caller over a client; nil for one that trusts the system's authorities.
func NewCaller(client *http.Client, now func() time.Time) *Caller {
	own := http.Client{}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Caller{&own, now}
}

// Now is the time.
func (c *Caller) Now() time.Time { return c.now() }

// Request is one request to a service. All that Daypass makes may be made again: they name what they make.
type Request struct {
	Method string // POST unless given
	URL    string
	Bearer Bearer // nil: none
	Header map[string]string
	Form   url.Values // or
	Body   any        // sent as JSON; nil for none
	Long   bool       // the answer may be a list
	Once   bool       // it is not tried again: whoever asks does that
}

// Bearer is who makes a request.
type Bearer interface {
	// Text is a token.
	Text(ctx context.Context) (secret.Text, error)
	// Refused hears that a service refused the token or what was asked for with it.
	Refused()
}

// Given is the [Bearer] of one token.
type Given struct{ Token secret.Text }

// Text is the token.
func (g Given) Text(context.Context) (secret.Text, error) { return g.Token, nil }

// Refused changes nothing: there is no other token.
func (g Given) Refused() {}

// unsentError is a request that was not made: there was no token for it. What the service of tokens answered is no answer
// to the request, and is not found in it as a [StatusError].
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }

// Is reports what the cause is, such as a target that cannot be reached.
func (e *unsentError) Is(other error) bool { return errors.Is(e.err, other) }

// As finds every cause but an answer.
func (e *unsentError) As(into any) bool {
	if _, answer := into.(**StatusError); answer {
		return false
	}
	return errors.As(e.err, into)
}

// StatusError is an answer that is no success.
type StatusError struct {
	Status int
	Code   string // what the cloud calls the reason
	Text   string
	First  bool // no earlier try of the request can have done anything
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Status, strings.Trim(e.Code+": "+e.Text, ": "))
}

// IsStatus reports whether err is an answer with one of these statuses.
func IsStatus(err error, statuses ...int) bool {
	e, ok := errors.AsType[*StatusError](err)
	if !ok {
		return false
	}
	for _, s := range statuses {
		if e.Status == s {
			return true
		}
	}
	return false
}

// Absent forgives that what was to be deleted is not there.
func Absent(err error) error {
	if IsStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Refused marks answers as definite that say no before anything was done, and requests that were not made.
func Refused(err error) error {
	if _, unsent := errors.AsType[*unsentError](err); unsent {
		return target.NotDone(err)
	}
	if e, ok := errors.AsType[*StatusError](err); ok && e.First && e.Status >= 400 && e.Status <= 404 {
		return fmt.Errorf("%w: %w", err, target.ErrNotDone)
	}
	return err
}

// Do makes a request, again where the cloud was busy or did not answer, and decodes the answer into out, which may be nil.
// It returns the status.
func (c *Caller) Do(ctx context.Context, r Request, out any) (status int, err error) {
	wait, first := firstWait, true
	for try := 1; ; try++ {
		var again time.Duration
		status, again, err = c.once(ctx, r, out)
		if e, ok := errors.AsType[*StatusError](err); ok {
			e.First = first
		}
		if err == nil || again < 0 || try == tries || r.Once {
			return status, err
		}
		if _, unsent := errors.AsType[*unsentError](err); !unsent {
			first = first && status == http.StatusTooManyRequests
		}
		if Pause(ctx, max(wait, min(again, longWait))) != nil {
			return status, err
		}
		wait *= 2
	}
}

// once makes one try. Again is how long to wait before the next at least, below zero where there should be none.
func (c *Caller) once(ctx context.Context, r Request, out any) (status int, again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	where := r.URL[:len(r.URL)-len(afterPath(r.URL))]
	request, err := r.prepare(ctx)
	if err != nil {
		return 0, -1, fmt.Errorf("ask %s: %w", where, err) // what tokens are asked of was asked again by itself
	}
	response, err := c.http.Do(request)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // it tells the address again, with its query
		}
		return 0, 0, fmt.Errorf("ask %s: %w", where, err)
	}
	defer response.Body.Close()
	most := shortText
	if r.Long {
		most = longText
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	switch {
	case err != nil:
		return response.StatusCode, 0, fmt.Errorf("ask %s: %w", where, err)
	case len(text) > most:
		return response.StatusCode, -1, fmt.Errorf("ask %s: the answer has more than %d bytes", where, most)
	case response.StatusCode >= 300:
		if denied := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden; denied && r.Bearer != nil {
			r.Bearer.Refused()
		}
		return response.StatusCode, after(response), fmt.Errorf("ask %s: %w", where, refusalOf(response.StatusCode, text))
	case out == nil || response.StatusCode == http.StatusNoContent:
		return response.StatusCode, -1, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return response.StatusCode, -1, fmt.Errorf("ask %s: the answer cannot be read", where) // the cause may quote it
	}
	return response.StatusCode, -1, nil
}

// afterPath is what an address has after its path.
func afterPath(address string) string {
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		return address[i:]
	}
	return ""
}

func (r Request) prepare(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	media := ""
	switch {
	case r.Form != nil:
		body, media = strings.NewReader(r.Form.Encode()), "application/x-www-form-urlencoded"
	case r.Body != nil:
		text, err := json.Marshal(r.Body)
		if err != nil {
			return nil, errors.New("the request cannot be written")
		}
		body, media = strings.NewReader(string(text)), "application/json"
	}
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, r.URL, body)
	if err != nil {
		return nil, errors.New("the address is none")
	}
	request.Header.Set("Accept", "application/json")
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	if r.Bearer != nil {
		token, err := r.Bearer.Text(ctx)
		if err != nil {
			return nil, &unsentError{err}
		}
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	return request, nil
}

// after is how long a cloud wants us to wait; below zero where another try would get the same answer.
func after(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode < 500 {
		return -1
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, int(longWait/time.Second))) * time.Second
}

// refusalOf is what an error document says, for the log: RFC 6749 §5.2, or the form that Google, Graph and ARM share.
func refusalOf(status int, text []byte) error {
	e := &StatusError{Status: status, Text: "no reason that could be read"}
	var flat struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(text, &flat) == nil && flat.Error != nil {
		var nested struct {
			Status  string          `json:"status"` // Google's
			Code    json.RawMessage `json:"code"`   // a number at Google, a word at Microsoft
			Message string          `json:"message"`
		}
		var code string
		if json.Unmarshal(flat.Error, &code) == nil {
			e.Code, e.Text = printable(code), printable(flat.Description)
		} else if json.Unmarshal(flat.Error, &nested) == nil {
			if nested.Status == "" {
				_ = json.Unmarshal(nested.Code, &nested.Status) // a number is no word
			}
			e.Code, e.Text = printable(nested.Status), printable(nested.Message)
		}
	}
	if status >= 500 {
		return fmt.Errorf("%w: %w", target.ErrUnreachable, e)
	}
	return e
}

// tokenLike is what could be a token: some services quote what they were sent.
var tokenLike = regexp.MustCompile(`[A-Za-z0-9_.~+/=-]{40,}`)

// printable bounds a stranger's text and keeps what could change a terminal out of it, and what could be a token.
func printable(text string) string {
	text = tokenLike.ReplaceAllString(text, "(...)")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxMessage)]
}

// CheckEndpoint refuses an address that a token of ours must not be sent to.
func CheckEndpoint(field, text string) error {
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

// ErrNoToken says that an answer was to hold a token and did not.
var ErrNoToken = errors.New("the answer holds no token")
