package server_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/internal/testissuer"
	"github.com/daypass/daypass/secret"
)

// mesh adds a trust domain whose tokens are signed by the key that it returns.
func (r *rig) mesh(t *testing.T, more string) func(claims map[string]any) string {
	t.Helper()
	key, err := testissuer.NewKey("svid-1", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	bundle := spiffebundle.New(spiffeid.RequireTrustDomainFromString("example.org"))
	if err := bundle.AddJWTAuthority(key.ID, key.Signer.Public()); err != nil {
		t.Fatal(err)
	}
	text, err := bundle.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "secrets/mesh.json", string(text))
	r.write(t, "access/mesh.yaml", fmt.Sprintf(more, "trust_domain: example.org, bundle: {file: mesh.json}"))
	return func(claims map[string]any) string {
		now := time.Now().Unix()
		all := map[string]any{"sub": "spiffe://example.org/acme/orders", "aud": []string{r.URL()}, "iat": now, "exp": now + 300}
		for name, value := range claims {
			all[name] = value
		}
		header, err := json.Marshal(map[string]any{"alg": "ES256", "kid": key.ID, "typ": "JWT"})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return key.Sign(header, payload)
	}
}

// bearing acquires with evidence in the header, as a program does that knows nothing of access tokens.
func (r *rig) bearing(t *testing.T, evidence string) error {
	t.Helper()
	request, err := http.NewRequest("POST", "http://"+r.Address()+"/v1/leases", strings.NewReader(`{"role":"orders-readonly"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+evidence)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusCreated {
		return nil
	}
	problem := new(api.Problem)
	if err := json.NewDecoder(response.Body).Decode(problem); err != nil {
		t.Fatal(err)
	}
	return problem
}

func TestEvidenceOfManyKindsIsGoodOnceAtAllServers(t *testing.T) {
	first := newRig(t).withDevices(t)
	sign := first.mesh(t, "kind: Issuer\nname: mesh\nspiffe: {%s, single_use: true}\n")
	first.write(t, "access/devices.yaml", "kind: Issuer\nname: edge\ndevices: {term: 1h, single_use: true}\n")
	first.write(t, "access/mesh.cedar", `permit (principal is SPIFFE::Workload, action, resource == Role::"orders-readonly");`)
	first.share(t).start(t)
	second := first.another(t)
	d, key := first.enrol(t, "pump-7")
	var state device.State
	state.Take(d, time.Now())
	for kind, evidence := range map[string]func() string{
		"a JWT-SVID": func() string { return sign(map[string]any{"jti": rand.Text()}) },
		"a device's assertion": func() string {
			text, err := device.Source{State: state, Key: key, Now: time.Now}.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return text.Reveal()
		},
	} {
		stolen := evidence()
		if err := first.bearing(t, stolen); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for _, server := range []*rig{first, second} {
			refused(t, server.bearing(t, stolen), http.StatusUnauthorized, "used before")
			c, err := client.New(client.Options{URL: "http://" + server.Address(), Token: client.StaticToken(secret.New(stolen))})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
			refused(t, err, http.StatusUnauthorized, "used before")
		}
		if err := second.bearing(t, evidence()); err != nil {
			t.Errorf("%s, another one: %v", kind, err)
		}
	}
	refused(t, first.bearing(t, sign(nil)), http.StatusUnauthorized, "jti")
}

// What a JWT-SVID says beyond its subject is what policies may ask for, where the file declares it.
func TestClaimsOfAJWTSVIDDecide(t *testing.T) {
	r := newRig(t)
	sign := r.mesh(t, "kind: Issuer\nname: mesh\nspiffe: {%s}\nclaims: {env: string?, teams: set<string>?}\n"+
		"---\nkind: Issuer\nname: other\nspiffe: {trust_domain: other.org, bundle: {file: mesh.json}}\n")
	r.write(t, "access/mesh.cedar", `permit (principal is SPIFFE::Workload, action, resource == Role::"orders-readonly")
when { principal.claims has env && principal.claims.env == "production" && principal.claims has teams && principal.claims.teams.contains("orders") };`)
	r.start(t)
	good := map[string]any{"env": "production", "teams": []string{"orders", "billing"}}
	if err := r.bearing(t, sign(good)); err != nil {
		t.Error(err)
	}
	for what, claims := range map[string]map[string]any{
		"no claims":               nil,
		"another environment":     {"env": "staging", "teams": []string{"orders"}},
		"another team":            {"env": "production", "teams": []string{"billing"}},
		"a claim of another type": {"env": "production", "teams": "orders"},
	} {
		if problem, ok := errors.AsType[*api.Problem](r.bearing(t, sign(claims))); !ok || problem.Status != http.StatusForbidden {
			t.Errorf("%s: %v", what, problem)
		}
	}
	// What the verifier says itself no token overrides.
	if err := r.bearing(t, sign(map[string]any{"env": "production", "teams": []string{"orders"}, "spiffe_id": "spiffe://example.org/admin", "trust_domain": "other.org"})); err != nil {
		t.Error(err)
	}
	leases := r.administrator(t).Leases(t.Context(), client.Filter{})
	for l, err := range leases {
		if err != nil || l.Principal != "mesh:spiffe://example.org/acme/orders" {
			t.Errorf("%+v, %v", l, err)
		}
	}
}
