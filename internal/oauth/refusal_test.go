package oauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/dpop"
	"github.com/daypass/daypass/internal/accesstoken"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/oauth"
)

func TestEachKindOfErrorHasItsCodeAndStatus(t *testing.T) {
	codes := oauth.Codes{Evidence: oauth.InvalidGrant, Denied: oauth.InvalidScope}
	unproven := fault.Wrap(fault.Unauthenticated, "x", "", &accesstoken.Refusal{Code: accesstoken.InvalidProof, Text: "the proof is old (RFC 9449 §4.3)"})
	for says, c := range map[string]struct {
		err    error
		code   string
		status int
	}{
		"evidence":               {fault.New(fault.Unauthenticated, "x", "no"), oauth.InvalidGrant, 400},
		"evidence of the actor":  {&admission.PartyError{Party: admission.TheActor, Err: fault.New(fault.Unauthenticated, "x", "no")}, oauth.InvalidRequest, 400},
		"a proof":                {unproven, accesstoken.InvalidProof, 400},
		"a denial":               {fault.New(fault.Denied, "x", "no"), oauth.InvalidScope, 400},
		"a conflict":             {fault.New(fault.Conflict, "x", "no"), oauth.InvalidRequest, 400},
		"too many":               {fault.New(fault.TooMany, "x", "no"), oauth.Unavailable, 429},
		"a target that is away":  {fault.New(fault.TargetUnavailable, "x", "no"), oauth.Unavailable, 503},
		"what nobody thought of": {errors.New("a secret inside"), oauth.ServerError, 500},
	} {
		refusal := codes.Of(c.err, "something went wrong")
		if refusal.Code != c.code || refusal.HTTPStatus() != c.status || !errors.Is(refusal, c.err) {
			t.Errorf("%s: %d %v", says, refusal.HTTPStatus(), refusal)
		}
		if told := refusal.Body().Description; strings.Contains(told, "secret") || !strings.Contains(told, "RFC ") {
			t.Errorf("%s: it is told %q", says, told)
		}
	}
}

func TestARefusalSaysWhenAndHowToComeAgain(t *testing.T) {
	busy := &fault.Error{Op: "x", Kind: fault.TooMany, Public: "later", RetryAfter: 1500 * time.Millisecond, Decision: "d7"}
	h := http.Header{}
	refusal := oauth.Codes{}.Of(busy, "")
	refusal.Head(h, "n")
	if h.Get("Retry-After") != "2" || refusal.Body().DecisionID != "d7" || h.Get("WWW-Authenticate") != "" {
		t.Errorf("%v %+v", h, refusal.Body())
	}
	h = http.Header{}
	(&oauth.Refusal{Code: oauth.InvalidClient, Scheme: "Basic"}).Head(h, "n")
	if h.Get("WWW-Authenticate") != `Basic realm="daypass"` {
		t.Errorf("a client that came with Basic is told %v (RFC 6749 §5.2)", h)
	}
	h = http.Header{}
	oauth.Challenge(h, errors.New("x"), "n")
	if told := strings.Join(h.Values("WWW-Authenticate"), "; "); !strings.HasPrefix(told, "Bearer ") || !strings.Contains(told, `DPoP realm="daypass", algs="`) {
		t.Errorf("who showed nothing is told %q", told)
	}
	h = http.Header{}
	oauth.Challenge(h, &accesstoken.Refusal{Code: accesstoken.UseNonce, Text: `take "this"`}, "n")
	if told := h.Get("WWW-Authenticate"); !strings.Contains(told, `error="use_dpop_nonce", error_description="take 'this'"`) || h.Get(dpop.HeaderNonce) != "n" {
		t.Errorf("who needs a nonce is told %q, %v", told, h)
	}
}

func TestWhatIsShownIsShownOnce(t *testing.T) {
	for says, c := range map[string]struct {
		lines  []string
		scheme string
		good   bool
	}{
		"nothing":                            {nil, "", true},
		"a bearer token":                     {[]string{"bearer a.b.c"}, accesstoken.SchemeBearer, true},
		"a bound token":                      {[]string{"DPoP a.b.c"}, accesstoken.SchemeDPoP, true},
		"two headers":                        {[]string{"Bearer a", "Bearer b"}, "", false},
		"another scheme":                     {[]string{"Basic YQ=="}, "", false},
		"no token":                           {[]string{"Bearer "}, "", false},
		"two tokens":                         {[]string{"Bearer a b"}, "", false},
		"a token with letters that none has": {[]string{"Bearer ä"}, "", false},
	} {
		token, scheme, err := oauth.Authorization(http.Header{"Authorization": c.lines})
		if (err == nil) != c.good || scheme != c.scheme || c.good && token.IsZero() != (len(c.lines) == 0) {
			t.Errorf("%s: %q, %v", says, scheme, err)
		}
	}
	twice := http.Header{}
	twice.Add(dpop.Header, "a")
	twice.Add(dpop.Header, "b")
	if _, err := oauth.Proof(twice); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("two proofs: %v", err)
	}
}
