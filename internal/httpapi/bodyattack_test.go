package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
)

// A body takes memory from its first byte to its last, and its sender says how long that is. Nobody's that is large is
// waited for but an administrator's, and what others send is small.
func TestOnlyAdministratorsBodiesAreLarge(t *testing.T) {
	r := newRig(t, nil)
	for _, e := range endpoints {
		if e.body == "" {
			continue
		}
		if !strings.HasPrefix(e.path, "/v1/access") {
			large := `{"reason":"` + strings.Repeat("a", api.MaxBody) + `"}`
			checkProblem(t, r.ask(t, e.method, e.path, large, bearer(r.token("worker"))), 413, "too_large")
			continue
		}
		for token, want := range map[string]int{"no.token.atall": 401, r.token("worker"): 403, r.acquire(t, "worker").LeaseToken: 403} {
			head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: daypass\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", e.method, e.path, bearer(token), api.MaxAccess)
			if got := r.raw(t, head); got != want {
				t.Errorf("%s %s, of which the body never comes: %d, want %d", e.method, e.path, got, want)
			}
		}
	}
	if api.MaxBody > 64<<10 {
		t.Errorf("a body has up to %d bytes, and strangers send them", api.MaxBody)
	}
}
