package enrolment_test

import (
	"testing"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/enrolment"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/secret"
)

// works is a desk with an issuer of devices, named edge.
type works struct {
	*brokertest.Desk
	t *testing.T
}

func open(t *testing.T, opt brokertest.Options) *works {
	t.Helper()
	w := &works{brokertest.Open(t, opt), t}
	w.Configure(brokertest.WithDevices())
	return w
}

func newKey(t *testing.T) *dpop.Prover {
	t.Helper()
	key, err := dpop.NewProver()
	brokertest.Must(t, err)
	return key
}

// proof is evidence that somebody holds a key, for a request that goes with a text.
func (w *works) proof(key *dpop.Prover, with string) admission.Evidence {
	w.t.Helper()
	return admission.Evidence{Proof: w.prove(key, with), Method: "POST", URL: brokertest.URL + "/v1/devices"}
}

func (w *works) prove(key *dpop.Prover, with string) string {
	w.t.Helper()
	text, err := key.Prove(dpop.Request{Method: "POST", URL: brokertest.URL + "/v1/devices", Token: with}, "", w.Now())
	brokertest.Must(w.t, err)
	return text
}

// invite is an enrolment token for a name.
func (w *works) invite(name string) secret.Text {
	w.t.Helper()
	return w.inviteAs(enrolment.InviteRequest{Issuer: "edge", Name: name})
}

func (w *works) inviteAs(r enrolment.InviteRequest) secret.Text {
	w.t.Helper()
	made, err := w.Devices.Invite(w.t.Context(), brokertest.Local(), r)
	brokertest.Must(w.t, err)
	return made.Token
}

func (w *works) enrolWith(token secret.Text, key *dpop.Prover) (enrolment.Enrolled, error) {
	return w.Devices.Enrol(w.t.Context(), token, w.proof(key, token.Reveal()), brokertest.Origin())
}

// enrol makes a device that may acquire by its name.
func (w *works) enrol(name string) (enrolment.Enrolled, *dpop.Prover) {
	w.t.Helper()
	key := newKey(w.t)
	d, err := w.enrolWith(w.invite(name), key)
	brokertest.Must(w.t, err)
	w.Workloads.Know(name, identity.Principal{Issuer: "edge", IssuerURL: d.IssuerURL, Subject: name,
		Claims: map[string]any{"name": name, "thumbprint": d.Thumbprint, "labels": []any{}, "enrolled_at": d.EnrolledAt.Unix()}})
	return d, key
}

func (w *works) renew(name string, key, next *dpop.Prover) (enrolment.Enrolled, error) {
	r := enrolment.RenewRequest{Issuer: "edge", Name: name, Evidence: w.proof(key, ""), Origin: brokertest.Origin()}
	if next != nil {
		r.Next = w.prove(next, r.Evidence.Proof)
	}
	return w.Devices.Renew(w.t.Context(), r)
}

// device is the row of a device.
func (w *works) device(name string) (d store.Device, err error) {
	err = w.Store.View(w.t.Context(), func(tx *store.Tx) (err error) {
		d, err = tx.Device(access.DeviceIssuer{}.URL("edge"), name)
		return err
	})
	return d, err
}
