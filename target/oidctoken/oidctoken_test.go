package oidctoken_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/oidctoken"
	"github.com/daypass/daypass/target/targettest"
)

func TestManyHoldersHaveOneSubject(t *testing.T) {
	d := newDesk(t)
	for _, repository := range []string{"acme/orders", "acme/billing", "acme/x:y*"} {
		if got := d.subject(rights(t, ""), holder(map[string]any{"repository": repository})); got != "role:deploy" {
			t.Errorf("the subject is %q", got)
		}
	}
}

func TestATemplateTakesValuesOfTheHolder(t *testing.T) {
	d := newDesk(t)
	claims := map[string]any{"repository": "acme/orders", "attempt": int64(2), "protected": true, "kubernetes.io/pod": "a"}
	for template, want := range map[string]string{
		"repo:${claims.repository}":                    "repo:acme%2Forders",
		"ci:${issuer}/${claims.attempt}/${run}":        "ci:github/2/17%2F2",
		"role:${role}:${claims.protected}":             "role:deploy:true",
		"pod:${claims.kubernetes.io/pod}":              "pod:a",
		"who:${subject}":                               "who:repo%3Aacme%2Forders%3Aref%3Arefs%2Fheads%2Fmain",
		"fixed":                                        "fixed",
		"https://ci.example.com/${claims.repository}/": "https://ci.example.com/acme%2Forders/",
	} {
		if got := d.subject(rights(t, template), holder(claims)); got != want {
			t.Errorf("%s: the subject is %q, want %q", template, got, want)
		}
	}
}

// THREAT_MODEL, attacks: no claim passes for another subject.
func TestNoClaimPassesForAnotherSubject(t *testing.T) {
	d := newDesk(t)
	honest := d.subject(rights(t, "repo:${claims.repository}:ref:${claims.ref}"), holder(map[string]any{"repository": "acme/orders", "ref": "main"}))
	for _, evil := range []map[string]any{
		{"repository": "acme/orders:ref:main", "ref": "x"},
		{"repository": "acme/orders", "ref": "main:ref:main"},
		{"repository": "acme%2Forders", "ref": "main"},
		{"repository": "acme/orders\u2215", "ref": "main"},
		{"repository": "*", "ref": "main"},
		{"repository": "acme/?rders", "ref": "main"},
		{"repository": "acme/${role}", "ref": "main"},
		{"repository": "аcme/orders", "ref": "main"}, // a Cyrillic letter
	} {
		got := d.subject(rights(t, "repo:${claims.repository}:ref:${claims.ref}"), holder(evil))
		if got == honest || strings.ContainsAny(got, "*?$/") || strings.Count(got, ":") != 3 {
			t.Errorf("%v became %q", evil, got)
		}
	}
	for _, hidden := range []string{"acme/orders\n", "acme\x00", "acme\u202egro", "ac\u200bme", string([]byte{0xff})} {
		said := d.refusal(rights(t, "repo:${claims.repository}"), holder(map[string]any{"repository": hidden}))
		if strings.Contains(said, "acme") || strings.Contains(said, hidden) {
			t.Errorf("the refusal quotes the claim: %q", said)
		}
	}
}

// THREAT_MODEL, attacks: different values have different subjects.
func TestDifferentValuesHaveDifferentSubjects(t *testing.T) {
	d := newDesk(t)
	role := rights(t, "repo:${claims.a}-:-${claims.b}")
	rapid.Check(t, func(r *rapid.T) {
		part := rapid.StringMatching(`[a:%/\-.*$2F]{1,4}`)
		first := [2]string{part.Draw(r, "a"), part.Draw(r, "b")}
		second := [2]string{part.Draw(r, "c"), part.Draw(r, "d")}
		subject := func(of [2]string) string {
			return d.subject(role, holder(map[string]any{"a": of[0], "b": of[1]}))
		}
		if same := subject(first) == subject(second); same != (first == second) {
			r.Fatalf("%q and %q have the subjects %q and %q", first, second, subject(first), subject(second))
		}
	})
}

func TestWhatAHolderLacksIsRefusedByNameBeforeAnythingIsSigned(t *testing.T) {
	d := newDesk(t)
	for template, name := range map[string]string{
		"repo:${claims.repository}": "claims.repository",
		"of:${claims.empty}":        "claims.empty",
		"of:${claims.list}":         "claims.list",
		"of:${claims.nothing}":      "claims.nothing",
	} {
		said := d.refusal(rights(t, template), holder(map[string]any{"empty": "", "list": []any{"a"}, "nothing": nil}))
		if !strings.Contains(said, "${"+name+"}") {
			t.Errorf("%s: the refusal says %q", template, said)
		}
	}
	said := d.refusal(rights(t, "of:${claims.long}"), holder(map[string]any{"long": strings.Repeat("a", 255)}))
	if !strings.Contains(said, "255") {
		t.Errorf("too long: the refusal says %q", said)
	}
	if len(d.leases) != 0 {
		t.Errorf("%d tokens were signed", len(d.leases))
	}
}

func TestClaimsAreFilledAndKeptApart(t *testing.T) {
	d := newDesk(t)
	text := `{"audience":"sts.example.com","claims":{"repository":"${claims.repository}","both":"a:${claims.repository}","n":7,"ok":true,
		"https://aws.amazon.com/tags":{"principal_tags":{"repository":["${claims.repository}"],"lease":["${lease}"]},"transitive_tag_keys":["repository"]}}}`
	if _, err := d.grant(text, holder(map[string]any{"repository": `acme/orders","sub":"admin`})); err == nil {
		t.Fatal("quotes went into an AWS session tag")
	}
	credential, err := d.grant(text, holder(map[string]any{"repository": "acme/orders"}))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := d.accept(credential, service)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(map[string]any{"repository": claims["repository"], "both": claims["both"], "n": claims["n"], "ok": claims["ok"], "tags": claims["https://aws.amazon.com/tags"]})
	if err != nil {
		t.Fatal(err)
	}
	lease := claims["jti"].(string)[len("dp_abc234_"):]
	want := `{"both":"a:acme%2Forders","n":7,"ok":true,"repository":"acme/orders","tags":{"principal_tags":{"lease":["` + lease + `"],"repository":["acme/orders"]},"transitive_tag_keys":["repository"]}}`
	if string(got) != want {
		t.Errorf("the claims are %s\nwant %s", got, want)
	}
}

// THREAT_MODEL, attacks: what the issuer says of a token is not a claim's to change.
func TestAClaimCannotChangeWhatTheIssuerSays(t *testing.T) {
	d := newDesk(t)
	credential, err := d.grant(`{"audience":"sts.example.com","claims":{"note":"${claims.note}"}}`,
		holder(map[string]any{"note": `x","sub":"role:admin","exp":9999999999,"a":"`, "sub": "role:admin", "aud": "everyone"}))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := d.accept(credential, service)
	if err != nil || claims["sub"] != "role:deploy" || claims["aud"] != service || claims["iss"] != issuerURL {
		t.Errorf("the claims are %v (%v)", claims, err)
	}
}

func TestRightsThatCannotBeMeantAreRefused(t *testing.T) {
	for name, r := range map[string]oidctoken.Rights{
		"audience":      {},
		"algorithm":     {Audience: service, Algorithm: "EdDSA"},
		"claims.sub":    {Audience: service, Claims: map[string]any{"sub": "me"}},
		"claims.cnf":    {Audience: service, Claims: map[string]any{"cnf": map[string]any{}}},
		"claims.a":      {Audience: service, Claims: map[string]any{"a": "${claims.}"}},
		"claims.deep":   {Audience: service, Claims: map[string]any{"deep": []any{[]any{[]any{[]any{"a"}}}}}},
		"claims.number": {Audience: service, Claims: map[string]any{"number": 1.5}},
	} {
		err := r.Validate()
		field, ok := errors.AsType[*target.FieldError](err)
		if !ok || field.Field() != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, subject := range []string{
		"${claims.sub}", "${subject}", "x${run}", "a:${claims.a}${claims.b}", "a:${claims.a}-${claims.b}", "role:${claims.role}",
		"role:a${role}", "role:admin-${claims.a}", "a:${role", "a:${nothing}", "a:\u202e", strings.Repeat("a", 256), "a:${claims.a}%${claims.b}",
	} {
		err := oidctoken.Rights{Audience: service, Subject: subject}.Validate()
		if field, ok := errors.AsType[*target.FieldError](err); !ok || field.Field() != "subject" {
			t.Errorf("subject %q: got %v", subject, err)
		}
	}
}

func TestATokenForOurselvesIsNotSigned(t *testing.T) {
	d := newDesk(t)
	if _, err := d.grant(`{"audience":"`+issuerURL+`"}`, holder(nil)); !errors.Is(err, target.ErrNotDone) {
		t.Errorf("got %v", err)
	}
}

func TestALeaseIsRevokedWhenThoseWhoVerifyHaveNoticed(t *testing.T) {
	d := newDesk(t)
	order := target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(rights(t, "")), TTL: time.Hour}
	if _, err := d.target.Grant(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	expiry := d.clock().Add(time.Hour)
	for _, step := range []time.Duration{0, 59 * time.Minute, 90 * time.Second} {
		d.pass(step)
		unexpired, ok := errors.AsType[*target.UnexpiredError](d.target.Revoke(t.Context(), order.Lease))
		if !ok || !unexpired.Until.Equal(expiry.Add(time.Minute)) {
			t.Fatalf("%s before its end: %v", expiry.Sub(d.clock()), unexpired)
		}
	}
	d.pass(30 * time.Second)
	if err := d.target.Revoke(t.Context(), order.Lease); err != nil {
		t.Errorf("a minute after its end: %v", err)
	}
}

func TestATokenLivesNoLongerThanItsKeyIsPublished(t *testing.T) {
	d := newDesk(t)
	_, err := d.target.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(rights(t, "")), TTL: oidctoken.MaxTTL + time.Second})
	if _, ok := errors.AsType[*target.RefusalError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestNoRoleIsDaypassItself(t *testing.T) {
	for _, subject := range []string{"daypass:target:aws", "daypass:lease:${claims.repository}", "daypass:${role}"} {
		if err := (oidctoken.Rights{Audience: service, Subject: subject}).Validate(); err == nil {
			t.Errorf("a role may be %q", subject)
		}
	}
	if err := (oidctoken.Rights{Audience: service, Subject: "repo:daypass:${claims.repository}"}).Validate(); err != nil {
		t.Errorf("a subject that only holds the word: %v", err)
	}
}

func TestATokenSaysWhoActsForItsHolder(t *testing.T) {
	d := newDesk(t)
	who := holder(nil)
	said := func() any {
		t.Helper()
		credential, err := d.grant(rights(t, ""), who)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := d.accept(credential, service)
		if err != nil {
			t.Fatal(err)
		}
		return claims["act"]
	}
	if act := said(); act != nil {
		t.Errorf("nobody acts, and the token says %v", act)
	}
	who.Actors = []target.Actor{{IssuerURL: "https://ci.example", Subject: `gate"way`}, {IssuerURL: "https://edge.example"}, {IssuerURL: "https://ci.example", Subject: "first"}}
	want := map[string]any{"iss": "https://ci.example", "sub": `gate"way`, "act": map[string]any{
		"iss": "https://edge.example", "act": map[string]any{"iss": "https://ci.example", "sub": "first"}}}
	if act := said(); !reflect.DeepEqual(act, want) {
		t.Errorf("the token says %v, want %v", act, want)
	}
	who.Actors[2].Subject = "gate\u202eway"
	if text := d.refusal(rights(t, ""), who); strings.Contains(text, "gate") {
		t.Errorf("the refusal quotes the name: %q", text)
	}
}
