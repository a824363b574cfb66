// Package deploy_test holds the files that installations start from to what the server really does: the metrics that
// dashboard and alarms name, the paths and options that units, images and manifests use.
package deploy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/daypasstest"
	"github.com/daypass/daypass/secret"
)

// busy is a live server where everything has happened at least once that metrics tell of.
func busy(t *testing.T) *daypasstest.Daypass {
	t.Helper()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	places, err := filepath.Abs("../internal/location/testdata/country.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	d := daypasstest.Start(t, daypasstest.Options{
		Config: fmt.Sprintf("location: {file: %q}\nalerts: {sinks: [{name: hook, webhook: %q}]}\n", places, hook.URL),
	})
	workload := d.Workload(nil)
	lease := acquire(t, workload)
	if _, err := lease.Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Release(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Acquire(t.Context(), api.AcquireRequest{Role: "no-such-role"}); err == nil {
		t.Fatal("a role that does not exist was granted")
	}
	stranger, err := client.New(client.Options{URL: d.URL(), Token: client.StaticToken(secret.New("not.a.token"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Acquire(t.Context(), api.AcquireRequest{Role: daypasstest.Role}); err == nil {
		t.Fatal("no evidence was taken for some")
	}
	locked := acquire(t, workload)
	lock, err := d.Administrator().Lock(t.Context(), api.LockRequest{Match: api.Match{Role: daypasstest.Role}, Reason: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	for info := locked.Info(); info.State == "active"; { // the revoker ends it right after
		if info, err = locked.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := locked.Release(t.Context(), 10*time.Second); err != nil { // waits for the proof
		t.Fatal(err)
	}
	if _, err := d.Administrator().Unlock(t.Context(), lock.ID); err != nil {
		t.Fatal(err)
	}
	acquire(t, workload) // lives until the server ends
	for scrape(t, d)["daypass_issuer_clock_ahead_seconds"] == nil {
		if t.Context().Err() != nil {
			t.Fatal("no clock was estimated")
		}
	}
	return d
}

func acquire(t *testing.T, c *client.Client) *client.Lease {
	t.Helper()
	lease, err := c.Acquire(t.Context(), api.AcquireRequest{Role: daypasstest.Role})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, d *daypasstest.Daypass) map[string]*dto.MetricFamily {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s", response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatalf("/metrics cannot be parsed: %v", err)
	}
	return families
}

// ours are the families that daypass itself exports.
func ours(families map[string]*dto.MetricFamily) []string {
	var names []string
	for name := range families {
		if strings.HasPrefix(name, "daypass_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// labelsOf are the names of the labels of a family, sorted.
func labelsOf(family *dto.MetricFamily) []string {
	var names []string
	for _, m := range family.Metric {
		for _, pair := range m.Label {
			names = append(names, pair.GetName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
