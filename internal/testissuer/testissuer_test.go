package testissuer_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/daypass/daypass/internal/testissuer"
)

func get(t *testing.T, method, url, token string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// claims verifies a token with the issuer's published keys, with a library that is not the broker's verifier.
func claims(t *testing.T, url, token string) map[string]any {
	t.Helper()
	_, body := get(t, http.MethodGet, url+"/.well-known/openid-configuration", "")
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &discovery); err != nil || discovery.Issuer != url {
		t.Fatalf("got %s, %v", body, err)
	}
	_, body = get(t, http.MethodGet, discovery.Keys, "")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.PS384, jose.ES256, jose.ES512, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(keys)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTokensVerifyWithThePublishedKeys(t *testing.T) {
	for _, algorithm := range []string{"RS256", "PS384", "ES256", "ES512", "EdDSA"} {
		issuer, err := testissuer.Start(testissuer.Options{Now: time.Now, Algorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		defer issuer.Close()
		if got := claims(t, issuer.URL(), issuer.Token(issuer.GitHub(testissuer.Run{}))); got["repository"] != "acme/orders" {
			t.Errorf("%s: got %v", algorithm, got)
		}
	}
}

func TestAJobFindsItsTokenTheWayItDoesOnGitHub(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "testissuer")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/testissuer").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	process := exec.CommandContext(t.Context(), binary, "-alg", "ES256")
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	lines := bufio.NewScanner(stdout)
	for len(found) < 3 && lines.Scan() {
		m := regexp.MustCompile(`^export (\w+)='(.*)'$`).FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("got line %q", lines.Text())
		}
		found[m[1]] = m[2]
	}
	where, token, issuer := found["ACTIONS_ID_TOKEN_REQUEST_URL"], found["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], found["TESTISSUER_URL"]
	query := "&audience=https%3A%2F%2Fdaypass.example.com&repository=acme/web&ref=refs/tags/v1&environment=prod&ttl=90s"
	if status, _ := get(t, http.MethodGet, where+query, "wrong"); status != http.StatusUnauthorized {
		t.Errorf("a wrong request token gets %d", status)
	}
	_, body := get(t, http.MethodGet, where+query, token)
	var answer struct{ Value string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("got %s, %v", body, err)
	}
	got := claims(t, issuer, answer.Value)
	for name, want := range map[string]any{
		"aud": "https://daypass.example.com", "sub": "repo:acme/web:environment:prod", "repository": "acme/web",
		"repository_owner": "acme", "ref_type": "tag", "job_workflow_ref": "acme/web/.github/workflows/deploy.yml@refs/tags/v1",
	} {
		if got[name] != want {
			t.Errorf("claim %s is %v, want %v", name, got[name], want)
		}
	}
	if life := got["exp"].(float64) - got["iat"].(float64); life != 90 {
		t.Errorf("it lives %v s", life)
	}
	if status, _ := get(t, http.MethodPost, issuer+"/control/down", token); status != http.StatusOK {
		t.Errorf("control answers %d", status)
	}
	if status, _ := get(t, http.MethodGet, issuer+"/.well-known/jwks", ""); status != http.StatusServiceUnavailable {
		t.Errorf("an issuer that is down answers %d", status)
	}
	if _, kid := get(t, http.MethodPost, issuer+"/control/rotate?alg=RS256", token); !strings.HasPrefix(string(kid), "test-2-") {
		t.Errorf("got key %q", kid)
	}
	if err := process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}
