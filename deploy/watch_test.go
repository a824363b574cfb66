package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// strictYAML reads a file of one document; unknown and repeated fields are mistakes.
func strictYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// alarms is a file of Prometheus rules with alerts alone.
type alarms struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func TestTheAlarmsNameMetricsThatALiveServerExports(t *testing.T) {
	var file alarms
	strictYAML(t, "prometheus/daypass.rules.yaml", &file)
	families := scrape(t, busy(t))
	guide, err := os.ReadFile("../docs/howto/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if seen[rule.Alert] || !strings.HasPrefix(rule.Alert, "Daypass") {
				t.Errorf("the name %q is there twice, or is not ours", rule.Alert)
			}
			seen[rule.Alert] = true
			checkExpression(t, families, rule.Alert, rule.Expr)
			if _, err := model.ParseDuration(rule.For); rule.For != "" && err != nil {
				t.Errorf("%s: for: %v", rule.Alert, err)
			}
			if severity := rule.Labels["severity"]; len(rule.Labels) != 1 || severity != "page" && severity != "ticket" {
				t.Errorf("%s: labels %v", rule.Alert, rule.Labels)
			}
			for _, name := range []string{"summary", "description"} {
				checkTemplate(t, families, rule.Alert, rule.Expr, rule.Annotations[name])
			}
			page, heading, _ := strings.Cut(rule.Annotations["runbook"], "#")
			if page != "docs/howto/operate.md" || !slices.Contains(headings(string(guide)), heading) {
				t.Errorf("%s: %s has no such heading", rule.Alert, rule.Annotations["runbook"])
			}
			if !strings.Contains(string(guide), "`"+rule.Alert+"`") {
				t.Errorf("docs/howto/operate.md does not tell what to do about %s", rule.Alert)
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("found %d alarms, which cannot be all", len(seen))
	}
}

// headings are the names of a page's headings, as forges make them.
func headings(page string) []string {
	var names []string
	for _, match := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllStringSubmatch(page, -1) {
		names = append(names, strings.ReplaceAll(strings.ToLower(match[1]), " ", "-"))
	}
	return names
}

var (
	metricName = regexp.MustCompile(`\b(?:daypass|go|process)_[a-z_]+`)
	selector   = regexp.MustCompile(`\b((?:daypass|go|process)_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
	quoted     = regexp.MustCompile(`"[^"]*"`)
	valueOf    = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// added are the labels that Prometheus itself adds.
var added = []string{"instance", "job", "le"}

// family finds the family of a name as expressions write it, and the labels that its series have.
func family(families map[string]*dto.MetricFamily, name string) (*dto.MetricFamily, []string) {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		base, has := strings.CutSuffix(name, suffix)
		if f := families[base]; has && f != nil && (suffix == "" || f.GetType() == dto.MetricType_HISTOGRAM) {
			return f, append(labelsOf(f), added...)
		}
	}
	return nil, nil
}

// checkExpression holds that an expression is balanced and names metrics and labels that there are.
func checkExpression(t *testing.T, families map[string]*dto.MetricFamily, where, expression string) {
	t.Helper()
	bare := quoted.ReplaceAllString(expression, "")
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(bare, pair[:1]) != strings.Count(bare, pair[1:]) {
			t.Errorf("%s: %s is not balanced in %s", where, pair, expression)
		}
	}
	var labels []string
	for _, name := range metricName.FindAllString(bare, -1) {
		found, has := family(families, name)
		if found == nil {
			t.Errorf("%s: no live server exports %s", where, name)
		}
		if found != nil && found.GetType() == dto.MetricType_HISTOGRAM && found.GetName() == name {
			t.Errorf("%s: %s is a histogram: it has _bucket, _sum and _count alone", where, name)
		}
		labels = append(labels, has...)
	}
	for _, match := range selector.FindAllStringSubmatch(expression, -1) {
		_, has := family(families, match[1])
		for _, label := range matcher.FindAllStringSubmatch(match[2], -1) {
			if !slices.Contains(has, label[1]) {
				t.Errorf("%s: %s has no label %s", where, match[1], label[1])
			}
		}
	}
	for _, match := range grouping.FindAllStringSubmatch(expression, -1) {
		for label := range strings.SplitSeq(match[1], ", ") {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: nothing in %s has a label %s", where, expression, label)
			}
		}
	}
}

// checkTemplate holds that a text is there and speaks of labels that are left of the expression.
func checkTemplate(t *testing.T, families map[string]*dto.MetricFamily, where, expression, text string) {
	t.Helper()
	if text == "" {
		t.Errorf("%s lacks its summary or description", where)
	}
	left := added
	if by := grouping.FindStringSubmatch(expression); by != nil {
		left = strings.Split(by[1], ", ")
	} else if name := metricName.FindString(expression); name != "" {
		_, left = family(families, name)
	}
	for _, match := range valueOf.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(left, match[1]) {
			t.Errorf("%s: its text speaks of the label %s, and the expression has %v", where, match[1], left)
		}
	}
}

// panel is the part of a panel of Grafana that is worth checking.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Datasource *struct{ Type, UID string } `json:"datasource"`
	Targets    []struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

func TestTheDashboardNamesMetricsThatALiveServerExports(t *testing.T) {
	text, err := os.ReadFile("grafana/daypass.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID        string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	families := scrape(t, busy(t))
	shown := map[string]bool{}
	check := func(where, expression string) {
		checkExpression(t, families, where, strings.NewReplacer("$__rate_interval", "5m").Replace(expression))
		for _, name := range metricName.FindAllString(expression, -1) {
			if f, _ := family(families, name); f != nil {
				shown[f.GetName()] = true
			}
		}
	}
	for _, v := range dashboard.Templating.List {
		check("variable "+v.Name, strings.TrimPrefix(v.Definition, "label_values"))
	}
	for _, a := range dashboard.Annotations.List {
		check("annotation "+a.Name, a.Expr)
	}
	ids, places := map[int]bool{}, map[string]bool{}
	for _, p := range dashboard.Panels {
		place := fmt.Sprint(p.GridPos.X, p.GridPos.Y)
		if p.Title == "" || ids[p.ID] || places[place] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q has no title, or its number or place is taken", p.ID, p.Title)
		}
		ids[p.ID], places[place] = true, true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource == nil || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q shows nothing, or not of the datasource that is chosen", p.Title)
		}
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, name := range ours(families) {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	if dashboard.UID != "daypass" || len(dashboard.Panels) < 10 {
		t.Errorf("dashboard %q has %d panels", dashboard.UID, len(dashboard.Panels))
	}
}

func TestTheScrapeConfigurationIsWhatPrometheusReads(t *testing.T) {
	var file struct {
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			Scheme        string `yaml:"scheme"`
			StaticConfigs []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
		RuleFiles []string `yaml:"rule_files"`
	}
	strictYAML(t, "prometheus/scrape.yaml", &file)
	if len(file.ScrapeConfigs) != 1 || file.ScrapeConfigs[0].JobName != "daypass" {
		t.Errorf("the alarms expect the job daypass: %+v", file.ScrapeConfigs)
	}
}
