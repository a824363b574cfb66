package kind_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/kind"
	"github.com/daypass/daypass/internal/secretdir"
)

// What is made anew, and what stays over revisions with its connections and keys, is told by fingerprints.
func TestAThingIsTheSameWhileItsSectionsAndFilesAre(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "password"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secrets, postgres := secretdir.New(dir), kind.All(kind.Allowed{}).Targets["postgres"]
	print := func(settings string) string {
		t.Helper()
		made, err := postgres.Fingerprint(access.Target{Name: "db", Kind: "postgres", Settings: json.RawMessage(settings)}, secrets)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	const settings = `{"host": "db.example.com", "password": {"file": "password"}}`
	write("one")
	before := print(settings)
	if print(settings) != before {
		t.Error("the same settings and file are not the same target")
	}
	if print(`{"host": "other.example.com", "password": {"file": "password"}}`) == before {
		t.Error("another host is the same target")
	}
	write("two")
	if print(settings) == before {
		t.Error("another password is the same target")
	}
	if err := os.Remove(filepath.Join(dir, "password")); err != nil {
		t.Fatal(err)
	}
	if made, err := postgres.Fingerprint(access.Target{Settings: json.RawMessage(settings)}, secrets); err == nil {
		t.Errorf("a target without its password has the fingerprint %x", made)
	}
}

// An issuer or target of a kind that access files may name can be made: there is a row for each.
func TestEveryKindSaysHowFilesWriteIt(t *testing.T) {
	all := kind.All(kind.Allowed{})
	known := all.Access()
	for name, k := range known.Targets {
		if k.Settings == nil || k.Rights == nil {
			t.Errorf("targets of kind %s: their sections are not read", name)
		}
	}
	for name, k := range known.Issuers {
		if k.Settings == nil || k.Vocabulary == "" {
			t.Errorf("issuers of kind %s: their section is not read, or nothing says what their principals carry", name)
		}
	}
	if _, there := known.Issuers[access.KindOIDC]; there || len(known.Issuers) != len(all.Issuers)-1 {
		t.Error("oidc is written without a section of its kind")
	}
}
