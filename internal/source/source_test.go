package source_test

import (
	"strings"
	"testing"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/source"
)

type server struct {
	Listen   string            `yaml:"listen"`
	TTL      api.Duration      `yaml:"ttl"`
	Longest  *api.Duration     `yaml:"longest"`
	Count    int               `yaml:"count"`
	Small    uint8             `yaml:"small"`
	Loud     bool              `yaml:"loud"`
	Names    []string          `yaml:"names"`
	TLS      *tls              `yaml:"tls"`
	Labels   map[string]string `yaml:"labels"`
	Password struct {
		File string `yaml:"file"`
	} `yaml:"password"`
	Any any `yaml:"any"`
}

type tls struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

func decode(text string) (server, error) {
	var s server
	section, err := source.Document("daypass.yaml", text)
	if err != nil {
		return s, err
	}
	return s, section.Decode(&s)
}

func TestARightFileIsReadWhole(t *testing.T) {
	s, err := decode("\ufefflisten: 127.0.0.1:8420\r\nttl: 15m\nlongest: 1h # of all\ncount: -3\nsmall: 200\nloud: true\nnames: [a, \"b\"]\ntls: {certificate: /c, key: /k}\nlabels:\n  a: 'x'\n  b.c/d: y\nany: {x: [1, true, z]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "127.0.0.1:8420" || s.TTL.String() != "15m" || s.Longest.String() != "1h" || s.Count != -3 || s.Small != 200 || !s.Loud ||
		len(s.Names) != 2 || s.TLS.Key != "/k" || s.Labels["b.c/d"] != "y" || len(s.Any.(map[string]any)["x"].([]any)) != 3 {
		t.Errorf("read %+v", s)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "---\n# nothing\n"} {
		if _, err := decode(empty); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestMistakesHaveTheirPlaceAndSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct{ text, place, says, hint string }{
		"an unknown field":             {"lisen: x", "1:1", "lisen", `did you mean "listen"?`},
		"one far from any other":       {"zzzzzz: x", "1:1", "zzzzzz", "fields are any, count"},
		"an unknown field further in":  {"tls:\n  certifcate: x", "2:3", "certifcate", "certificate"},
		"a key given twice":            {"loud: true\ncount: 1\nloud: false", "3:1", "twice", "line 1"},
		"a key given twice in braces":  {"tls: {key: a, key: b}", "1:15", "twice", "line 1"},
		"a number for text":            {"listen: 8420", "1:9", "expected text, found a number", "quotes"},
		"a word of YAML for text":      {"listen: true", "1:9", "expected text", "quotes"},
		"a list for text":              {"listen: [a]", "1:9", "expected text, found a list", ""},
		"text for a list":              {"names: a", "1:8", "expected a list, found text", ""},
		"text for a mapping":           {"tls: on", "1:6", "expected a mapping, found text", ""},
		"text for a number":            {"count: many", "1:8", "whole number", ""},
		"a fraction":                   {"count: 1.5", "1:8", "whole number", ""},
		"an octal number":              {"count: 010", "1:8", "010", "leading 0"},
		"a hexadecimal number":         {"count: 0x10", "1:8", "0x10", "decimal"},
		"a number with an underscore":  {"count: 1_000", "1:8", "1_000", "decimal"},
		"a number out of range":        {"small: 256", "1:8", "out of range", ""},
		"a negative count":             {"small: -1", "1:8", "out of range", ""},
		"yes for true":                 {"loud: yes", "1:7", "true or false", ""},
		"an octal duration":            {"ttl: 010", "1:6", `"010"`, ""},
		"a duration without unit":      {"ttl: 900", "1:6", `"900"`, ""},
		"a field without value":        {"listen:\ncount: 1", "1:8", "no value", "remove the line"},
		"a null":                       {"listen: ~", "1:9", "no value", ""},
		"an anchor":                    {"listen: &a x", "1:9", "anchor", ""},
		"an alias":                     {"listen: *a", "1:9", "alias", ""},
		"a tag":                        {"listen: !!str 1", "1:9", "tag", ""},
		"a merge key":                  {"<<: {listen: a}", "1:1", "merge", ""},
		"a key that is no text":        {"labels: {1: a}", "1:10", "key is text", "quotes"},
		"a list at the top":            {"- a", "1:1", "mapping of fields", ""},
		"text at the top":              {"nothing", "1:1", "mapping of fields", ""},
		"a second document":            {"listen: a\n---\nlisten: b", "3:1", "second document", "---"},
		"text beside a marker":         {"--- {listen: a}", "1:5", "marker", ""},
		"a directive":                  {"%YAML 1.1\n---\nlisten: a", "1:1", "directive", ""},
		"a tab":                        {"tls:\n\tkey: a", "2:1", "tab", "spaces"},
		"two values in a line":         {"listen: a: b", "1:9", "quotes", ""},
		"an open quote":                {"listen: \"a", "1:9", "closed", ""},
		"an open bracket":              {"names: [a", "1:8", "closed", ""},
		"text that is not UTF-8":       {"listen: a\xff", "1:10", "UTF-8", ""},
		"a control character":          {"listen: a\x00", "1:10", "U+0000", ""},
		"text that runs the other way": {"listen: a\u202e", "1:10", "U+202E", ""},
		"a line that some readers see": {"listen: a\u2028count: 1", "1:10", "U+2028", ""},
		"deep brackets":                {"any: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "1:", "too deep", "32"},
		"deep dashes":                  {"any:\n  " + strings.Repeat("- ", 40) + "a", "2:", "too deep", ""},
	} {
		_, err := decode(c.text)
		errs, ok := err.(source.Errors)
		if !ok || len(errs) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(errs[0].Place(), "daypass.yaml:"+c.place) || !strings.Contains(errs[0].Message, c.says) || !strings.Contains(errs[0].Hint, c.hint) || errs[0].Excerpt == "" {
			t.Errorf("%s: want %s, got\n%v", name, c.place, err)
		}
	}
}

func TestAllMistakesOfAFileAreFoundAtOnce(t *testing.T) {
	_, err := decode("lisen: x\ncount: many\nttl: 5\ntls: {kee: 1, key: 2}\nnames: [a, 1, [b]]\n")
	if errs, _ := err.(source.Errors); len(errs) != 7 {
		t.Errorf("found %d:\n%v", len(errs), err)
	}
	_, err = source.Documents("a.yaml", "a: [1\n---\nb: *x\n---\nc: 1\n---\nd: 1\nd: 2\n")
	if errs, _ := err.(source.Errors); len(errs) != 3 || errs[2].Line != 8 {
		t.Errorf("found:\n%v", err)
	}
}

func TestDocumentsKeepTheirLines(t *testing.T) {
	sections, err := source.Documents("a.yaml", "# first\nlisten: a\n---\n\n---\n# second\n\nlisten: b\ntls:\n  key: k\n")
	if err != nil || len(sections) != 2 {
		t.Fatalf("%d sections, %v", len(sections), err)
	}
	for path, want := range map[string]string{"": "a.yaml:8:1", "listen": "a.yaml:8:1", "tls.key": "a.yaml:10:3", "tls.absent": "a.yaml:9:1", "names[0].on": "a.yaml:8:1"} {
		if got := sections[1].PlaceOf(path).String(); got != want {
			t.Errorf("%q is at %s, want %s", path, got, want)
		}
	}
}

func TestOversizedTextIsRefused(t *testing.T) {
	if _, err := source.Document("a.yaml", strings.Repeat("#", source.MaxText+1)); err == nil {
		t.Error("a file of more than the bound was read")
	}
}

func TestSecretsDoNotStandInExcerpts(t *testing.T) {
	const canary = "hunter2hunter2"
	for _, line := range []string{
		"password: " + canary, "Password: \"" + canary + "\"", "tls: {secret_key: " + canary + "}", "labels: [{api-token: " + canary + "}]",
		"listen: postgres://u:" + canary + "@h/db", "x: 1 # postgres://u:" + canary + "@h", "private_key : " + canary,
	} {
		for _, text := range []string{line + "\nunknown: 1", line + "\n" + line, "? " + line, line + " \u202e"} {
			if _, err := decode(text); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func TestAnErrorIsShownWithACaret(t *testing.T) {
	f, err := source.NewFile("a.cedar", "permit\n(\tprincipal, action);")
	if err != nil {
		t.Fatal(err)
	}
	got := f.ErrorAt(9, "this is wrong", "do that").Error()
	want := "a.cedar:2:3: this is wrong\n" +
		"    2 | (\tprincipal, action);\n" +
		"      |  \t^\n" +
		"      hint: do that"
	if got != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
	e := &source.Error{File: "a", Line: 1, Column: 300, Message: "m", Excerpt: strings.Repeat("x", 299) + "!" + strings.Repeat("y", 300)}
	lines := strings.Split(e.Error(), "\n")
	column := len([]rune(lines[2])) - 1
	if []rune(lines[1])[column] != '!' {
		t.Errorf("the caret of a long line is elsewhere:\n%s", e)
	}
	var none source.Errors
	if none.Err() != nil {
		t.Error("no mistakes are an error")
	}
}

func TestNearestSuggestsOnlyWhatIsNear(t *testing.T) {
	names := []string{"orders-readonly", "orders-admin", "billing"}
	for word, want := range map[string]string{"orders-readonl": "orders-readonly", "oredrs-admin": "orders-admin", "x": "", "biling": "billing", strings.Repeat("a", 5000): ""} {
		if got := source.Nearest(word, names); got != want {
			t.Errorf("%.20q: %q", word, got)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: [1, {c: d}]\n", "a: &x\n  - *x\n", "? [a]\n: b", "k: |\n  a\n ---\n", "- - - a", "\"a\n", "a: !!binary x", "{", "a: {b: c,\n", "%YAML\n", "<<: 1", "a:\n\t- b", "a: ''\n...\n", "|", ">-\n x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sections, err := source.Documents("f.yaml", text)
		if errs, ok := err.(source.Errors); ok {
			for _, e := range errs {
				if e.Line > strings.Count(text, "\n")+1 || e.Column < 0 {
					t.Errorf("%s is outside of the text", e.Place())
				}
			}
			_ = err.Error()
		}
		for _, section := range sections {
			var s server
			if err := section.Decode(&s); err != nil {
				_ = err.Error()
			}
			section.PlaceOf("a[0].b")
			var free struct {
				Rest map[string]source.Section `yaml:"*"`
			}
			_ = section.Decode(&free)
			for _, rest := range free.Rest {
				_ = rest.Decode(&s)
			}
		}
	})
}
