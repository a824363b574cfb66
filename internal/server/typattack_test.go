package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/testissuer"
)

// knocker shows tokens wherever tokens are taken, with a key of its own.
type knocker struct {
	*rig
	key   *dpop.Prover
	nonce string
}

func (k *knocker) ask(t *testing.T, method, path, body, token string, head map[string]string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+k.Address()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, own := head[dpop.Header]; !own {
		proof, err := k.key.Prove(dpop.Request{Method: method, URL: k.URL() + path, Token: token}, k.nonce, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(dpop.Header, proof)
	}
	for name, value := range head {
		request.Header.Set(name, strings.ReplaceAll(value, "\n", " ")) // a receipt has lines
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if nonce := response.Header.Get(dpop.HeaderNonce); nonce != "" {
		k.nonce = nonce
	}
	return response.StatusCode, string(read)
}

// sinks are the places where a token of some kind is taken.
func (k *knocker) sinks(subject string) map[string]func(*testing.T, string) (int, string) {
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	oauth := func(t *testing.T, fields url.Values) (int, string) {
		t.Helper()
		return k.ask(t, "POST", "/oauth/token", fields.Encode(), "", form)
	}
	const grant, jwt = "urn:ietf:params:oauth:grant-type:", "urn:ietf:params:oauth:token-type:jwt"
	return map[string]func(*testing.T, string) (int, string){
		"bearer": func(t *testing.T, token string) (int, string) {
			return k.ask(t, "POST", "/oauth/introspect", "token=x", "", map[string]string{"Authorization": "Bearer " + token, "Content-Type": form["Content-Type"]})
		},
		"bound": func(t *testing.T, token string) (int, string) {
			return k.ask(t, "GET", "/v1/leases", "", token, map[string]string{"Authorization": "DPoP " + token})
		},
		"subject": func(t *testing.T, token string) (int, string) {
			return oauth(t, url.Values{"grant_type": {grant + "token-exchange"}, "subject_token": {token}, "subject_token_type": {jwt}})
		},
		"actor": func(t *testing.T, token string) (int, string) {
			return oauth(t, url.Values{"grant_type": {grant + "token-exchange"}, "subject_token": {subject}, "subject_token_type": {jwt}, "actor_token": {token}, "actor_token_type": {jwt}})
		},
		"assertion": func(t *testing.T, token string) (int, string) {
			return oauth(t, url.Values{"grant_type": {grant + "jwt-bearer"}, "assertion": {token}})
		},
		"client": func(t *testing.T, token string) (int, string) {
			return oauth(t, url.Values{"grant_type": {"client_credentials"}, "client_assertion": {token}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}})
		},
		"enrolment": func(t *testing.T, token string) (int, string) {
			for range 20 { // who fails is slowed down
				status, body := k.ask(t, "POST", "/v1/devices", fmt.Sprintf(`{"token":%q}`, token), token, map[string]string{"Content-Type": "application/json"})
				if status != http.StatusTooManyRequests {
					return status, body
				}
				<-time.NewTimer(time.Second).C
			}
			return http.StatusTooManyRequests, "for ever"
		},
		"proof": func(t *testing.T, token string) (int, string) {
			return k.ask(t, "POST", "/oauth/token", url.Values{"grant_type": {grant + "token-exchange"}, "subject_token": {subject}, "subject_token_type": {jwt}}.Encode(), "",
				map[string]string{"DPoP": token, "Content-Type": form["Content-Type"]})
		},
	}
}

// Each text that we give out or take is good where it is meant to be and nowhere else, whoever shows it with whatever key.
func TestNoTokenPassesForAnotherKindOfToken(t *testing.T) {
	r := newRig(t).withDevices(t)
	r.write(t, "access/services.yaml", "kind: Target\nname: services\noidc-token: {}\n---\nkind: Role\nname: deploy\ntarget: services\noidc-token: {audience: sts.example.com}\n")
	r.write(t, "access/services.cedar", `permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"deploy");`)
	r.start(t)
	stranger, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	k := &knocker{rig: r, key: stranger, nonce: "none yet"}
	run := testissuer.Run{Repository: "acme/orders", Ref: "refs/heads/main", Audience: r.URL()}
	workload := func() string { return r.issuer.Token(r.issuer.GitHub(run)) }
	fresh := k.sinks(workload())
	if status, body := fresh["subject"](t, workload()); status != 400 { // it brings the nonce
		t.Fatalf("%d %s", status, body)
	}
	holder, err := dpop.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	owner := &knocker{rig: r, key: holder, nonce: k.nonce}
	status, access := owner.sinks("")["subject"](t, workload())
	if status != 200 {
		t.Fatalf("%d %s", status, access)
	}
	lease, err := r.workload(t, run).Acquire(t.Context(), api.AcquireRequest{Role: "deploy"})
	if err != nil {
		t.Fatal(err)
	}
	output := lease.Credential.Secret("token").Reveal()
	d, key := r.enrol(t, "pump-7")
	var state device.State
	state.Take(d, time.Now())
	assertion, err := device.Source{State: state, Key: key, Now: time.Now}.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proof, err := holder.Prove(dpop.Request{Method: "GET", URL: r.URL() + "/v1/leases"}, k.nonce, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	evidence := []string{"assertion", "bearer", "client", "subject"}
	for name, c := range map[string]struct {
		text string
		good []string
	}{
		"a workload's token":        {workload(), evidence},
		"a device's token":          {assertion.Reveal(), evidence},
		"an access token":           {between(access, `"access_token":"`), nil}, // it is bound to another key
		"an enrolment token":        {r.invite(t, api.InvitationRequest{Name: "pump-8"}).Reveal(), []string{"enrolment"}},
		"what a role gives":         {output, nil},
		"a lease token":             {lease.Token().Reveal(), []string{"bearer"}},
		"a receipt":                 {lease.Receipt, nil},
		"a proof":                   {proof, nil}, // it is for another request
		"a nonce":                   {k.nonce, nil},
		"a key of ours, as a token": {strings.Split(output, ".")[0] + ".e30.", nil},
	} {
		if c.text == "" {
			t.Fatalf("%s: there is none", name)
		}
		for sink, try := range k.sinks(workload()) {
			status, body := try(t, c.text)
			if good := status/100 == 2; good != slices.Contains(c.good, sink) || !good && status != 400 && status != 401 && status != 403 {
				t.Errorf("%s as %s: %d %s", name, sink, status, body)
			}
		}
	}
}

// between is the text of a JSON string that follows a mark.
func between(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
