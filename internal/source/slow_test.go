package source_test

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/source"
)

func TestHugeFilesAreReadOrRefusedQuickly(t *testing.T) {
	size := source.MaxText - 10
	for name, text := range map[string]string{
		"one long text":    "a: " + strings.Repeat("x", size-3),
		"one long quote":   "a: \"" + strings.Repeat("x", size-5),
		"escapes":          "a: \"" + strings.Repeat("\\n", size/2-5) + "\"",
		"brackets":         "a: " + strings.Repeat("[", size-3),
		"braces":           strings.Repeat("{a: ", size/4),
		"dashes":           strings.Repeat("- ", size/2),
		"commas":           "a: [" + strings.Repeat("a,", size/2-4) + "]",
		"lines":            strings.Repeat("a\n", size/2),
		"fields":           strings.Repeat("a: b\n", size/5),
		"colons":           strings.Repeat("a:", size/2),
		"comments":         strings.Repeat("#\n", size/2),
		"documents":        strings.Repeat("---\n", size/4),
		"markers in a row": strings.Repeat("a: b\n---\n", size/9),
		"anchors":          strings.Repeat("&a ", size/3),
		"tags":             strings.Repeat("!a ", size/3),
		"questions":        strings.Repeat("? ", size/2),
		"a literal":        "a: |\n" + strings.Repeat("  x\n", size/4-4),
		"folded":           "a: >\n" + strings.Repeat("  x\n", size/4-4),
		"blank lines":      "a: b" + strings.Repeat("\n", size-5),
		"spaces":           "a: " + strings.Repeat(" ", size-5) + "b",
		"tabs":             "a: " + strings.Repeat("\t", size-5) + "b",
		"plain lines":      "a: b\n" + strings.Repeat("  c\n", size/4-4),
		"steps":            steps(1000),
		"fields at most":   strings.Repeat("a: b\n", 4900),
		"entries at most":  "a: [" + strings.Repeat("a,", 7000) + "]",
	} {
		start := time.Now()
		sections, err := source.Documents("a.yaml", text)
		for _, section := range sections {
			var s server
			_ = section.Decode(&s)
		}
		_ = err
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		} else if took > time.Second {
			t.Logf("%s: took %s", name, took)
		}
	}
}

// steps nests n mappings, one line each.
func steps(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return text.String()
}
