package admission_test

import (
	"testing"

	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/fault"
)

// Whatever the policies say, only principals of the administrators' issuers administer.
func TestPoliciesCannotMakeAdministrators(t *testing.T) {
	d := brokertest.Start(t, brokertest.Options{})
	open := brokertest.Configuration()
	open["open.cedar"] = `permit (principal, action, resource);`
	_, err := d.Apply(t.Context(), brokertest.Local(), open, "")
	brokertest.Must(t, err)
	got := d.Acquired("bob", "reader")
	_, err = d.Lock(t.Context(), brokertest.As("alice"), broker.LockRequest{Role: "reader", Reason: "x"})
	brokertest.Check(t, "lock", err, fault.Denied)
	_, err = d.Apply(t.Context(), brokertest.As("alice"), brokertest.Configuration(), "")
	brokertest.Check(t, "configure", err, fault.Denied)
	_, err = d.Lease(t.Context(), brokertest.As("alice"), got.Lease.ID)
	brokertest.Check(t, "read a lease", err, fault.NotFound)
	_, err = d.Release(t.Context(), brokertest.As("alice"), got.Lease.ID, 0)
	brokertest.Check(t, "revoke a lease", err, fault.NotFound)
}
