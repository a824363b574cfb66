package access_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/source"
)

type settings struct {
	URL      string `yaml:"url" json:"url"`
	Password struct {
		File string `yaml:"file" json:"file"`
	} `yaml:"password" json:"password"`
}

type rights struct {
	Grants []grant  `yaml:"grants" json:"grants,omitempty"`
	InRole []string `yaml:"in_role" json:"in_role,omitempty"`
}

type grant struct {
	Privileges []string `yaml:"privileges" json:"privileges"`
	On         string   `yaml:"on" json:"on"`
	Schema     string   `yaml:"schema" json:"schema"`
	Future     bool     `yaml:"future" json:"future"`
}

type fieldError struct{ field, text string }

func (e fieldError) Error() string { return e.text }
func (e fieldError) Field() string { return e.field }

func (r rights) Validate() error {
	var wrong []error
	for i, g := range r.Grants {
		if g.On != "tables" {
			wrong = append(wrong, fmt.Errorf("rights: %w", fieldError{fmt.Sprintf("grants[%d].on", i), "rights are on tables"}))
		}
	}
	return errors.Join(wrong...)
}

type client struct {
	Host string `yaml:"host" json:"host"`
	Port int    `yaml:"port" json:"port"`
	Mode string `yaml:"sslmode" json:"sslmode,omitempty"`
	CA   struct {
		File string `yaml:"file" json:"file"`
	} `yaml:"ca" json:"ca"`
}

func kinds() access.Kinds {
	return access.Kinds{
		Targets: map[string]access.Kind{
			"postgres": {
				Settings: func(s access.Section) (any, error) { var v settings; err := s.Decode(&v); return v, err },
				Client:   func(s access.Section) (any, error) { var v client; err := s.Decode(&v); return v, err },
				Rights:   func(s access.Section) (any, error) { var v rights; err := s.Decode(&v); return v, err },
			},
			"ssh": {Settings: func(s access.Section) (any, error) { var v struct{}; err := s.Decode(&v); return v, err }},
		},
		Issuers: map[string]access.IssuerKind{
			"badge": {
				Settings:   func(s access.Section) (any, error) { var v badge; err := s.Decode(&v); return v, err },
				Vocabulary: "github-actions",
			},
		},
	}
}

// badge is a kind of issuer beside oidc.
type badge struct {
	Office string `yaml:"office" json:"office"`
}

func (b badge) URL(issuer string) string { return "urn:badge:" + issuer + ":" + b.Office }

func (b badge) Validate() error {
	if b.Office == "" {
		return errors.New("the badge has no office")
	}
	return nil
}

func TestAnIssuerOfAnotherKindIsReadByItsKind(t *testing.T) {
	cfg, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\nbadge: {office: berlin}\n"}, kinds())
	if err != nil {
		t.Fatal(err)
	}
	i := cfg.Issuers["i"]
	if i.Kind != "badge" || i.URL != "urn:badge:i:berlin" || string(i.Settings) != `{"office":"berlin"}` || i.Type != "GitHub::Workload" || len(i.Run) == 0 {
		t.Errorf("%+v", i)
	}
	for text, want := range map[string]string{
		"badge: {}":         "no office",
		"badge: {ofice: x}": "ofice",
		"badge: {office: x}\noidc: {url: 'https://i.example'}": "one kind",
		"badge: {office: x}\npreset: github-actions":           "no preset",
		"badge: {office: x}\nclaims: {a: string}":              "no claims",
		"bagde: {office: x}":                                   "bagde",
	} {
		if _, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\n" + text + "\n"}, kinds()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

const example = `
kind: Issuer
name: github
preset: github-actions
oidc: {url: https://token.actions.githubusercontent.com}
---
kind: Target
name: orders-db
postgres: {url: postgres://daypass@db.internal:5432/orders?sslmode=verify-full, password: {file: orders-db}}
client: {host: db.example.com, port: 5432, sslmode: verify-full, ca: {file: db-ca.pem}}
---
kind: Role
name: orders-readonly
target: orders-db
ttl: {default: 15m, max: 1h, over: clamp}
limits: {live: 500, per_principal: 5}
labels: {env: production}
postgres:
  grants: [{privileges: [SELECT], on: tables, schema: public, future: true}]
  # in_role: [app_ro]
`

func TestTheExampleOfTheDesignIsReadWhole(t *testing.T) {
	cfg, err := access.Parse(access.Files{"access.yaml": example, "sub/a.cedar": "permit (principal, action, resource);"}, kinds())
	if err != nil {
		t.Fatal(err)
	}
	issuer, target, role := cfg.Issuers["github"], cfg.Targets["orders-db"], cfg.Roles["orders-readonly"]
	if issuer.OIDC.URL != "https://token.actions.githubusercontent.com" || issuer.Type != "GitHub::Workload" || issuer.Claims["repository_id"].String() != "string" || issuer.Claims["environment"].String() != "string?" {
		t.Errorf("issuer %+v", issuer)
	}
	if target.Kind != "postgres" || string(target.Client) != `{"ca":{"file":"db-ca.pem"},"host":"db.example.com","port":5432,"sslmode":"verify-full"}` {
		t.Errorf("target %+v, client %s", target, target.Client)
	}
	if role.TTL != (access.TTL{Default: 15 * time.Minute, Max: time.Hour, Over: access.Clamp}) || role.Limits != (access.Limits{Live: 500, PerPrincipal: 5}) ||
		role.Labels["env"] != "production" || role.Renew != access.Evidence || role.Target != "orders-db" ||
		string(role.Rights) != `{"grants":[{"future":true,"on":"tables","privileges":["SELECT"],"schema":"public"}]}` {
		t.Errorf("role %+v, rights %s", role, role.Rights)
	}
	if len(cfg.Policies) != 1 || cfg.Policies[0].Path != "sub/a.cedar" || len(cfg.Hash) != 64 {
		t.Errorf("policies %+v, hash %s", cfg.Policies, cfg.Hash)
	}
	if role.Place.String() != "access.yaml:13:1" {
		t.Errorf("the role is at %s", role.Place)
	}
}

func TestTheHashIsOfPathsAndTextsAlone(t *testing.T) {
	base := access.Hash(access.Files{"a": "b", "c": "d"})
	if base != access.Hash(access.Files{"c": "d", "a": "b"}) {
		t.Error("the order counts")
	}
	for _, other := range []access.Files{{"a": "bc", "": "d"}, {"ab": "", "c": "d"}, {"a": "b", "c": "d", "e": ""}, {"a": "b"}, {}, {"a": "b", "c": "d "}} {
		if access.Hash(other) == base {
			t.Errorf("%v has the same hash", other)
		}
	}
	// Revisions live in stores and ledgers: their hash must never change by accident.
	if want := "e58052d28eef1e9c"; !strings.HasPrefix(base, want) {
		t.Errorf("the hash is now %s", base)
	}
}

const (
	head = "kind: Target\nname: db\npostgres: {url: x}\n---\n"
	role = "kind: Role\nname: r\ntarget: db\npostgres: {}\n"
)

func TestMistakesHaveTheirPlaceAndSayWhatToDo(t *testing.T) {
	issuer := "kind: Issuer\nname: i\n"
	for name, c := range map[string]struct{ text, place, says, hint string }{
		"no kind":                         {"name: x", "1:1", "no kind", "kind: Issuer"},
		"an unknown kind":                 {"kind: Rolle\nname: x", "1:1", "Rolle", `"Role"`},
		"an unknown field":                {head + role + "lables: {}", "9:1", "lables", `"labels"`},
		"an unknown field of an issuer":   {issuer + "odic: {}", "3:1", "odic", `"oidc"`},
		"an unknown field of a target":    {"kind: Target\nname: t\npostgress: {}", "3:1", "postgress", `"postgres"`},
		"no name":                         {"kind: Issuer\noidc: {url: https://a.example}", "1:1", "no name", ""},
		"a name with capitals":            {"kind: Issuer\nname: GitHub\noidc: {url: https://a.example}", "2:1", "GitHub", "a-z"},
		"a name with a colon":             {"kind: Issuer\nname: 'gh:a'\noidc: {url: https://a.example}", "2:1", "gh:a", ""},
		"an overlong name":                {"kind: Issuer\nname: " + strings.Repeat("a", 41) + "\noidc: {url: https://a.example}", "2:1", "name", "40"},
		"two of one name":                 {head + head, "6:1", "twice", "a.yaml:2:1"},
		"a target that does not exist":    {head + "kind: Role\nname: r\ntarget: bd\npostgres: {}", "7:1", `"bd"`, `"db"`},
		"no target":                       {"kind: Role\nname: r", "1:1", "no target", ""},
		"a target without kind":           {"kind: Target\nname: t", "1:1", "section", "postgres, ssh"},
		"a target of two kinds":           {"kind: Target\nname: t\npostgres: {}\nssh: {}", "4:1", "one kind", ""},
		"client where there is none":      {"kind: Target\nname: t\nssh: {}\nclient: {host: a}", "4:1", "no client", "remove"},
		"a mistake in client":             {"kind: Target\nname: t\npostgres: {}\nclient: {hsot: a}", "4:10", "hsot", `"host"`},
		"rights of another kind":          {head + "kind: Role\nname: r\ntarget: db\nssh: {}", "8:1", "does not fit", "postgres"},
		"no rights":                       {head + "kind: Role\nname: r\ntarget: db", "5:1", "rights", "postgres"},
		"rights where there are none":     {"kind: Target\nname: t\nssh: {}\n---\nkind: Role\nname: r\ntarget: t\nssh: {}", "8:1", "no section", ""},
		"a mistake that the kind finds":   {head + "kind: Role\nname: r\ntarget: db\npostgres:\n  grants:\n  - {privileges: [a], on: tables}\n  - {on: views}", "11:6", "tables", ""},
		"a wrong type in a section":       {"kind: Target\nname: t\npostgres: {url: [a]}", "3:17", "postgres.url: expected text", ""},
		"an empty section":                {"kind: Target\nname: t\npostgres:", "3:", "postgres has no value", ""},
		"a default over the maximum":      {head + role + "ttl: {default: 2h, max: 1h}", "9:7", "2h", "max"},
		"no time":                         {head + role + "ttl: {default: 0s}", "9:7", "no time", ""},
		"an octal time":                   {head + role + "ttl: {default: 010}", "9:16", `"010"`, ""},
		"over what":                       {head + role + "ttl: {over: ignore}", "9:7", "ignore", "clamp"},
		"a limit of nothing":              {head + role + "limits: {live: 0}", "9:10", "limit", "lock"},
		"renew what":                      {head + role + "renew: never", "9:1", "never", "handle"},
		"share with whom":                 {head + role + "share: everybody", "9:1", "everybody", "run"},
		"share as a switch":               {head + role + "share: true", "9:8", "expected text", ""},
		"a label that is a number":        {head + role + "labels: {v: 1}", "9:13", "expected text", "quotes"},
		"a preset that does not exist":    {issuer + "preset: github", "3:1", "github", "github-actions"},
		"a host of look-alike letters":    {issuer + "oidc: {url: https://gіthub.example}", "3:8", "ASCII", "xn--"},
		"another platform's issuer":       {issuer + "preset: github-actions\noidc: {url: https://gitlab.com}", "4:8", "no issuer of GitHub", "_services/token"},
		"a preset that has no URL":        {issuer + "preset: circleci", "1:1", "no URL", "oidc"},
		"an audience that is not for us":  {issuer + "preset: spacelift\noidc: {url: https://acme.app.spacelift.io}", "4:1", "audience", "ACCOUNT"},
		"a preset with a claim it has":    {issuer + "preset: github-actions\nclaims: {repository: string}", "4:10", "already", "remove"},
		"a claim of unknown type":         {issuer + "oidc: {url: https://a.example}\nclaims: {a: int}", "4:13", "int", ""},
		"a claim that Cedar keeps":        {issuer + "oidc: {url: https://a.example}\nclaims: {__entity: string}", "4:10", "reserved", ""},
		"no URL":                          {issuer + "oidc: {}", "3:1", "no URL", "oidc"},
		"plain http":                      {issuer + "oidc: {url: http://a.example}", "3:8", "loopback", "https"},
		"another scheme":                  {issuer + "oidc: {url: ftp://a.example}", "3:8", "ftp", ""},
		"a query":                         {issuer + "oidc: {url: 'https://a.example/?'}", "3:8", "query", ""},
		"a fragment":                      {issuer + "oidc: {url: 'https://a.example/#'}", "3:8", "fragment", ""},
		"a user":                          {issuer + "oidc: {url: https://u@a.example/}", "3:8", "user", ""},
		"no host":                         {issuer + "oidc: {url: 'https:///x'}", "3:8", "host", ""},
		"a name that looks like loopback": {issuer + "oidc: {url: http://127.0.0.1.evil.example}", "3:8", "loopback", ""},
		"two issuers of one URL":          {issuer + "oidc: {url: https://a.example}\n---\nkind: Issuer\nname: j\noidc: {url: https://a.example}", "6:1", "same URL", "a.yaml:2:1"},
		"an audience that does not show":  {issuer + "oidc: {url: https://a.example, audience: \"a\\u0000\"}", "3:32", "audience", ""},
	} {
		_, err := access.Parse(access.Files{"a.yaml": c.text}, kinds())
		errs, ok := err.(source.Errors)
		if !ok || len(errs) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := false
		for _, e := range errs {
			found = found || strings.HasPrefix(e.Place(), "a.yaml:"+c.place) && strings.Contains(e.Message, c.says) && strings.Contains(e.Hint, c.hint)
		}
		if !found || len(errs) > 1 {
			t.Errorf("%s: want %s alone, got\n%v", name, c.place, err)
		}
	}
}

func TestIssuerURLsAreKeptExactly(t *testing.T) {
	for _, url := range []string{"https://a.example", "https://a.example/", "https://A.example:443/x//y/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/"} {
		cfg, err := access.Parse(access.Files{"a.yaml": "kind: Issuer\nname: i\noidc: {url: '" + url + "'}\n"}, kinds())
		if err != nil || cfg.Issuers["i"].OIDC.URL != url {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestARoleThatSaysNothingGetsTheUsual(t *testing.T) {
	for text, want := range map[string]access.TTL{
		"":                       {Default: 15 * time.Minute, Max: time.Hour, Over: access.Clamp},
		"ttl: {max: 5m}":         {Default: 5 * time.Minute, Max: 5 * time.Minute, Over: access.Clamp},
		"ttl: {default: 2h}":     {Default: 2 * time.Hour, Max: 2 * time.Hour, Over: access.Clamp},
		"ttl: {over: refuse}":    {Default: 15 * time.Minute, Max: time.Hour, Over: access.Refuse},
		"renew: handle\nttl: {}": {Default: 15 * time.Minute, Max: time.Hour, Over: access.Clamp},
	} {
		cfg, err := access.Parse(access.Files{"a.yaml": head + role + text}, kinds())
		if err != nil || cfg.Roles["r"].TTL != want {
			t.Errorf("%s: %v, %v", text, cfg, err)
		}
	}
}

func TestARoleIsSharedOnlyWhereItSaysSo(t *testing.T) {
	for text, want := range map[string]access.Share{"": access.ShareNone, "share: run": access.ShareRun} {
		cfg, err := access.Parse(access.Files{"a.yaml": head + role + text}, kinds())
		if err != nil || cfg.Roles["r"].Share != want {
			t.Errorf("%q: %v, %v", text, cfg, err)
		}
	}
}

func TestPathsThatLeadElsewhereAreRefused(t *testing.T) {
	for _, path := range []string{"/etc/a.yaml", "../a.yaml", "a/../../b.yaml", "./a.yaml", "a//b.yaml", "", ".", "a\\b.yaml", "C:a.yaml", "a\x00.yaml", "a\n.yaml", "a.yml", "a.txt", "a\u202e.yaml", strings.Repeat("a", 300) + ".yaml"} {
		if _, err := access.Parse(access.Files{path: ""}, kinds()); err == nil || strings.Contains(err.Error(), "\x00") {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestDuplicatesAcrossFilesNameBothPlaces(t *testing.T) {
	_, err := access.Parse(access.Files{"a.yaml": head + role, "b.yaml": role}, kinds())
	errs, _ := err.(source.Errors)
	if len(errs) != 1 || errs[0].Place() != "b.yaml:2:1" || !strings.Contains(errs[0].Hint, "a.yaml:6:1") {
		t.Errorf("got %v", err)
	}
}

func TestAllMistakesOfADirectoryAreFoundAtOnce(t *testing.T) {
	_, err := access.Parse(access.Files{
		"a.yaml": head + "kind: Role\nname: one\ntarget: nowhere\npostgres: {}\n---\nkind: Role\nname: two\ntarget: db\npostgres: {gants: []}\n",
		"b.yaml": "kind: Issuer\nname: x\noidc: {url: http://a.example}\n---\nbroken: [\n---\nkind: Issuer\nname: x\npreset: no\n",
		"c.yml":  "",
	}, kinds())
	if errs, _ := err.(source.Errors); len(errs) != 7 {
		t.Errorf("found %d:\n%v", len(errs), err)
	}
}

func TestAnUnknownFieldIsFoundBesideAnUnknownTarget(t *testing.T) {
	_, err := access.Parse(access.Files{"a.yaml": "kind: Role\nname: r\ntarget: nowhere\nlables: {a: b}\npostgres: {}\n"}, kinds())
	if errs, _ := err.(source.Errors); len(errs) != 2 {
		t.Errorf("got\n%v", err)
	}
}

func TestMistakesOfATargetAreNotToldAgainAtItsRoles(t *testing.T) {
	_, err := access.Parse(access.Files{"a.yaml": "kind: Target\nname: db\npostgres: {utl: x}\n---\n" + role}, kinds())
	if errs, _ := err.(source.Errors); len(errs) != 1 {
		t.Errorf("got\n%v", err)
	}
}

func TestClaimTypesAreReadAndWritten(t *testing.T) {
	for _, text := range []string{"string", "string?", "bool", "long?", "set<string>", "set<string>?"} {
		if c, err := access.ParseClaimType(text); err != nil || c.String() != text {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "?", "String", "string??", "set<long>", " string"} {
		if _, err := access.ParseClaimType(text); err == nil {
			t.Errorf("%q is a type", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a.yaml", example)
	f.Add("a.yaml", head+role+"ttl: {default: 010}\nlimits: {live: -1}\n")
	f.Add("../x", "kind: Issuer\nname: [x]\nclaims: {a: {}}\n---\nkind: ~\n")
	f.Add("a.cedar", "permit")
	f.Fuzz(func(t *testing.T, path, text string) {
		cfg, err := access.Parse(access.Files{path: text, "b.yaml": example}, kinds())
		if err != nil {
			if errs, ok := err.(source.Errors); !ok || len(errs) == 0 || cfg != nil {
				t.Fatalf("%v, %v", cfg, err)
			}
			_ = err.Error()
			return
		}
		for name, role := range cfg.Roles {
			if _, ok := cfg.Targets[role.Target]; !ok || role.TTL.Default > role.TTL.Max || role.TTL.Default <= 0 || !access.ValidName(name) {
				t.Errorf("a role that cannot be: %+v", role)
			}
		}
	})
}
