package deploy_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one line of a Containerfile.
type instruction struct {
	name string
	args []string
}

// stage is one image that a Containerfile makes.
type stage struct {
	from, name   string
	instructions []instruction
}

func stages(t *testing.T, file string) []stage {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
	var all []stage
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0][0] == '#':
		case !slices.Contains(known, words[0]):
			t.Errorf("%s: %s is not an instruction that this test knows", file, words[0])
		case words[0] == "FROM":
			s := stage{from: words[1]}
			if len(words) == 4 && words[2] == "AS" {
				s.name = words[3]
			}
			all = append(all, s)
		case len(all) == 0:
			t.Errorf("%s: %s comes before FROM", file, words[0])
		default:
			last := &all[len(all)-1]
			last.instructions = append(last.instructions, instruction{words[0], words[1:]})
		}
	}
	return all
}

// only returns the arguments of the one instruction of a name.
func (s stage) only(t *testing.T, name string) []string {
	t.Helper()
	var found [][]string
	for _, i := range s.instructions {
		if i.name == name {
			found = append(found, i.args)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the image has %d times %s: want once", len(found), name)
	}
	return found[0]
}

func TestTheImageIsMadeOfWhatThereIsAndRunsAsNobody(t *testing.T) {
	t.Log("the image is not built here: that takes a container engine and the registries of its bases")
	all := stages(t, "container/Containerfile")
	if len(all) != 2 || all[0].name != "build" {
		t.Fatalf("the stages are %+v", all)
	}
	build, image := all[0], all[1]
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(gomod))[1]
	if !strings.Contains(build.from, "golang:"+version+"-") {
		t.Errorf("go.mod wants Go %s, and the image is built with %s", version, build.from)
	}
	if !strings.Contains(image.from, "distroless/static") || !strings.HasSuffix(image.from, ":nonroot") {
		t.Errorf("the image stands on %s", image.from)
	}
	for _, i := range build.instructions {
		if i.name != "COPY" {
			continue
		}
		for _, source := range i.args[:len(i.args)-1] {
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("COPY %s: %v", source, err)
			}
		}
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(makefile), "\nbuild:\n\t$(GOBUILD) -o bin/daypass ") || !strings.Contains(string(makefile), "CGO_ENABLED=0") {
		t.Error("make build does not make a static bin/daypass, which the image takes")
	}
	var copied []string
	for _, i := range image.instructions {
		switch i.name {
		case "RUN":
			t.Error("RUN in an image without a shell")
		case "COPY":
			if i.args[0] != "--from=build" {
				t.Errorf("COPY %v takes from outside of the build", i.args)
			}
			copied = append(copied, i.args[len(i.args)-1])
		}
	}
	if user := image.only(t, "USER")[0]; user != "65532:65532" {
		t.Errorf("it runs as %s: want a number, so that runAsNonRoot can tell", user)
	}
	var entry []string
	if err := json.Unmarshal([]byte(strings.Join(image.only(t, "ENTRYPOINT"), " ")), &entry); err != nil {
		t.Fatal(err)
	}
	if len(entry) != 1 || !slices.Contains(copied, entry[0]) || image.only(t, "ENV")[0] != "PATH="+path.Dir(entry[0]) {
		t.Errorf("it starts %v, and copies %v", entry, copied)
	}
	for _, directory := range []string{"/var/lib/daypass", "/run/daypass"} {
		if !slices.Contains(copied, directory) {
			t.Errorf("the image lacks %s", directory)
		}
	}
}
