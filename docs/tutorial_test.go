package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// command is one command of a tutorial, and what the page says that it prints.
type command struct {
	text, want string
	line       int // of the page
}

// block is one fenced block of a page, without its indentation.
type block struct {
	language, text string
	line           int    // of the page, where the fence opens
	after          string // what the page says below it
}

var fenced = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```")

// blocks reads the fenced blocks of a page.
func blocks(page string) []block {
	var all []block
	for _, at := range fenced.FindAllStringSubmatchIndex(page, -1) {
		indent, text := page[at[2]:at[3]], page[at[6]:at[7]]
		text = strings.ReplaceAll("\n"+text, "\n"+indent, "\n")[1:]
		all = append(all, block{language: page[at[4]:at[5]], text: text, line: strings.Count(page[:at[2]], "\n") + 1, after: page[at[1]:]})
	}
	return all
}

// commands reads the console blocks of a page: `$ ` begins a command, `> ` goes on with it, the rest is output.
func commands(page string) []command {
	var all []command
	for _, b := range blocks(page) {
		if b.language != "console" {
			continue
		}
		line := b.line
		for text := range strings.Lines(b.text) {
			line++
			switch {
			case strings.HasPrefix(text, "$ "):
				all = append(all, command{text: text[2:], line: line})
			case strings.HasPrefix(text, "> "):
				all[len(all)-1].text += text[2:]
			default:
				all[len(all)-1].want += text
			}
		}
	}
	return all
}

const mark = "==tutorial=="

// script is a bash script that runs the commands in one shell and marks where the output of each ends.
func script(all []command) string {
	var b strings.Builder
	b.WriteString("export LC_ALL=C.UTF-8\n")
	for _, c := range all {
		// The status is put back, so that a command can show that of the one before.
		fmt.Fprintf(&b, "%sstatus=$?; echo '%s'; (exit $status)\n", c.text, mark)
	}
	b.WriteString("true\n") // the last command may show a failure, too
	return b.String()
}

// pattern makes what a page says a regular expression: … is anything in a line, and a line of it any lines.
func pattern(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.Lines(want) {
		line = strings.TrimRight(line, "\n")
		if line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		spaced := regexp.MustCompile(` +`).ReplaceAllString(regexp.QuoteMeta(line), ` +`)
		b.WriteString(strings.ReplaceAll(spaced, "…", ".*?") + ` *\n`)
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String())
}

func TestTheTutorialDoesWhatItSays(t *testing.T) {
	t.Parallel() // it mostly waits
	page, err := os.ReadFile("tutorial/first-lease.md")
	if err != nil {
		t.Fatal(err)
	}
	play(t, startPlayground(t), "", commands(string(page)), 5*time.Minute)
}

func TestTheTutorialOfTwoCloudsDoesWhatItSays(t *testing.T) {
	t.Parallel() // it mostly waits
	page, err := os.ReadFile("tutorial/cross-cloud.md")
	if err != nil {
		t.Fatal(err)
	}
	play(t, startPlayground(t, "-cloud"), "", commands(string(page)), 5*time.Minute)
}

// play runs the commands of a page in one shell in a clone, after a script that makes what the page takes for
// granted, and compares what each prints with what the page says.
func play(t *testing.T, clone, before string, all []command, during time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash")
	shell.Dir = clone
	shell.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + clone, "NO_COLOR=1"}
	shell.Stdin = strings.NewReader(before + script(all))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.WaitDelay = 20 * time.Second // for what it left in the background
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Errorf("the shell ended with: %v", err)
	}
	got := strings.Split(string(out), mark+"\n")
	for i, c := range all {
		if i >= len(got) {
			t.Fatalf("line %d: the shell did not come to: %s\n%s", c.line, c.text, out)
		}
		if !pattern(c.want).MatchString(got[i]) {
			t.Errorf("line %d: %s\ngot:\n%s\nthe page says:\n%s", c.line, c.text, got[i], c.want)
		}
	}
}

// binaries is the directory of what a clone has in bin after make, for all that is played.
var binaries = filepath.Join(os.TempDir(), fmt.Sprintf("daypass-docs-%d", os.Getpid()))

// build fills it, once.
var build = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "build", "-o", binaries+"/", "./cmd/daypass", "./internal/testissuer/cmd/testissuer", "./internal/demo")
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	defer os.RemoveAll(binaries)
	m.Run()
}

// startPlayground does what `make playground` does, in a directory that looks like a clone, and returns it.
func startPlayground(t *testing.T, flags ...string) string {
	t.Helper()
	clone := t.TempDir()
	if err := errors.Join(build(), os.Symlink(binaries, filepath.Join(clone, "bin"))); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ground := exec.Command(filepath.Join(binaries, "demo"), append(flags, "-playground", filepath.Join(clone, "playground"))...)
	ground.Dir, ground.Stderr, ground.WaitDelay = root, &out, 20*time.Second
	stdout, err := ground.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ground.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer late(ground).Stop()
		if err := ground.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("end the playground: %v", err)
		}
		if err := ground.Wait(); err != nil {
			t.Errorf("the playground ended with: %v\n%s", err, out.String())
		}
		if _, err := os.Stat(filepath.Join(clone, "playground")); !os.IsNotExist(err) {
			t.Errorf("the playground is still there: %v", err)
		}
	})
	defer late(ground).Stop()
	if _, err := stdout.Read(make([]byte, 1)); err != nil { // it prints when all is up
		t.Fatalf("the playground did not start: %v\n%s", err, out.String())
	}
	return clone
}

// late kills a program that should have done by then, so that nobody waits for ever.
func late(program *exec.Cmd) *time.Timer {
	return time.AfterFunc(3*time.Minute, func() { program.Process.Kill() })
}
