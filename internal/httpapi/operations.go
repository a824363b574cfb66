package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/target"
)

// checkTime is how long the check of a target may take.
const checkTime = 30 * time.Second

func operationRoutes() []route {
	return []route{
		with(http.MethodGet, "/v1/status", "status", "Read how the broker and its parts are doing", (*call).readStatus),
		with(http.MethodPost, "/v1/targets/{name}/check", "checkTarget", "Try the administrator's credential at a target", (*call).checkTarget),
		{method: http.MethodGet, path: "/healthz", id: "alive", summary: "Tell whether the process is alive", open: true,
			out: reflect.TypeFor[api.Readiness](), status: []int{http.StatusOK}, serve: (*call).alive},
		{method: http.MethodGet, path: "/readyz", id: "ready", summary: "Tell whether leases can be acquired", open: true,
			out: reflect.TypeFor[api.Readiness](), status: []int{http.StatusOK, http.StatusServiceUnavailable}, serve: (*call).ready},
		{method: http.MethodGet, path: "/metrics", id: "metrics", summary: "Read the metrics (OpenMetrics)", open: true,
			media: "application/openmetrics-text", status: []int{http.StatusOK}, serve: (*call).scrape},
		{method: http.MethodGet, path: "/openapi.json", id: "openapi", summary: "Read this document", open: true,
			media: "application/json", status: []int{http.StatusOK}, serve: (*call).document},
	}
}

// administrator refuses everybody but those who may read the installation.
func (c *call) administrator() error {
	if _, err := c.query(); err != nil {
		return err
	}
	_, err := c.edge.Guard.Administer(c.r.Context(), c.who, policy.Read)
	return err
}

func (c *call) readStatus(none) (api.Status, error) {
	if err := c.administrator(); err != nil {
		return api.Status{}, err
	}
	return c.edge.Status(c.r.Context())
}

func (c *call) checkTarget(none) (api.TargetCheck, error) {
	if err := c.administrator(); err != nil {
		return api.TargetCheck{}, err
	}
	name := c.r.PathValue("name")
	op := fmt.Sprintf("check target %.40q", name)
	member, ok := c.edge.Fleet.Member(name)
	if !ok {
		return api.TargetCheck{}, fault.New(fault.NotFound, op, "no such target is in service")
	}
	out := api.TargetCheck{Target: name, Findings: []api.Finding{}}
	checker, ok := member.Target().(target.Checker)
	if !ok {
		out.Findings = append(out.Findings, api.Finding{Severity: string(target.Note), Message: "targets of kind " + member.Kind() + " have no check"})
		return out, nil
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), checkTime)
	defer cancel()
	found, err := checker.Check(ctx)
	if err != nil {
		return out, fault.Wrap(fault.TargetUnavailable, op, "the target could not be checked; the server's log has the reason under this request ID", err)
	}
	for _, f := range found {
		out.Findings = append(out.Findings, api.Finding{Severity: string(f.Severity), Role: f.Role, Message: f.Message, Fix: f.Fix})
	}
	return out, nil
}

func (c *call) alive() error { return c.answer(api.Readiness{Ready: true}) }

func (c *call) ready() error {
	reasons := c.edge.Ready(c.r.Context())
	if len(reasons) > 0 {
		c.status = http.StatusServiceUnavailable
	}
	return c.answer(api.Readiness{Ready: len(reasons) == 0, Reasons: reasons})
}

func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
}

// scrape gives the metrics to this machine, and to administrators from elsewhere: they name targets and count
// leases.
func (c *call) scrape() error {
	if !c.near() {
		if err := c.meet(); err != nil {
			return err
		}
		if err := c.administrator(); err != nil {
			return err
		}
	}
	c.wrote = true
	c.edge.metrics.ServeHTTP(c.w, c.r)
	return nil
}

// near reports whether a request comes from this machine itself. Behind a proxy on this machine, what comes from
// loopback is the world: proxies are told by the configuration, and by what they write.
func (c *call) near() bool {
	hop, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil || !hop.Addr().Unmap().IsLoopback() || len(c.edge.TrustedProxies) > 0 {
		return false
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip", "Via"} {
		if len(c.r.Header.Values(name)) > 0 {
			return false
		}
	}
	return true
}

func (c *call) document() error {
	c.w.Header().Set("Cache-Control", "public, max-age=300")
	if err := c.send("application/json", c.edge.openapi); err != nil {
		c.edge.Log.Debug("an answer could not be written", "request", c.id, "err", err)
	}
	return nil
}
