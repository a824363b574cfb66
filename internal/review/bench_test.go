package review_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/broker/brokertest"
	"github.com/daypass/daypass/internal/store"
)

// BenchmarkReview measures how many live leases a change of policies decides again in a second: the policies permit as
// much as before, so that none ends.
func BenchmarkReview(b *testing.B) {
	const leases = 3000
	d := brokertest.Open(b, brokertest.Options{})
	permit := `permit (principal in Issuer::"ci", action, resource) when { principal.claims.team == "payments" && context has source_ip };`
	unlimited := brokertest.WithPosture(permit)
	for name, text := range unlimited {
		unlimited[name] = strings.Replace(text, "limits: {live: 100, per_principal: 20}\n", "", 1)
	}
	_, err := d.Apply(b.Context(), brokertest.Local(), unlimited, "")
	brokertest.Must(b, err)
	for range leases {
		d.Acquired("alice", "reader")
	}
	d.Settled()
	b.ResetTimer()
	for i := range b.N {
		unlimited["policies.cedar"] = brokertest.WithPosture(permit)["policies.cedar"] + fmt.Sprintf("// change %d\n", i)
		_, err := d.Apply(b.Context(), brokertest.Local(), unlimited, "")
		brokertest.Must(b, err)
		d.Settled()
	}
	b.ReportMetric(float64(b.N*leases)/b.Elapsed().Seconds(), "leases/s")
	brokertest.Must(b, d.Store.View(b.Context(), func(tx *store.Tx) error {
		if live, err := tx.Live(store.Scope{Role: "reader"}); err != nil || live != leases {
			b.Errorf("%d leases live: %v", live, err)
		}
		return nil
	}))
}
