package aws_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
)

// TestWhatAWSHasAgainstATokenIsExplained goes through the words of AWS's own STS, which its protocol gives as codes and
// messages. No STS that runs here says them.
func TestWhatAWSHasAgainstATokenIsExplained(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	var code, words string
	var forms []string
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		forms = append(forms, q.FormValue("Action")+" "+q.FormValue("Policy")+" "+q.FormValue("DurationSeconds"))
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`, code, words)
	}))
	defer sts.Close()
	cfg := r.config(aws.Settings{STS: sts.URL})
	cfg.Roles = func(context.Context) (map[string]string, error) {
		return map[string]string{"deploy": "arn:aws:iam::123456789012:role/deploy"}, nil
	}
	opened, err := aws.NewSessions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for said, want := range map[[2]string][2]string{
		{"InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://daypass.example.com"}: {"the account has no identity provider for this issuer", "whose URL is " + r.issuer.URL() + " to the letter"},
		{"InvalidIdentityToken", "Incorrect token audience"}:                                                        {"does not list the audience", "add sts.amazonaws.com to its audiences"},
		{"InvalidIdentityToken", "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"}:  {"an authority that AWS does not know", "no thumbprint is needed: leave it out"},
		{"InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"}:                  {"thumbprints have nothing to do with it", "read from the whole internet over https"},
		{"ExpiredTokenException", "Token must be issued within a specific timeframe"}:                               {"too old or of the future", "set the clock"},
		{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}:                                 {"its trust policy does not name this issuer, audience and subject", "sub (role:deploy): daypass trust render aws deploy"},
		{"AccessDenied", "User is not authorized to perform: sts:TagSession"}:                                       {"does not let sessions have tags", "allow sts:TagSession"},
		{"AccessDenied", "User is not authorized to perform: sts:SetSourceIdentity"}:                                {"does not let sessions have a source identity", "allow sts:SetSourceIdentity"},
		{"ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}:      {"does not allow sessions of 15 minutes", "raise its maximum"},
		{"RegionDisabledException", "STS is not activated in this region"}:                                          {"STS is switched off in the region", "switch it on"},
		{"SomethingNew", "Words that nobody has seen"}:                                                              {"it is refused. AWS says SomethingNew: Words that nobody has seen", "daypass trust render aws deploy"},
	} {
		mu.Lock()
		code, words = said[0], said[1]
		mu.Unlock()
		found, err := opened.Check(t.Context())
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", said, found, err)
		}
		f := found[0]
		if f.Severity != target.Problem || !strings.Contains(f.Message, want[0]) || !strings.Contains(f.Message, "AWS says "+said[0]+": "+said[1]) || !strings.Contains(f.Fix, want[1]) {
			t.Errorf("%s: found %+v", said, f)
		}
		if strings.Contains(fmt.Sprint(found), "eyJ") {
			t.Errorf("%s: the token is in what was found", said)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, form := range forms {
		if form != `AssumeRoleWithWebIdentity {"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]} 900` {
			t.Errorf("AWS was asked for more than nothing: %s", form)
		}
	}
}
