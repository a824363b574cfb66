package kubernetes_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/targettest"
)

func TestRightsThatClusterOrTargetForbidMakeNothing(t *testing.T) {
	r := newRig(t)
	k := r.open(t, r.Address())
	fill := strings.NewReplacer("WORK", r.work, "OTHER", r.other, "SPACE", r.space)
	for name, rights := range map[string]string{
		"an account that does not exist":         `{"service_account":{"namespace":"WORK","name":"nobody"}}`,
		"an account of another namespace":        `{"service_account":{"namespace":"OTHER","name":"robot"}}`,
		"Daypass's own account":                  `{"service_account":{"namespace":"SPACE","name":"daypass"}}`,
		"an account made in another namespace":   `{"per_lease":{"namespace":"OTHER","bind":[{"role":"reader"}]}}`,
		"a binding in another namespace":         `{"per_lease":{"namespace":"WORK","bind":[{"role":"reader"},{"cluster_role":"view","namespace":"OTHER"}]}}`,
		"a role that Daypass may not bind":       `{"per_lease":{"namespace":"WORK","bind":[{"role":"reader"},{"cluster_role":"cluster-admin"}]}}`,
		"a cluster role for the whole cluster":   `{"per_lease":{"namespace":"WORK","bind":[{"cluster_role":"cluster-admin","cluster_wide":true}]}}`,
		"a namespace that leads out of the path": `{"per_lease":{"namespace":"WORK/../OTHER","bind":[{"role":"reader"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			lease := targettest.Lease()
			_, err := k.Grant(t.Context(), target.Grant{Lease: lease, Role: "r", Rights: json.RawMessage(fill.Replace(rights)), TTL: time.Hour})
			if !errors.Is(err, target.ErrNotDone) {
				t.Errorf("got %v, want ErrNotDone", err)
			}
			begun := time.Now()
			if err := k.Revoke(t.Context(), lease); err != nil || time.Since(begun) > 5*time.Second {
				t.Errorf("revoke of what never was took %v: %v", time.Since(begun), err)
			}
			if alive, err := r.alive(t.Context(), lease); err != nil || alive {
				t.Errorf("something lives (%v)", err)
			}
		})
	}
}

func TestALeaseWhoseRecordSomebodyDeletedIsFoundAndEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	k := r.open(t, r.Address())
	lease := targettest.Lease()
	c, err := k.Grant(t.Context(), target.Grant{Lease: lease, Role: "r", Rights: r.account(), TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.try(t.Context(), c, r.configmaps()); err != nil {
		t.Fatal(err)
	}
	r.Must(t, http.MethodDelete, "/apis/coordination.k8s.io/v1/namespaces/"+r.space+"/leases/dp-"+r.instance+"-"+lease, nil)
	if err := k.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if err := r.try(t.Context(), c, r.configmaps()); err == nil {
		t.Error("the token works")
	}
}

func TestAnotherClusterIsNotTakenForOurs(t *testing.T) {
	r := newRig(t)
	refuses := func(what string, change func(*target.Mark), known bool) {
		t.Helper()
		cfg := r.config(r.Address())
		cfg.Known = known
		change(&cfg.Mark)
		k := openConfig(t, cfg)
		lease := targettest.Lease()
		if _, err := k.Grant(t.Context(), target.Grant{Lease: lease, Role: "r", Rights: r.account(), TTL: time.Hour}); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("%s grants: %v", what, err)
		}
		if err := k.Revoke(t.Context(), lease); err == nil {
			t.Errorf("%s proves a death", what)
		}
		for _, err := range k.Leases(t.Context()) {
			if err == nil {
				t.Errorf("%s lists leases", what)
			}
		}
	}
	refuses("a cluster without our mark", func(*target.Mark) {}, true)
	if err := r.open(t, r.Address()).Meet(t.Context()); err != nil {
		t.Fatal(err)
	}
	refuses("a namespace of another target", func(m *target.Mark) { m.Target = "cluster-b" }, false)
}

func TestCheckTellsTooLittleAndTooMuch(t *testing.T) {
	r := newRig(t)
	r.Account(t, r.other, "stranger")
	check := func(token string) map[target.Severity]int {
		t.Helper()
		cfg := r.config(r.Address())
		cfg.Token = func() (secret.Text, error) { return secret.New(token), nil }
		k := openConfig(t, cfg)
		found, err := k.Check(t.Context())
		count := map[target.Severity]int{}
		for _, f := range found {
			count[f.Severity]++
			if f.Fix == "" {
				t.Errorf("no fix for %s", f.Message)
			}
		}
		if err != nil {
			t.Errorf("check: %v", err)
		}
		return count
	}
	if got := check(r.token); len(got) != 0 {
		t.Errorf("the how-to's rules give %v", got)
	}
	if got := check(r.Admin); got[target.Problem] != 0 || got[target.Warning] != 6 {
		t.Errorf("the cluster's administrator gives %v", got)
	}
	if got := check(r.Token(t, r.other, "stranger", "", "")); got[target.Problem] != 7 || got[target.Note] != 4 {
		t.Errorf("an account without rights gives %v", got)
	}
}
