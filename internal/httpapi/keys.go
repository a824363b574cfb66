package httpapi

import (
	"net/http"

	"github.com/daypass/daypass/api"
)

func keyRoutes() []route {
	return []route{
		with(http.MethodPost, "/v1/keys/rotate", "rotateKey", "Replace the key that signs the ledger", (*call).rotateKey),
	}
}

func (c *call) rotateKey(none) (api.KeyRotation, error) {
	if _, err := c.query(); err != nil {
		return api.KeyRotation{}, err
	}
	done, err := c.edge.Broker.RotateKey(c.r.Context(), c.who)
	return api.KeyRotation{Key: done.Key, Entry: done.Entry}, err
}
