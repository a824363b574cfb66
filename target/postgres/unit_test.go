package postgres_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/postgres"
)

func TestTheVerifierIsThatOfTheRFC(t *testing.T) {
	// The password and salt of RFC 7677, section 3.
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got, err := postgres.SaltedVerifier("pencil", salt, 4096); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestURLsAreReadByAnAllowList(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://daypass@db:5432/orders":                                                                                   "",
		"postgres://daypass@db/orders?sslmode=verify-ca;channel_binding=require":                                              "cannot be read",
		"postgres://daypass@db/orders?sslmode=verify-ca&require_auth=scram-sha-256&connect_timeout=3&channel_binding=require": "",
		"postgres://daypass@/orders?host=/run/postgresql":                                                                     "",
		"postgres://daypass@/orders?host=/run/postgresql&sslmode=disable":                                                     "",
		"postgres://daypass@127.0.0.1/orders?sslmode=disable":                                                                 "",
		"postgres://daypass@[::1]:5433/orders?sslmode=require":                                                                "",
		"postgres://daypass@localhost/orders?sslmode=disable":                                                                 "",
		"postgres://daypass@db/orders?sslmode=disable":                                                                        "verify-full",
		"postgres://daypass@db/orders?sslmode=require":                                                                        "verify-full",
		"postgres://daypass@10.0.0.1/orders?sslmode=disable":                                                                  "verify-full",
		"postgres://daypass@localhost.example.com/orders?sslmode=disable":                                                     "verify-full",
		"postgres://daypass@db/orders?sslmode=allow":                                                                          "verify-full",
		"postgres://daypass@127.0.0.1/orders?require_auth=password":                                                           "scram-sha-256",
		"postgres://daypass@127.0.0.1/orders?require_auth=md5":                                                                "scram-sha-256",
		"postgres://daypass@127.0.0.1/orders?require_auth=none":                                                               "scram-sha-256",
		"postgres://daypass@127.0.0.1/orders?require_auth=":                                                                   "scram-sha-256",
		"postgres://daypass:hunter2@db/orders":                                                                                "password",
		"postgres://db/orders":                                                                                                "login",
		"postgres://daypass@db":                                                                                               "database",
		"postgres://daypass@db,other/orders":                                                                                  "one host",
		"postgres://daypass@db:0/orders":                                                                                      "port",
		"mysql://daypass@db/orders":                                                                                           "want postgres://",
		"postgres://daypass@db/orders?sslmode=prefer":                                                                         "sslmode",
		"postgres://daypass@db/orders?servicefile=/x":                                                                         "servicefile",
		"postgres://daypass@db/orders?passfile=/x":                                                                            "passfile",
		"postgres://daypass@db/orders?sslrootcert=/x":                                                                         "sslrootcert",
		"postgres://daypass@db/orders?options=-crole%3Dx":                                                                     "options",
		"postgres://daypass@db/orders?host=other":                                                                             "socket",
		"postgres://daypass@db/orders?sslmode=disable&sslmode=verify-full":                                                    "twice",
		"postgres://daypass@db:hunter2/orders":                                                                                "",
	} {
		err := postgres.Settings{URL: text}.Validate()
		if strings.Contains(text, ":hunter2/") {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a password in the place of the port: %v", err)
			}
			continue
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
		if at, named := errors.AsType[*target.FieldError](err); err != nil && (!named || at.Field() != "url") {
			t.Errorf("%s: the error does not name its field: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds the password: %v", text, err)
		}
	}
}

func TestMistakesInRightsNameTheirField(t *testing.T) {
	for text, field := range map[string]string{
		`{}`: "grants",
		`{"grants":[{"on":"views","privileges":["SELECT"]}]}`:                                                "grants[0].on",
		`{"grants":[{"on":"tables","privileges":["SELECT"]}]}`:                                               "grants[0].schema[0]",
		`{"grants":[{"on":"tables","schema":"public"}]}`:                                                     "grants[0].privileges",
		`{"grants":[{"on":"tables","schema":"public","privileges":["SELECT; drop role x"]}]}`:                "grants[0].privileges[0]",
		`{"grants":[{"on":"tables","schema":"public","privileges":["SELECT"],"names":["a"],"future":true}]}`: "grants[0].future",
		`{"grants":[{"on":"tables","schema":"public","privileges":["SELECT"],"creators":["a"]}]}`:            "grants[0].creators",
		`{"grants":[{"on":"database","schema":"public","privileges":["CONNECT"]}]}`:                          "grants[0].schema",
		`{"grants":[{"on":"schema","schema":"public","privileges":["USAGE"],"names":["a"]}]}`:                "grants[0]",
		`{"in_role":["` + strings.Repeat("x", 64) + `"]}`:                                                    "in_role[0]",
		`{"in_role":["a"],"connection_limit":-1}`:                                                            "connection_limit",
		`{"in_role":["a"],"scram_iterations":-1}`:                                                            "scram_iterations",
		`{"in_role":["a"],"search_path":[""]}`:                                                               "search_path[0]",
	} {
		var rights postgres.Rights
		if err := json.Unmarshal([]byte(text), &rights); err != nil {
			t.Fatal(err)
		}
		wrong, ok := errors.AsType[*target.FieldError](rights.Validate())
		if !ok || wrong.Field() != field {
			t.Errorf("%s: got %v, want field %s", text, rights.Validate(), field)
		}
	}
}

// A password that was made ahead belongs to its verifier, and nobody gets one twice.
func TestPasswordsMadeAheadAreGivenOutOnce(t *testing.T) {
	texts, verifiers, err := postgres.Passwords(3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, text := range texts {
		_, rest, _ := strings.Cut(verifiers[i], ":")
		encoded, _, _ := strings.Cut(rest, "$")
		salt, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := postgres.SaltedVerifier(text.Reveal(), salt, 4096); err != nil || want != verifiers[i] {
			t.Errorf("password %d does not belong to its verifier: %v", i, err)
		}
		if seen[text.Reveal()] {
			t.Errorf("password %d was given out before", i)
		}
		seen[text.Reveal()] = true
	}
}

func FuzzParseRights(f *testing.F) {
	f.Add([]byte(readers))
	f.Add([]byte(`{"grants":[{"privileges":["USAGE"],"on":"schema","schema":"a\"b"}],"owner":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		rights, err := postgres.ParseRights(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(rights)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := postgres.ParseRights(again); err != nil {
			t.Errorf("rights that were accepted do not read back: %v in %s", err, again)
		}
	})
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	good := postgres.Config{Instance: "abc234", Settings: postgres.Settings{URL: "postgres://daypass@db/orders"}, Mark: target.Mark{Target: "x"}}
	for name, spoil := range map[string]func(*postgres.Config){
		"no instance":        func(c *postgres.Config) { c.Instance = "" },
		"a long instance":    func(c *postgres.Config) { c.Instance = "abcdefg" },
		"a quoting instance": func(c *postgres.Config) { c.Instance = `ab"cd` },
		"no mark":            func(c *postgres.Config) { c.Mark.Target = "" },
		"a foreign mark":     func(c *postgres.Config) { c.Mark.Instance = "other2" },
		"a bad ca":           func(c *postgres.Config) { c.CA = "not a certificate" },
		"a bad client":       func(c *postgres.Config) { c.Client.SSLMode = "sometimes" },
	} {
		config := good
		spoil(&config)
		if p, err := postgres.New(t.Context(), config); err == nil {
			p.Close()
			t.Errorf("%s was taken", name)
		}
	}
}
