package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/source"
)

// load writes and loads a configuration.
func load(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daypass.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

// whole is the configuration that the design shows.
const whole = `listen: 127.0.0.1:8420
url: https://daypass.example.com
tls: {certificate: /etc/daypass/tls.crt, key: /etc/daypass/tls.key}
socket: /run/daypass/admin.sock
admins: {uids: [0, 1000], gids: [], issuers: [staff]}
store: sqlite:///var/lib/daypass/daypass.db
master_key: file:///var/lib/daypass/master.key
secrets_dir: /etc/daypass/secrets
access: /etc/daypass/access
trusted_proxies: [10.0.0.0/8]
time_zones: [Europe/Berlin]
limits: {leases_per_principal: 50, acquire_rate: 90/m}
retention: {leases: 90d, decisions: 720h}
postgres: {allow_roles: [pg_read_all_data]}
traces: {otlp: http://127.0.0.1:4318}
log: {level: info, format: json}
`

func TestTheWholeConfigurationIsRead(t *testing.T) {
	cfg, err := load(t, whole)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.URL != "https://daypass.example.com" || cfg.Limits.AcquireRate != 1.5 || cfg.Limits.LeasesPerPrincipal != 50 ||
		time.Duration(cfg.Retention.Decisions) != 720*time.Hour || time.Duration(cfg.Retention.Leases) != 90*24*time.Hour ||
		len(cfg.Admins.UIDs) != 2 || cfg.Postgres.AllowRoles[0] != "pg_read_all_data" || cfg.TrustedProxies[0].String() != "10.0.0.0/8" {
		t.Errorf("read as %+v", cfg)
	}
}

func TestAnEmptyConfigurationIsSafe(t *testing.T) {
	cfg, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:8420" || cfg.Limits.AcquireRate != 10 || cfg.Limits.LeasesPerPrincipal != 100 {
		t.Errorf("it means %+v", cfg)
	}
}

func TestMistakesOfAConfigurationHaveTheirPlace(t *testing.T) {
	for _, c := range []struct{ what, text, says string }{
		{"an unknown field", "listn: 127.0.0.1:1\n", `did you mean "listen"`},
		{"a field twice", "url: http://localhost:1\nurl: http://localhost:2\n", "given twice"},
		{"an address without TLS", "listen: 0.0.0.0:8420\nurl: https://d.example\n", "in clear"},
		{"all addresses without TLS", "listen: :8420\nurl: https://d.example\n", "in clear"},
		{"TLS without a key", "tls: {certificate: /a}\n", "certificate and key"},
		{"no URL off loopback", "listen: 0.0.0.0:1\ntls: {certificate: /a, key: /b}\n", "url is missing"},
		{"a URL with a slash", "url: https://d.example/\n", "slash"},
		{"a URL without TLS", "url: http://d.example\n", "not https"},
		{"a URL with a user", "url: https://u:p@d.example\n", "user, query"},
		{"a relative path", "secrets_dir: secrets\n", "not an absolute path"},
		{"a store that is none", "store: /var/lib/x.db\n", "names no file"},
		{"a PostgreSQL store with its password", "store: postgres://u:secret@h/d\n", "holds a password"},
		{"a PostgreSQL store without a database", "store: postgres://u@h\n", "postgres://user@host:port/database"},
		{"a PostgreSQL store in clear", "store: postgres://u@h/d?sslmode=disable\n", "on this machine"},
		{"a store of another kind", "store: mysql://u@h/d\n", "names no file"},
		{"a store's password in the file", "store_password: sesame\n", "absolute path"},
		{"an inline key", "master_key: c2VjcmV0\n", "master key"},
		{"a zone that is none", "time_zones: [Europe/Atlantis]\n", "Atlantis"},
		{"a role without a name", "postgres: {allow_roles: [a, '']}\n", `"" cannot be the name of a role`},
		{"a rate without a unit", "limits: {acquire_rate: \"10\"}\n", "rate"},
		{"a collector without a scheme", "traces: {otlp: '127.0.0.1:4318'}\n", "not the base URL of a collector"},
		{"a collector with a password", "traces: {otlp: 'https://a:b@collector'}\n", "not the base URL of a collector"},
		{"a collector with the whole path", "traces: {otlp: 'http://collector:4318/v1/traces'}\n", "not the base URL of a collector"},
		{"a setting of traces that there is not", "traces: {grpc: 'http://collector:4317'}\n", "grpc"},
		{"a period in weeks", "retention: {leases: 2w}\n", "period"},
		{"a level that is none", "log: {level: loud}\n", "level"},
		{"a proxy that is no network", "trusted_proxies: [10.0.0.1]\n", "trusted_proxies"},
		{"an issuer's name that is none", "admins: {issuers: [Staff]}\n", "cannot be the name"},
		{"a negative limit", "limits: {leases_per_principal: -1}\n", "negative"},
		{"less than no connections", "limits: {connections: -1}\n", "1048576"},
		{"a second document", "listen: 127.0.0.1:1\n---\nurl: x\n", "second document"},
		{"a socket with a long path", "socket: /" + strings.Repeat("s", 120) + "\n", "at most 107"},
	} {
		_, err := load(t, c.text)
		wrong, ok := errors.AsType[source.Errors](err)
		if !ok || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if wrong[0].Line == 0 || !strings.HasSuffix(wrong[0].File, "daypass.yaml") {
			t.Errorf("%s has no place: %v", c.what, wrong[0])
		}
	}
}

func TestSettingsOfConditionsAreChecked(t *testing.T) {
	for field, cfg := range map[string]config.Config{
		"conditions":    {Conditions: "always"},
		"location.file": {Location: config.Location{File: "places.mmdb"}},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestSinksOfAlertsAreCheckedWhenTheConfigurationIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		sink config.AlertSink
		want string
	}{
		"plain http":        {config.AlertSink{Name: "a", Webhook: "http://hooks.example.com/"}, "is not https"},
		"two kinds":         {config.AlertSink{Name: "a", Webhook: "https://a.example", Syslog: "udp://127.0.0.1"}, "it has 2 of webhook, slack and syslog"},
		"none":              {config.AlertSink{Name: "a"}, "it has 0 of webhook, slack and syslog"},
		"a key of syslog":   {config.AlertSink{Name: "a", Syslog: "udp://127.0.0.1", Key: "file:///key"}, "a key signs webhooks alone"},
		"a relative key":    {config.AlertSink{Name: "a", Webhook: "https://a.example", Key: "key"}, "key"},
		"no name":           {config.AlertSink{Webhook: "https://a.example"}, "cannot be the name of a sink"},
		"an odd address":    {config.AlertSink{Name: "a", Syslog: "log.example.com:514"}, "is not an address"},
		"a URL with a user": {config.AlertSink{Name: "a", Slack: "https://canary:canary@a.example"}, "it has a user"},
	} {
		t.Run(name, func(t *testing.T) {
			err := config.Config{Alerts: config.Alerts{Sinks: []config.AlertSink{c.sink}}}.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v", err)
			}
		})
	}
}
