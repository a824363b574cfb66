package client

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/secret"
)

// InviteDevice makes a token with which one device can enrol, once. It is for administrators.
func (c *Client) InviteDevice(ctx context.Context, r api.InvitationRequest) (api.Invitation, error) {
	return ask[api.Invitation](ctx, c, "invite device "+r.Name, call{method: http.MethodPost, path: path("v1", "devices", "enrolments"), body: r})
}

// Devices lists the devices of an issuer by their names, page by page, also those that were removed.
func (c *Client) Devices(ctx context.Context, issuer string) iter.Seq2[api.Device, error] {
	return pages[api.Device](ctx, c, "list devices of "+issuer, path("v1", "devices"), url.Values{"issuer": {issuer}})
}

// RemoveDevice makes a device count no more. Its leases have ended when this returns.
func (c *Client) RemoveDevice(ctx context.Context, issuer, name string) (api.Device, error) {
	return ask[api.Device](ctx, c, "remove device "+name, call{method: http.MethodDelete, path: path("v1", "devices", issuer, name), safe: true})
}

// EnrolDevice uses an enrolment token up: from then on the key, of P-256 or Ed25519, speaks for the device that the
// token names. Again with the same key it gives the same answer, so that a lost one does no harm.
func (c *Client) EnrolDevice(ctx context.Context, token secret.Text, key crypto.Signer) (api.Device, error) {
	return c.proved(ctx, "enrol a device", path("v1", "devices"), token, key, nil,
		func(string) any { return api.EnrolmentRequest{Token: token.Reveal()} })
}

// RenewDevice gives a device that holds its key another term and, unless next is nil, that key in place of its own.
func (c *Client) RenewDevice(ctx context.Context, issuer, name string, key, next crypto.Signer) (api.Device, error) {
	return c.proved(ctx, "renew device "+name, path("v1", "devices", issuer, name, "renew"), secret.Text{}, key, next,
		func(proof string) any { return api.DeviceRenewal{NextProof: proof} })
}

// proved sends a call with proofs of one key, or of two, where the second one names the first.
func (c *Client) proved(ctx context.Context, what, path string, token secret.Text, key, next crypto.Signer, body func(second string) any) (out api.Device, err error) {
	first, err := dpop.NewProverOf(key)
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	o, err := c.about(ctx)
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	if !o.bound {
		return out, fmt.Errorf("%s: %s is no server that enrols devices", what, c.shown)
	}
	for attempt := 1; ; attempt++ {
		c.session.mu.Lock()
		nonce, now := c.session.nonce, time.Now().Add(c.session.ahead)
		c.session.mu.Unlock()
		request := dpop.Request{Method: http.MethodPost, URL: o.url + path, Token: token.Reveal()}
		proof, err := first.Prove(request, nonce, now)
		if err != nil {
			return out, fmt.Errorf("%s: %w", what, err)
		}
		second := ""
		if next != nil {
			if second, err = proveNext(request, proof, nonce, now, next); err != nil {
				return out, fmt.Errorf("%s: %w", what, err)
			}
		}
		_, err = c.do(ctx, call{method: http.MethodPost, path: path, header: http.Header{dpop.Header: {proof}}, body: body(second)}, &out)
		if err == nil {
			return out, nil
		}
		problem, refused := errors.AsType[*api.Problem](err)
		if attempt > 1 || !refused || problem.Status != http.StatusUnauthorized || c.session.lastNonce() == nonce {
			return out, fmt.Errorf("%s: %w", what, err)
		}
	}
}

// proveNext proves the key that a device will have, together with the proof of the one that it has.
func proveNext(r dpop.Request, first, nonce string, now time.Time, key crypto.Signer) (string, error) {
	prover, err := dpop.NewProverOf(key)
	if err != nil {
		return "", err
	}
	r.Token = first
	return prover.Prove(r, nonce, now)
}

func (s *session) lastNonce() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nonce
}

// about returns what the server says of itself.
func (c *Client) about(ctx context.Context) (*offer, error) {
	s := c.session
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.shown, ctx.Err())
	}
	defer func() { <-s.turn }()
	if o, _ := s.held(); o != nil {
		return o, nil
	}
	return c.discover(ctx)
}
