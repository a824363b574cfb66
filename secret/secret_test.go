package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/daypass/daypass/secret"
)

const canary = "canary-7f3b9c"

// holder hides a secret where the fmt package reaches it by reflection only.
type holder struct {
	name   string
	hidden secret.Text
	list   []secret.Text
	byName map[string]secret.Text
	inside *secret.Text
}

func held() holder {
	s := secret.New(canary)
	return holder{name: "h", hidden: s, list: []secret.Text{s}, byName: map[string]secret.Text{"k": s}, inside: &s}
}

func TestNoVerbPrintsTheSecret(t *testing.T) {
	h := held()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%08.3v"} {
		for _, value := range []any{h.hidden, &h.hidden, h, &h, h.list, h.byName, []any{h}} {
			if out := fmt.Sprintf(verb, value); leaks(out) {
				t.Errorf("%s of %T printed the secret: %s", verb, value, out)
			}
		}
	}
}

func TestNoLogHandlerPrintsTheSecret(t *testing.T) {
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(handler)
		h := held()
		log.Info("msg", "secret", h.hidden, "holder", h, "pointer", &h, "any", slog.AnyValue(h.list))
	}
	if leaks(out.String()) {
		t.Errorf("a log handler printed the secret: %s", out.String())
	}
}

func TestMarshallersRefuse(t *testing.T) {
	exported := struct{ Password secret.Text }{secret.New(canary)}
	if _, err := json.Marshal(exported); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json.Marshal: got %v, want ErrMarshal", err)
	}
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(exported); err == nil || leaks(out.String()) {
		t.Errorf("gob: got error %v and output %q", err, out.String())
	}
}

func TestRevealGivesTheSecretBack(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("got %q", got)
	}
	if zero := (secret.Text{}); !zero.IsZero() || zero.Reveal() != "" || !secret.New("").IsZero() {
		t.Error("the zero value is not the empty secret")
	}
	if a, b := secret.Random(), secret.Random(); len(a.Reveal()) != 43 || a.Reveal() == b.Reveal() {
		t.Error("Random is not 43 fresh characters")
	}
}

func leaks(out string) bool {
	hexed := fmt.Sprintf("%x", canary)
	return strings.Contains(out, canary) || strings.Contains(strings.ToLower(out), hexed)
}

func ExampleText() {
	password := secret.New("correct horse")
	fmt.Println(password)
	fmt.Println(len(password.Reveal()))
	// Output:
	// [secret]
	// 13
}
