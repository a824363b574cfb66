package agent_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/internal/agent"
)

// environ is an environment as Where wants it.
func environ(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestTheFirstPlaceWithEvidenceIsUsed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"flag", "env", "pod"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("from "+name[:1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		where agent.Where
		want  string
	}{
		"the flag wins over all": {agent.Where{TokenFile: filepath.Join(dir, "flag"), Projected: filepath.Join(dir, "pod"),
			Getenv: environ(map[string]string{"DAYPASS_TOKEN_FILE": filepath.Join(dir, "env"), "DAYPASS_ID_TOKEN": "x"})}, "from f"},
		"the variable's file wins over tokens": {agent.Where{Projected: filepath.Join(dir, "pod"),
			Getenv: environ(map[string]string{"DAYPASS_TOKEN_FILE": filepath.Join(dir, "env"), "DAYPASS_ID_TOKEN": "x"})}, "from e"},
		"a GitLab token": {agent.Where{Projected: filepath.Join(dir, "pod"), Getenv: environ(map[string]string{"DAYPASS_ID_TOKEN": "x"})}, "x"},
		"a pod's token":  {agent.Where{Projected: filepath.Join(dir, "pod"), Getenv: environ(nil)}, "from p"},
	} {
		evidence, err := agent.Find(c.where)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if token, err := evidence.Token(t.Context()); err != nil || token.Reveal() != c.want || evidence.Origin == "" {
			t.Errorf("%s: got %q from %s, %v", name, token.Reveal(), evidence.Origin, err)
		}
	}
}

func TestAWSCredentialsSignForTheServerAndComeLast(t *testing.T) {
	vars := map[string]string{"AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE12", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_REGION": "eu-central-1"}
	where := agent.Where{Server: "https://daypass.example.com/", Projected: "/nonexistent", Maker: "/nonexistent", Getenv: environ(vars)}
	evidence, err := agent.Find(where)
	if err != nil {
		t.Fatal(err)
	}
	token, err := evidence.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token.Reveal(), "dpaws_"))
	if err != nil || !strings.Contains(string(text), `"X-Daypass-Server":"https://daypass.example.com"`) || !strings.Contains(string(text), "sts.eu-central-1.") || strings.Contains(string(text), "hush") {
		t.Errorf("got %s, %v", text, err)
	}
	vars["DAYPASS_ID_TOKEN"] = "x"
	if evidence, err = agent.Find(where); err != nil || evidence.Origin != "DAYPASS_ID_TOKEN" {
		t.Errorf("got %s, %v", evidence.Origin, err)
	}
}

func TestACertificateThatWasNamedIsTheEvidenceUnlessATokenWasNamedBeforeIt(t *testing.T) {
	named := map[string]string{"DAYPASS_CLIENT_CERT": "/c", "DAYPASS_CLIENT_KEY": "/k"}
	for name, c := range map[string]struct {
		where  agent.Where
		origin string
		token  bool
	}{
		"the flag before the variable of a token":       {agent.Where{Certs: agent.Certs{Certificate: "/a", Key: "/b"}, Getenv: environ(map[string]string{"DAYPASS_TOKEN_FILE": "/t"})}, "certificate /a", false},
		"the variable before a platform's token":        {agent.Where{Getenv: environ(map[string]string{"DAYPASS_CLIENT_CERT": "/c", "DAYPASS_CLIENT_KEY": "/k", "DAYPASS_ID_TOKEN": "x"})}, "certificate /c (DAYPASS_CLIENT_CERT)", false},
		"beside the flag of a token, which comes first": {agent.Where{TokenFile: "/t", Certs: agent.Certs{Certificate: "/a", Key: "/b"}, Getenv: environ(nil)}, "file /t", true},
		"beside the variable of a token":                {agent.Where{TokenFile: "/t", Getenv: environ(named)}, "file /t", true},
	} {
		evidence, err := agent.Find(c.where)
		if err != nil || evidence.Origin != c.origin || evidence.Certificate == nil || (evidence.TokenSource != nil) != c.token {
			t.Errorf("%s: got %+v, %v", name, evidence, err)
		}
	}
	for _, half := range []agent.Where{{Certs: agent.Certs{Key: "/b"}, Getenv: environ(named)}, {Getenv: environ(map[string]string{"DAYPASS_CLIENT_KEY": "/k"})}} {
		if _, err := agent.Find(half); err == nil || !strings.Contains(err.Error(), "belong together") {
			t.Errorf("half a pair: %v", err)
		}
	}
}

func TestTheWorkloadAPIComesFirstWhereItIsNamedAndLateWhereItIsThere(t *testing.T) {
	socket := map[string]string{"SPIFFE_ENDPOINT_SOCKET": "unix:///nonexistent/agent.sock"}
	with := func(more map[string]string) agent.Where {
		vars := maps.Clone(socket)
		maps.Copy(vars, more)
		return agent.Where{Server: "https://daypass.example.com", Projected: "/nonexistent", Maker: "/nonexistent", Getenv: environ(vars)}
	}
	const spiffe = "the SPIFFE Workload API at unix:///nonexistent/agent.sock"
	for name, c := range map[string]struct {
		vars   map[string]string
		origin string
		token  bool
	}{
		"there alone":                  {nil, spiffe, true},
		"before AWS credentials":       {map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, spiffe, true},
		"after a token of a platform":  {map[string]string{"DAYPASS_ID_TOKEN": "x"}, "DAYPASS_ID_TOKEN", true},
		"named, before it":             {map[string]string{"DAYPASS_ID_TOKEN": "x", "DAYPASS_SPIFFE": "jwt"}, spiffe, true},
		"named, its certificate":       {map[string]string{"DAYPASS_ID_TOKEN": "x", "DAYPASS_SPIFFE": "x509"}, spiffe, false},
		"named, after a file that was": {map[string]string{"DAYPASS_TOKEN_FILE": "/t", "DAYPASS_SPIFFE": "x509"}, "file /t (DAYPASS_TOKEN_FILE)", true},
	} {
		evidence, err := agent.Find(with(c.vars))
		if err != nil || evidence.Origin != c.origin || (evidence.TokenSource != nil) != c.token || (evidence.Certificate == nil) != c.token {
			t.Errorf("%s: got %+v, %v", name, evidence, err)
		}
	}
	for want, vars := range map[string]map[string]string{
		"DAYPASS_SPIFFE is jwt or x509, not \"saml\"": {"DAYPASS_SPIFFE": "saml"},
		"is not a SPIFFE ID":                          {"DAYPASS_SPIFFE": "jwt", "DAYPASS_SPIFFE_ID": "orders"},
		"SPIFFE_ENDPOINT_SOCKET (SPIFFE): not set":    {"DAYPASS_SPIFFE": "x509", "SPIFFE_ENDPOINT_SOCKET": ""},
		"is not the address of a Workload API":        {"DAYPASS_SPIFFE": "jwt", "SPIFFE_ENDPOINT_SOCKET": "/run/agent.sock"},
	} {
		vars["DAYPASS_ID_TOKEN"] = "x" // another place's, which is not taken instead
		evidence, err := agent.Find(with(vars))
		if err != nil {
			t.Fatal(err)
		}
		if token, err := evidence.Token(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %q, %v, want %s", vars, token.Reveal(), err, want)
		}
	}
	if _, err := agent.Find(with(map[string]string{"SPIFFE_ENDPOINT_SOCKET": "/run/agent.sock"})); err == nil || !strings.Contains(err.Error(), "SPIFFE_ENDPOINT_SOCKET (SPIFFE): \"/run/agent.sock\" is not the address") {
		t.Errorf("an address of others that cannot be right: %v", err)
	}
}

func TestAPlaceThatTheUserNamedIsNotPassedOver(t *testing.T) {
	evidence, err := agent.Find(agent.Where{TokenFile: "/nonexistent", Getenv: environ(map[string]string{"DAYPASS_ID_TOKEN": "x"})})
	if err != nil {
		t.Fatal(err)
	}
	if token, err := evidence.Token(t.Context()); err == nil {
		t.Errorf("got %q from another place", token.Reveal())
	}
}

func TestWithoutEvidenceEveryPlaceIsListed(t *testing.T) {
	for platform, hint := range map[string]string{"": "--token-file", "GITHUB_ACTIONS": "id-token: write", "GITLAB_CI": "aud: https://daypass.example.com}", "KUBERNETES_SERVICE_HOST": "audience https://daypass.example.com"} {
		_, err := agent.Find(agent.Where{Server: "https://daypass.example.com/", Projected: "/nonexistent", Maker: "/nonexistent", Getenv: environ(map[string]string{platform: "true"})})
		none, ok := errors.AsType[*agent.NoEvidenceError](err)
		if !ok || !errors.Is(err, client.ErrNoToken) {
			t.Fatalf("got %v", err)
		}
		for _, place := range []string{"--token-file", "DAYPASS_TOKEN_FILE", "DAYPASS_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "/nonexistent", "AWS credentials"} {
			if !strings.Contains(err.Error(), place) {
				t.Errorf("%s is not listed in %v", place, err)
			}
		}
		if !strings.Contains(strings.Join(none.Hints(), "\n"), hint) {
			t.Errorf("on %q the hints are %q", platform, none.Hints())
		}
	}
}

func TestGitHubIsAskedForATokenForThisServer(t *testing.T) {
	var audiences []string
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer request-token" || r.URL.Query().Get("api-version") != "2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		audiences = append(audiences, r.URL.Query().Get("audience"))
		json.NewEncoder(w).Encode(map[string]string{"value": "id-token"})
	}))
	defer github.Close()
	vars := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": github.URL + "/?api-version=2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token"}
	for _, audience := range []string{"", "special"} {
		vars["DAYPASS_AUDIENCE"] = audience
		evidence, err := agent.Find(agent.Where{Server: "https://daypass.example.com/", Getenv: environ(vars)})
		if err != nil {
			t.Fatal(err)
		}
		if token, err := evidence.Token(t.Context()); err != nil || token.Reveal() != "id-token" {
			t.Errorf("got %q, %v", token.Reveal(), err)
		}
	}
	if strings.Join(audiences, " ") != "https://daypass.example.com special" {
		t.Errorf("audiences are %q", audiences)
	}
}

func TestGitHubsRequestTokenIsNotLeaked(t *testing.T) {
	redirecting := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer redirecting.Close()
	for _, endpoint := range []string{"http://example.com/x", "not a url", "ftp://127.0.0.1/", redirecting.URL} {
		evidence, err := agent.Find(agent.Where{Getenv: environ(map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": endpoint, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary"})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.Token(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", endpoint, err)
		}
	}
}
