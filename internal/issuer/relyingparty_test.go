package issuer_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/secret"
)

// relyingParty is a service that trusts an issuer, as a program with a client library that nobody here wrote.
type relyingParty struct {
	t       *testing.T
	tokens  io.Writer
	answers *bufio.Scanner
}

// buildRelyingParty makes the program; its module is fetched as the main one is.
func buildRelyingParty(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "relyingparty")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "../../tools/relyingparty"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the service that trusts us: %v (run: cd tools/relyingparty && go mod download)\n%s", err, out)
	}
	return program
}

func startRelyingParty(t *testing.T, program, url string) *relyingParty {
	t.Helper()
	command := exec.Command(program, url, order().Audience[0]) // ends with its input
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the service: %v", err)
		}
	})
	return &relyingParty{t, in, bufio.NewScanner(out)}
}

// says is what the service says of a token.
func (r *relyingParty) says(token secret.Text) string {
	r.t.Helper()
	if _, err := io.WriteString(r.tokens, token.Reveal()+"\n"); err != nil {
		r.t.Fatal(err)
	}
	if !r.answers.Scan() {
		r.t.Fatalf("the service says nothing: %v", r.answers.Err())
	}
	return r.answers.Text()
}

func (r *relyingParty) takes(what string, token secret.Text) {
	r.t.Helper()
	if said := r.says(token); said != "good role:deploy" {
		r.t.Errorf("%s: the service says %s", what, said)
	}
}

func (r *relyingParty) refuses(what string, token secret.Text, why string) {
	r.t.Helper()
	if said := r.says(token); !strings.HasPrefix(said, "bad ") || !strings.Contains(said, why) {
		r.t.Errorf("%s: the service says %s, want %s", what, said, why)
	}
}

// publish serves the documents of an issuer at the house's own URL.
func (h *house) publish(serve func(w http.ResponseWriter, r *http.Request)) {
	server := httptest.NewServer(http.HandlerFunc(serve))
	h.t.Cleanup(server.Close)
	h.url = server.URL
}

func TestAClientLibraryOfOthersTrustsUsOverRotations(t *testing.T) {
	program := buildRelyingParty(t)
	h := newHouse(t)
	h.pass(-2 * issuer.Ahead) // the service has a clock of its own, which our two rotations must not pass
	var serving atomic.Pointer[issuer.Issuer]
	h.publish(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range []string{issuer.ConfigurationPath, issuer.KeysPath} {
			if r.URL.Path == path {
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, document(t, serving.Load(), path))
				return
			}
		}
		http.NotFound(w, r)
	})
	i := h.server()
	serving.Store(i)
	both := func() (tokens []secret.Text) {
		for _, algorithm := range issuer.Algorithms() {
			asked := order()
			asked.Algorithm, asked.TTL = algorithm, issuer.MaxTTL
			tokens = append(tokens, sign(t, i, asked))
		}
		return tokens
	}
	service := startRelyingParty(t, program, h.url)
	old := both()
	for _, token := range old {
		service.takes("a first token", token)
	}
	for range 2 {
		h.pass(issuer.Ahead)
		if _, err := i.Rotate(t.Context(), issuer.Rotation{}); err != nil {
			t.Fatal(err)
		}
		for _, token := range both() {
			service.takes("a token of the next keys", token)
		}
		late := startRelyingParty(t, program, h.url) // one that first looks now
		for _, token := range old {
			service.takes("a token of retired keys", token)
			late.takes("a token of retired keys, at a newcomer", token)
		}
	}

	asked := order()
	asked.Audience = []string{"other.example.com"}
	service.refuses("a token for another", sign(t, i, asked), "audience")
	if _, err := i.Rotate(t.Context(), issuer.Rotation{Withdraw: true}); err != nil {
		t.Fatal(err)
	}
	late := startRelyingParty(t, program, h.url)
	late.refuses("a token of withdrawn keys", old[0], "signature")
	late.takes("a token after it", both()[0])
}

func TestAClientLibraryOfOthersTrustsACopy(t *testing.T) {
	program := buildRelyingParty(t)
	h := newHouse(t)
	directory := t.TempDir()
	files := http.FileServer(http.Dir(directory))
	h.publish(files.ServeHTTP)
	i := h.server()
	documents, err := i.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.WriteTo(directory, documents); err != nil {
		t.Fatal(err)
	}
	startRelyingParty(t, program, h.url).takes("a token, by the copy", sign(t, i, order()))
}
