package server_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/dpop"
)

// BenchmarkExchange is an exchange by 64 callers: a token in (RS256), its proof verified and used up in a durable
// transaction, an access token out (ES256); everything but the network. The proof is a second verification (ES256),
// beyond the floor.
func BenchmarkExchange(b *testing.B) {
	s, tokens := tokenDesk(b)
	prover, err := dpop.NewProver()
	if err != nil {
		b.Fatal(err)
	}
	metadata := httptest.NewRecorder()
	s.Handler().ServeHTTP(metadata, httptest.NewRequest("GET", "/.well-known/oauth-authorization-server", nil))
	nonce := metadata.Header().Get(dpop.HeaderNonce)
	proofs := make([]string, b.N+1) // made before: they are the callers' work
	for i := range proofs {
		if proofs[i], err = prover.Prove(dpop.Request{Method: "POST", URL: s.URL() + "/oauth/token"}, nonce, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	besideFloor(b, func() bool {
		i := int(n.Add(1)) - 1
		body := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {tokens[i%len(tokens)]},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}}.Encode()
		request := httptest.NewRequest("POST", "/oauth/token", strings.NewReader(body))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set(dpop.Header, proofs[i])
		recorder := httptest.NewRecorder()
		s.Handler().ServeHTTP(recorder, request)
		if recorder.Code != 200 {
			b.Error(recorder.Body)
		}
		return recorder.Code == 200
	})
}
