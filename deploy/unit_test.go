package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unit reads a file of systemd: the values of each setting, by section and name.
func unit(t *testing.T, path string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section, found := "", map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, value, isSetting := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case isSetting:
			found[section+"."+name] = append(found[section+"."+name], value)
		default:
			t.Errorf("%s: %q is no setting", path, line)
		}
	}
	return found
}

// The unit gives the server the directories that it uses when daypass.yaml does not say otherwise.
func TestTheUnitHasTheDefaultsOfTheServer(t *testing.T) {
	settings := unit(t, "systemd/daypass.service")
	config, err := os.ReadFile("../internal/config/config.go")
	if err != nil {
		t.Fatal(err)
	}
	for setting, path := range map[string]string{"RuntimeDirectory": "/run/daypass/admin.sock", "StateDirectory": "/var/lib/daypass/daypass.db"} {
		value := settings["Service."+setting]
		if !slices.Equal(value, []string{"daypass"}) || !strings.Contains(string(config), path) {
			t.Errorf("%s=%v does not go with the default %s", setting, value, path)
		}
	}
	if start := settings["Service.ExecStart"]; !slices.Equal(start, []string{"/usr/local/bin/daypass serve --config /etc/daypass/daypass.yaml"}) {
		t.Errorf("ExecStart=%v", start)
	}
	for name, want := range map[string]string{
		"Service.User": "daypass", "Service.Restart": "always", "Service.LimitCORE": "0", "Service.NoNewPrivileges": "yes",
		"Service.ProtectSystem": "strict", "Service.CapabilityBoundingSet": "CAP_NET_BIND_SERVICE", "Service.StateDirectoryMode": "0700",
	} {
		if !slices.Equal(settings[name], []string{want}) {
			t.Errorf("%s=%v: want %s", name, settings[name], want)
		}
	}
	for _, harmful := range []string{"Service.PrivateUsers", "Service.ProcSubset"} {
		if settings[harmful] != nil {
			t.Errorf("%s breaks what the comment in the unit says", harmful)
		}
	}
}

// exposure is the most that systemd-analyze may find, in tenths; 0 is none, 100 all.
const exposure = "20"

func TestSystemdTakesTheUnitAndFindsLittleExposed(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here. Not checked: that systemd takes deploy/systemd/daypass.service, and how much of the system it exposes. Install it: apt-get install systemd")
	}
	text, err := os.ReadFile("systemd/daypass.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "daypass")
	if err := os.WriteFile(binary, nil, 0o755); err != nil { // it must be there and is not run
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "daypass.service")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/daypass", binary)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+exposure, copied).CombinedOutput()
	if strings.Contains(string(out), "unrecognized option") {
		t.Skip("systemd-analyze is older than 250. Not checked: how much of the system deploy/systemd/daypass.service exposes")
	}
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
	t.Log("not checked here: that the server runs under the unit, which needs systemd as process 1")
}
