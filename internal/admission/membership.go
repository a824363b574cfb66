package admission

import (
	"strings"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// membership is what evidence of a device depends on beside itself.
func membership(p identity.Principal) []Due {
	if !isDevice(p.IssuerURL) {
		return nil
	}
	return []Due{{of: p, looked: true, refusal: fault.New(fault.Unauthenticated, "look up a device", "the device was removed, its term is over, or it has another key now")}}
}

func isDevice(issuerURL string) bool {
	return strings.HasPrefix(issuerURL, access.DeviceIssuer{}.URL(""))
}

// enrolled reports whether a principal, and each who acts for it, still counts, where they are devices: an access token
// of one that was removed, or that has changed its key since, is worth nothing.
func (g *Guard) enrolled(tx *store.Tx, p identity.Principal) (bool, error) {
	print, _ := p.Claims["thumbprint"].(string)
	if good, err := g.enrolledAs(tx, p.IssuerURL, p.Subject, print); !good || err != nil {
		return false, err
	}
	for _, actor := range accesstoken.Actors(p) {
		if good, err := g.enrolledAs(tx, actor.IssuerURL, actor.Subject, ""); !good || err != nil {
			return false, err
		}
	}
	return true, nil
}

// enrolledAs asks nothing of who is no device. Of an actor no more is known than its name.
func (g *Guard) enrolledAs(tx *store.Tx, issuerURL, name, thumbprint string) (bool, error) {
	if !isDevice(issuerURL) {
		return true, nil
	}
	d, err := tx.Device(issuerURL, name)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && d.Good(g.now()) && (thumbprint == "" || d.Thumbprint == thumbprint), err
}
