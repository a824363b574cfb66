package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/testissuer"
)

// A device that acts for a workflow is removed: what it had for the workflow ends, and the workflow goes on by itself.
func TestADeviceThatIsRemovedHoldsNothingForOthers(t *testing.T) {
	r := newRig(t).withDevices(t).start(t)
	d, key := r.enrol(t, "pump-7")
	var state device.State
	state.Take(d, time.Now())
	ask := func() (answer api.TokenAnswer, status int) {
		t.Helper()
		actor, err := device.Source{State: state, Key: key, Now: time.Now}.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		claims := r.issuer.GitHub(testissuer.Run{Audience: r.URL()})
		claims["may_act"] = map[string]any{"iss": access.DeviceIssuer{}.URL("edge"), "sub": "pump-7"}
		const jwt = "urn:ietf:params:oauth:token-type:jwt"
		got, err := http.PostForm(r.URL()+"/oauth/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"subject_token": {r.issuer.Token(claims)}, "subject_token_type": {jwt}, "actor_token": {actor.Reveal()}, "actor_token_type": {jwt},
			"scope": {"role:orders-readonly"}})
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		if err := json.NewDecoder(got.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer, got.StatusCode
	}
	answer, status := ask()
	if status != http.StatusOK || !slices.Equal(answer.Lease.Actors, []string{"edge:pump-7"}) {
		t.Fatalf("%d %+v", status, answer.Lease)
	}
	own := acquire(t, r.workload(t, testissuer.Run{}))
	if _, err := r.administrator(t).RemoveDevice(t.Context(), "edge", "pump-7"); err != nil {
		t.Fatal(err)
	}
	info, err := r.administrator(t).Lease(t.Context(), answer.Lease.ID)
	if err != nil || info.Reason != "revoked" || !strings.HasPrefix(info.State, "revok") {
		t.Errorf("got %+v, %v", info, err)
	}
	if info, err := r.administrator(t).Lease(t.Context(), own.ID()); err != nil || info.State != "active" {
		t.Errorf("the workflow's own lease: %+v, %v", info, err)
	}
	if _, status := ask(); status/100 != 4 {
		t.Errorf("it acts again: %d", status)
	}
}
