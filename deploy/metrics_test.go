package deploy_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// documented is one row of docs/reference/metrics.md.
type documented struct {
	kind   string
	labels []string
}

var metricRow = regexp.MustCompile("(?m)^\\| `(daypass_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*) \\| (.+) \\|$")

func reference(t *testing.T) map[string]documented {
	t.Helper()
	page, err := os.ReadFile("../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]documented{}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(labels)
		rows[row[1]] = documented{row[2], labels}
	}
	return rows
}

func TestEveryMetricOfALiveServerIsInTheReferenceAndTheOtherWayRound(t *testing.T) {
	families, rows := scrape(t, busy(t)), reference(t)
	live := ours(families)
	for _, name := range live {
		row, ok := rows[name]
		if !ok {
			t.Errorf("docs/reference/metrics.md lacks %s, which a live server exports", name)
			continue
		}
		if kind := strings.ToLower(families[name].GetType().String()); kind != row.kind {
			t.Errorf("%s is a %s and docs/reference/metrics.md says %s", name, kind, row.kind)
		}
		if labels := labelsOf(families[name]); !slices.Equal(labels, row.labels) {
			t.Errorf("%s has labels %v and docs/reference/metrics.md says %v", name, labels, row.labels)
		}
	}
	for name := range rows {
		if !slices.Contains(live, name) {
			t.Errorf("docs/reference/metrics.md has %s, which a live server does not export", name)
		}
	}
}

func TestMetricsFollowTheConventionsOfPrometheus(t *testing.T) {
	families := scrape(t, busy(t))
	var all []*dto.MetricFamily
	for _, name := range ours(families) {
		all = append(all, families[name])
	}
	problems, err := promlint.NewWithMetricFamilies(all).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// count is how often a histogram or counter counted with these labels, given as name, value, name, value.
func count(family *dto.MetricFamily, labels ...string) float64 {
	for _, m := range family.GetMetric() {
		fits := len(m.Label)*2 == len(labels)
		for i := 0; fits && i < len(labels); i += 2 {
			fits = slices.ContainsFunc(m.Label, func(p *dto.LabelPair) bool { return p.GetName() == labels[i] && p.GetValue() == labels[i+1] })
		}
		if fits {
			return m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

// Rate, errors and duration of what matters: verifications by issuer, grants and revocations by target.
func TestMetricsCountWhatHappenedWhereItHappened(t *testing.T) {
	families := scrape(t, busy(t))
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"daypass_verify_seconds", []string{"issuer", "test", "outcome", "ok"}, 1}, // the access token serves for the rest
		{"daypass_verify_seconds", []string{"issuer", "", "outcome", "rejected"}, 1},
		{"daypass_acquire_seconds", []string{"target", "memory", "outcome", "ok"}, 3},
		{"daypass_acquire_seconds", []string{"target", "", "outcome", "denied"}, 1},
		{"daypass_oauth_answers_total", []string{"endpoint", "token", "outcome", "ok"}, 1},
		{"daypass_grant_seconds", []string{"target", "memory", "outcome", "ok"}, 3},
		{"daypass_revocations_total", []string{"target", "memory", "outcome", "proved"}, 2},
		{"daypass_revoke_seconds", []string{"target", "memory"}, 2},
		{"daypass_revocation_seconds", []string{"target", "memory"}, 2},
		{"daypass_leases_ended_total", []string{"reason", "locked"}, 1},
		{"daypass_leases_ended_by_request_total", []string{"reason", "released"}, 1},
	} {
		if got := count(families[c.name], c.labels...); got != c.want {
			t.Errorf("%s%v counted %v: want %v", c.name, c.labels, got, c.want)
		}
	}
	commits := families["daypass_store_commit_updates"].Metric[0].Histogram
	if commits.GetSampleCount() == 0 || commits.GetSampleSum() < float64(commits.GetSampleCount()) {
		t.Errorf("%d commits of %v updates", commits.GetSampleCount(), commits.GetSampleSum())
	}
}
