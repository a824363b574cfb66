package verifier

import (
	"strings"
	"testing"
)

func TestTheIssuerOfATokenIsReadWithoutBelievingIt(t *testing.T) {
	for token, want := range map[string]string{
		"e30.eyJpc3MiOiJodHRwczovL2EifQ.x":           "https://a",
		"e30.eyJpc3MiOiJhIiwieCI6eyJpc3MiOiJiIn19.x": "a",
		"e30.eyJpc3MiOiJhIiwiaXNzIjoiYiJ9.x":         "", // twice
		"e30.eyJpc3MiOjF9.x":                         "",
		"e30.W10.x":                                  "",
		"e30":                                        "",
		"..":                                         "",
		"e30.!.x":                                    "",
		"e30." + strings.Repeat("A", 20<<10) + ".x":        "",
		"e30.eyJpc3MiOiJhIn0eyJpc3MiOiJiIn0.trailing-data": "",
		"e30.e30.x": "",
		// JWT-SVIDs: {"sub":"spiffe://a/b"}, the same with {"iss":"https://c"}, and with other subjects
		"e30.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.x":                           "spiffe://a",
		"e30.eyJpc3MiOiJodHRwczovL2MiLCJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.x":   "https://c spiffe://a",
		"e30.eyJpc3MiOiJodHRwczovL2MiLCJzdWIiOiJ4IHNwaWZmZTovL2EvYiJ9.x": "https://c",
		"e30.eyJzdWIiOiJ4In0.x":                                          "",
	} {
		got, err := claimedIssuers(token)
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%.60s: %q, %v", token, got, err)
		}
	}
}
