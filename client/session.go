package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/secret"
)

const (
	metadataPath  = "/.well-known/oauth-authorization-server"
	tokenPath     = "/oauth/token"
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	staleAfter    = time.Minute // the age from which an access token may be why a call was denied
)

// own marks the client's own evidence among the sources of tokens.
type own struct{ TokenSource }

// session is what a client holds at a server that gives access tokens: a key that never leaves the process, and a
// token that is bound to it. A stolen token is worth nothing without the key.
//
// What the server offers is asked once. A server that has no token endpoint gets the evidence itself with each call;
// one that has never does, whatever it answers later.
type session struct {
	turn chan struct{} // held by the one goroutine that asks for the offer or for a token

	mu     sync.Mutex // guards what follows
	offer  *offer     // nil before it is known
	prover *dpop.Prover
	nonce  string
	ahead  time.Duration // of the server's clock before ours
	token  *access       // nil before the first
}

// offer is what a server's metadata say.
type offer struct {
	bound bool   // it gives access tokens
	url   string // what it calls itself, which proofs name
}

// access is an access token.
type access struct {
	text   secret.Text
	since  time.Time
	change time.Time // when to ask for the next one
	until  time.Time // when it is no longer good
}

func newSession() *session { return &session{turn: make(chan struct{}, 1)} }

// show authorizes a request by the client's own evidence, and returns the access token that it went with, if any.
func (c *Client) show(ctx context.Context, source own, request *http.Request) (*access, error) {
	if c.socket {
		return nil, c.bear(ctx, source, request)
	}
	o, token, evidence, err := c.open(ctx, source)
	switch {
	case err != nil:
		return nil, err
	case !o.bound && !evidence.IsZero():
		return nil, c.bear(ctx, StaticToken(evidence), request)
	case !o.bound:
		return nil, c.bear(ctx, source, request)
	}
	request.Header.Set("Authorization", dpop.Scheme+" "+token.text.Reveal())
	return token, c.prove(request, o, token.text)
}

// prove adds a proof to a request.
func (c *Client) prove(request *http.Request, o *offer, token secret.Text) error {
	s := c.session
	s.mu.Lock()
	prover, nonce, now := s.prover, s.nonce, time.Now().Add(s.ahead)
	s.mu.Unlock()
	where := o.url + strings.TrimPrefix(request.URL.EscapedPath(), strings.TrimRight(c.base.EscapedPath(), "/"))
	proof, err := prover.Prove(dpop.Request{Method: request.Method, URL: where, Token: token.Reveal()}, nonce, now)
	if err != nil {
		return err
	}
	request.Header.Set(dpop.Header, proof)
	return nil
}

// open returns what the server offers, and an access token where it gives them; else the evidence, if it was asked for
// now. One goroutine asks, the others wait. Without evidence nobody is asked.
func (c *Client) open(ctx context.Context, source own) (o *offer, token *access, evidence secret.Text, err error) {
	s := c.session
	defer func() {
		if err == nil || ctx.Err() != nil {
			return
		}
		if known, old := s.lasting(); old != nil {
			o, token, err = known, old, nil
		}
	}()
	if o, token = s.held(); o != nil && (!o.bound || token != nil) {
		return o, token, evidence, nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, evidence, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.shown, ctx.Err())
	}
	defer func() { <-s.turn }()
	if o, token = s.held(); o != nil && (!o.bound || token != nil) {
		return o, token, evidence, nil
	}
	evidence, err = source.Token(ctx)
	if err == nil {
		err = checkToken(evidence)
	}
	if err != nil {
		return nil, nil, evidence, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	if o == nil {
		if o, err = c.discover(ctx); err != nil {
			return nil, nil, evidence, err
		}
	}
	if o.bound {
		token, err = c.exchange(ctx, o, evidence)
	}
	return o, token, evidence, err
}

// held returns the offer and the token as far as they are known and good.
func (s *session) held() (*offer, *access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != nil && !time.Now().Before(s.token.change) {
		return s.offer, nil
	}
	return s.offer, s.token
}

// lasting returns the token while it is good, though another one was due: it could not be had. The next one is asked for at
// half of what is left.
func (s *session) lasting() (*offer, *access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.token == nil || !now.Before(s.token.until) {
		return nil, nil
	}
	next := *s.token
	next.change = now.Add(s.token.until.Sub(now) / 2)
	s.token = &next
	return s.offer, s.token
}

// discover reads the server's metadata (RFC 8414). What has no token endpoint of ours offers nothing; what cannot be
// read now says nothing of what is offered.
func (c *Client) discover(ctx context.Context) (*offer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+metadataPath, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", c.agent)
	got, err := c.read(ctx, request)
	if err != nil {
		return nil, err
	}
	if got.status >= http.StatusInternalServerError || got.status == http.StatusTooManyRequests {
		return nil, c.refused(call{method: http.MethodGet, path: metadataPath}, got)
	}
	var said struct {
		Token      string   `json:"token_endpoint"`
		Grants     []string `json:"grant_types_supported"`
		Algorithms []string `json:"dpop_signing_alg_values_supported"`
	}
	o := &offer{}
	if got.status == http.StatusOK && json.Unmarshal(got.body, &said) == nil {
		o.url, o.bound = strings.CutSuffix(said.Token, tokenPath)
		o.bound = o.bound && slices.Contains(said.Grants, exchangeGrant) && slices.Contains(said.Algorithms, "ES256")
	}
	prover, err := dpop.NewProver()
	if err != nil {
		return nil, err
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.session.offer, c.session.prover = o, prover
	return o, nil
}

// read sends a request and reads the answer, whatever its status.
func (c *Client) read(ctx context.Context, request *http.Request) (answer, error) {
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}, c.unanswered(ctx, err)
	}
	defer response.Body.Close()
	c.session.learn(response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err != nil {
		return answer{}, fmt.Errorf("%w at %s: the answer broke off", ErrUnreachable, c.shown)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// refused is the refusal of an answer that was read.
func (c *Client) refused(k call, got answer) error {
	return c.refusal(k, &http.Response{StatusCode: got.status, Status: fmt.Sprint(got.status, " ", http.StatusText(got.status)),
		Header: got.header, Body: io.NopCloser(bytes.NewReader(got.body))})
}

// learn takes the server's nonce and clock from an answer.
func (s *session) learn(h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if nonce := h.Get(dpop.HeaderNonce); nonce != "" && len(nonce) < 1000 {
		s.nonce = nonce
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		s.ahead = time.Until(date).Round(time.Second)
	}
}

// exchange asks for an access token (RFC 8693), once more where the proof needed a nonce. The caller has the turn.
func (c *Client) exchange(ctx context.Context, o *offer, evidence secret.Text) (*access, error) {
	kind := typeJWT
	if strings.Count(evidence.Reveal(), ".") != 2 {
		kind = api.TokenEvidence
	}
	form := url.Values{"grant_type": {exchangeGrant}, "subject_token": {evidence.Reveal()}, "subject_token_type": {kind}}.Encode()
	for attempt := 1; ; attempt++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+tokenPath, strings.NewReader(form))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Accept", "application/json")
		request.Header.Set("User-Agent", c.agent)
		if err := c.prove(request, o, secret.Text{}); err != nil {
			return nil, err
		}
		got, err := c.read(ctx, request)
		if err != nil {
			return nil, err
		}
		if got.status == http.StatusOK {
			return c.session.take(c.shown, got.body)
		}
		var refused api.OAuthError
		if json.Unmarshal(got.body, &refused) != nil || refused.Code == "" {
			return nil, c.refused(call{method: http.MethodPost, path: tokenPath}, got)
		}
		if refused.Code != "use_dpop_nonce" || attempt > 1 {
			return nil, problemOf(refused, got)
		}
	}
}

// take keeps the token of an answer.
func (s *session) take(server string, body []byte) (*access, error) {
	var got api.TokenAnswer
	if err := json.Unmarshal(body, &got); err != nil || got.AccessToken == "" || got.TokenType != dpop.Scheme || got.ExpiresIn < 1 {
		return nil, fmt.Errorf("exchange evidence: the answer of %s holds no access token that is bound to our key", server)
	}
	now := time.Now()
	life := time.Duration(got.ExpiresIn) * time.Second
	token := &access{text: secret.New(got.AccessToken), since: now, change: now.Add(life / 2), until: now.Add(life)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
	return token, nil
}

// problemOf is a refusal of the token endpoint as other calls are refused.
func problemOf(e api.OAuthError, got answer) error {
	p := &api.Problem{Status: got.status, Code: e.Kind, Title: "the evidence was not exchanged", Detail: e.Description,
		DecisionID: e.DecisionID, Instance: got.header.Get(api.HeaderRequest)}
	switch p.Code {
	case "":
		p.Code = e.Code
	case "unauthenticated":
		p.Status = http.StatusUnauthorized
	}
	p.RetryAfter, _ = strconv.Atoi(got.header.Get("Retry-After")) // 0 where it says none
	return p
}

// tries counts why a call was sent again: for each reason once.
type tries struct{ nonce, token bool }

// again reports whether a refused call is worth another try: with the nonce that came with the refusal, or with a
// fresh access token where the one shown is no longer good, or was made too long ago for what a policy wants.
func (s *session) again(shown *access, response *http.Response, t *tries) bool {
	if shown == nil {
		return false
	}
	if strings.Contains(response.Header.Get("WWW-Authenticate"), `"use_dpop_nonce"`) && !t.nonce {
		t.nonce = true
		return true
	}
	age := time.Since(shown.since)
	if t.token || response.StatusCode != http.StatusUnauthorized && (response.StatusCode != http.StatusForbidden || age < staleAfter) {
		return false
	}
	t.token = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == shown {
		s.token = nil
	}
	return true
}
