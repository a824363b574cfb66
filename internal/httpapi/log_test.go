package httpapi_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/config"
)

// What a request did stands in the log under the ID that its caller was given.
func TestTheLogHasTheRequestIDOfTheAnswer(t *testing.T) {
	r := newRig(t, nil)
	files, err := json.Marshal(api.AccessRequest{Files: map[string]string{"a.yaml": "kind: Issuer\nname: other\noidc: {url: \"https://issuer.example\"}\n"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		got    answer
		status int
	}{
		{"a request was refused", r.ask(t, "POST", "/v1/leases", `{"role":"no-such-role"}`, bearer(r.token("reader"))), http.StatusForbidden},
		{"a request was refused", r.ask(t, "POST", "/v1/leases", `{"role":"reader"}`, bearer("not.a.token")), http.StatusUnauthorized},
		{"a lock was placed", r.administer(t, "POST", "/v1/locks", `{"match":{"role":"reader"},"reason":"a test"}`), http.StatusCreated},
		{"the ledger's key was rotated", r.administer(t, "POST", "/v1/keys/rotate", ""), http.StatusOK},
		{"an access revision was activated", r.administer(t, "PUT", "/v1/access", string(files)), http.StatusOK},
	} {
		if c.got.status != c.status {
			t.Errorf("%s: %d %s", c.what, c.got.status, c.got.body)
			continue
		}
		id := c.got.header.Get(api.HeaderRequest)
		if line := lineOf(r.log.String(), id); id == "" || !strings.Contains(line, c.what) {
			t.Errorf("%s: the log has %q under the request ID %q", c.what, line, id)
		}
		if c.got.status >= 400 && c.got.problem(t).Instance != id {
			t.Errorf("%s: the problem says %s and the header %s", c.what, c.got.problem(t).Instance, id)
		}
	}
}

// lineOf is the line of a log that has the request ID.
func lineOf(log, id string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "request="+id) {
			return line
		}
	}
	return ""
}

func TestALineOfTheLogIsOneJSONObjectUnlessTextIsAskedFor(t *testing.T) {
	for format, isJSON := range map[string]bool{"json": true, "text": false} {
		var out bytes.Buffer
		config.NewLogger(config.Log{Level: "info", Format: format}, &out).Info("it went\nwell", "request", "ID", slog.Group("deep", "err", "a\"b"))
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); (err == nil) != isJSON || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %v in %q", format, err, out.String())
		}
		if isJSON && (line["request"] != "ID" || line["level"] != "INFO" || line["msg"] != "it went\nwell" || line["time"] == nil) {
			t.Errorf("%v", line)
		}
	}
}
