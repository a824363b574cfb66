package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/secret"
)

func deviceRoutes() []route {
	return []route{
		with(http.MethodPost, "/v1/devices/enrolments", "inviteDevice", "Make a one-use token with which a device enrols", (*call).inviteDevice),
		with(http.MethodPost, "/v1/devices", "enrolDevice", "Enrol a device: an enrolment token and a DPoP proof of its key", (*call).enrolDevice).byAnybody(),
		with(http.MethodGet, "/v1/devices", "listDevices", "List the devices of an issuer, by name", (*call).devices).
			asking(pageParameters(parameter{"issuer", "name of the issuer of devices"})...),
		with(http.MethodPost, "/v1/devices/{issuer}/{name}/renew", "renewDevice", "Renew a device's term, and its key: by a DPoP proof of its key", (*call).renewDevice).byAnybody(),
		with(http.MethodDelete, "/v1/devices/{issuer}/{name}", "removeDevice", "Remove a device: it counts no more, and its leases end", (*call).removeDevice),
	}
}

// byAnybody makes a route of those who have no evidence yet. What they must prove is the call's business.
func (r route) byAnybody() route {
	r.open = true
	r.header = append(r.header, parameter{"DPoP", "a proof of the device's key (RFC 9449)"})
	serve := r.serve
	r.serve = func(c *call) error {
		if err := c.identifyRequest(); err != nil {
			return err
		}
		c.offerNonce()
		return serve(c)
	}
	return r
}

func (c *call) inviteDevice(in api.InvitationRequest) (out api.Invitation, err error) {
	if _, err := c.query(); err != nil {
		return out, err
	}
	request := enrolment.InviteRequest{Issuer: in.Issuer, Name: in.Name, Labels: in.Labels, Thumbprint: in.Thumbprint}
	if in.TTL != nil {
		if request.TTL = time.Duration(*in.TTL); request.TTL == 0 {
			return out, malformed("a ttl of nothing is none")
		}
	}
	made, err := c.edge.Devices.Invite(c.r.Context(), c.who, request)
	if err != nil {
		return out, err
	}
	return api.Invitation{Issuer: made.Issuer, Name: made.Name, Token: made.Token.Reveal(), ExpiresAt: api.At(made.ExpiresAt)}, nil
}

func (c *call) enrolDevice(in api.EnrolmentRequest) (api.Device, error) {
	if _, err := c.query(); err != nil {
		return api.Device{}, err
	}
	if in.Token == "" || len(in.Token) > api.MaxToken {
		return api.Device{}, malformed(fmt.Sprintf("token is the enrolment token, of at most %d bytes", api.MaxToken))
	}
	d, err := c.edge.Devices.Enrol(c.r.Context(), secret.New(in.Token), c.who.Evidence, c.who.Origin)
	if err != nil {
		return api.Device{}, err
	}
	return c.wireDevice(d)
}

// deviceKey reads the path, and that nothing else is asked.
func (c *call) deviceKey() (issuer, name string, err error) {
	if _, err := c.query(); err != nil {
		return "", "", err
	}
	issuer, name = c.r.PathValue("issuer"), c.r.PathValue("name")
	if err := checkName("issuer", issuer); err != nil {
		return "", "", err
	}
	return issuer, name, checkName("name", name)
}

func (c *call) renewDevice(in api.DeviceRenewal) (api.Device, error) {
	issuer, name, err := c.deviceKey()
	if err != nil {
		return api.Device{}, err
	}
	d, err := c.edge.Devices.Renew(c.r.Context(), enrolment.RenewRequest{Issuer: issuer, Name: name, Evidence: c.who.Evidence, Next: in.NextProof, Origin: c.who.Origin})
	if err != nil {
		return api.Device{}, err
	}
	return c.wireDevice(d)
}

func (c *call) removeDevice(none) (api.Device, error) {
	issuer, name, err := c.deviceKey()
	if err != nil {
		return api.Device{}, err
	}
	d, err := c.edge.Devices.Remove(c.r.Context(), c.who, issuer, name)
	if err != nil {
		return api.Device{}, err
	}
	return c.wireDevice(d)
}

func (c *call) devices(none) (page api.Page[api.Device], err error) {
	q, err := c.query("issuer", "limit", "cursor")
	if err != nil {
		return page, err
	}
	limit, cursor, err := q.page()
	if err != nil {
		return page, err
	}
	if q.text("issuer") == "" {
		return page, malformed("issuer names the issuer of devices")
	}
	found, next, err := c.edge.Devices.List(c.r.Context(), c.who, q.text("issuer"), cursor, limit)
	if err != nil {
		return page, err
	}
	page = api.Page[api.Device]{Items: make([]api.Device, len(found)), Next: next}
	for i, d := range found {
		if page.Items[i], err = c.wireDevice(d); err != nil {
			return page, err
		}
	}
	return page, nil
}

func (c *call) wireDevice(d enrolment.Enrolled) (api.Device, error) {
	out := api.Device{
		Issuer: d.Issuer, IssuerURL: d.IssuerURL, Name: d.Name, Audience: c.edge.URL, Thumbprint: d.Thumbprint, State: "enrolled",
		EnrolledAt: api.At(d.EnrolledAt), EnrolledBy: d.EnrolledBy, Until: api.At(d.Until),
	}
	switch {
	case !d.RemovedAt.IsZero():
		at := api.At(d.RemovedAt)
		out.State, out.RemovedAt = "removed", &at
	case !d.Good(c.edge.Now()):
		out.State = "expired"
	}
	if err := json.Unmarshal(d.Labels, &out.Labels); err != nil {
		return out, fmt.Errorf("read the labels of device %s: %w", d.Name, err)
	}
	return out, nil
}
