package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/daypass/daypass/ledger"
)

// published is what a server serves to those who verify tokens.
func (r *rig) published(t *testing.T, path string) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	r.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	if recorder.Code != http.StatusOK || recorder.Header().Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("%s: %d %v %s", path, recorder.Code, recorder.Header(), recorder.Body)
	}
	return recorder.Body.String()
}

func TestServersOfOneStoreAreOneIssuer(t *testing.T) {
	first := newRig(t).share(t).start(t)
	second := first.another(t)
	const path = "/.well-known/jwks.json"
	keys := make([]string, 2)
	var both sync.WaitGroup
	for n, r := range []*rig{first, second} {
		both.Go(func() { keys[n] = r.published(t, path) }) // each finds that there are no keys yet
	}
	both.Wait()
	if keys[0] != keys[1] || strings.Count(keys[0], `"kid"`) != 4 {
		t.Errorf("one server publishes %s, the other %s", keys[0], keys[1])
	}
	if about := second.published(t, "/.well-known/openid-configuration"); !strings.Contains(about, `"issuer": "`+first.URL()+`"`) {
		t.Errorf("the second server says of itself %s", about)
	}

	done, err := first.administrator(t).RotateIssuer(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if now := first.published(t, path); !strings.Contains(now, done.Signing) || !strings.Contains(now, done.Next) || strings.Count(now, `"kid"`) != 4 {
		t.Errorf("after %+v the documents say %s", done, now)
	}
	var rotations []string
	for e, err := range first.administrator(t).LedgerEntries(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		entry, err := ledger.ParseLeaf(e.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if entry.Event == ledger.IssuerRotated {
			rotations = append(rotations, entry.Key)
		}
	}
	if len(rotations) != 2 || rotations[1] != done.Signing {
		t.Errorf("the ledger says %v", rotations)
	}
}
