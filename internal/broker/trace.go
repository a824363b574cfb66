package broker

import "github.com/daypass/daypass/internal/trace"

// describe notes what an acquisition was about, as far as it came: names of the configuration and IDs. What the caller
// chose freely, and what its evidence says, stays out.
func (a *acquisition) describe(span *trace.Span) {
	span.Set("daypass.request", a.request.Origin.Request)
	span.Set("daypass.issuer", a.principal.Issuer)
	span.Set("daypass.role", a.role.Name)
	span.Set("daypass.target", a.role.Target)
	span.Set("daypass.decision", a.ruling.Decision.ID)
	span.Set("daypass.lease", string(a.lease.ID))
}
