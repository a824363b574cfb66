package httpapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/issuer"
)

func keyRoutes() []route {
	return []route{
		with(http.MethodPost, "/v1/keys/rotate", "rotateKey", "Replace the key that signs the ledger", (*call).rotateKey),
		with(http.MethodPost, "/v1/keys/issuer/rotate", "rotateIssuer", "Let the next keys sign the tokens of our issuer", (*call).rotateIssuer),
		{method: http.MethodGet, path: issuer.ConfigurationPath, id: "issuerConfiguration", summary: "Read what our issuer says of itself (OpenID Connect Discovery)",
			open: true, media: "application/json", status: []int{http.StatusOK}, serve: (*call).issuerDocument},
		{method: http.MethodGet, path: issuer.ServerPath, id: "authorizationServer", summary: "Read where our OAuth endpoints are and what they take (RFC 8414)",
			open: true, media: "application/json", status: []int{http.StatusOK}, serve: (*call).issuerDocument},
		{method: http.MethodGet, path: issuer.KeysPath, id: "issuerKeys", summary: "Read the keys that verify our issuer's tokens (RFC 7517)",
			open: true, media: "application/json", status: []int{http.StatusOK}, serve: (*call).issuerDocument},
	}
}

func (c *call) rotateKey(none) (api.KeyRotation, error) {
	if _, err := c.query(); err != nil {
		return api.KeyRotation{}, err
	}
	done, err := c.edge.Broker.RotateKey(c.r.Context(), c.who)
	return api.KeyRotation{Key: done.Key, Entry: done.Entry}, err
}

func (c *call) rotateIssuer(in api.IssuerRotationRequest) (api.IssuerRotation, error) {
	if _, err := c.query(); err != nil {
		return api.IssuerRotation{}, err
	}
	done, err := c.edge.Broker.RotateIssuer(c.r.Context(), c.who, in.Withdraw)
	return api.IssuerRotation{Signing: done.Signing, Next: done.Next}, err
}

// issuerDocument serves strangers: whoever verifies our tokens.
func (c *call) issuerDocument() error {
	all, err := c.edge.Documents(c.r.Context())
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(d issuer.Document) bool { return d.Path == c.r.URL.Path })
	if at < 0 {
		return unknownPath()
	}
	if c.r.URL.Path == issuer.ServerPath {
		c.offerNonce() // who reads this is about to ask for a token
	}
	c.w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(issuer.MaxAge.Seconds())))
	if err := c.send("application/json", all[at].Body); err != nil {
		c.edge.Log.Debug("an answer could not be written", "request", c.id, "err", err)
	}
	return nil
}
