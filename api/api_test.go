package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
)

func TestDurationsHaveOneForm(t *testing.T) {
	for text, want := range map[string]time.Duration{"0s": 0, "90s": 90 * time.Second, "15m": 15 * time.Minute, "24h": 24 * time.Hour, "010s": 10 * time.Second} {
		if got, err := api.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q: got %v, %v", text, time.Duration(got), err)
		}
	}
	for _, bad := range []string{"", "s", "15", "1.5h", "-1m", "+1m", "1h30m", "1d", "15 m", "99999999h", "18446744073709551615s"} {
		if got, err := api.ParseDuration(bad); err == nil {
			t.Errorf("%q is accepted as %v", bad, time.Duration(got))
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 90 * time.Second: "90s", time.Hour: "1h", 90 * time.Minute: "90m"} {
		if got := api.Duration(d).String(); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestTimesHaveMilliseconds(t *testing.T) {
	at := api.At(time.Date(2026, 1, 2, 3, 4, 5, 6_789_000, time.FixedZone("x", 3600)))
	text, err := json.Marshal(at)
	if err != nil || string(text) != `"2026-01-02T02:04:05.006Z"` {
		t.Fatalf("got %s, %v", text, err)
	}
	var back api.Time
	if err := json.Unmarshal(text, &back); err != nil || !back.Equal(at.Time) {
		t.Errorf("read back as %v, %v", back, err)
	}
}

func TestCredentialIsFlat(t *testing.T) {
	text, err := json.Marshal(api.Credential{Type: "postgres", Fields: map[string]any{"username": "u", "port": 5432}})
	if err != nil || string(text) != `{"port":5432,"type":"postgres","username":"u"}` {
		t.Fatalf("got %s, %v", text, err)
	}
	var back api.Credential
	if err := json.Unmarshal(text, &back); err != nil || back.Type != "postgres" || back.Fields["username"] != "u" {
		t.Errorf("read back as %+v, %v", back, err)
	}
	if _, err := json.Marshal(api.Credential{Type: "x", Fields: map[string]any{"type": "y"}}); err == nil {
		t.Error("a field named type is accepted")
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("15m")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := api.ParseDuration(text)
		if err != nil {
			return
		}
		again, err := api.ParseDuration(d.String())
		if err != nil || again != d {
			t.Fatalf("%q reads as %v, which reads back as %v, %v", text, d, again, err)
		}
	})
}

func TestPeriodsMayBeInDays(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"30d": 30 * day, "0d": 0, "36500d": 36500 * day, "720h": 30 * day, "90s": 90 * time.Second} {
		if got, err := api.ParsePeriod(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "d", "30", "1.5d", "-1d", "+1d", "1d12h", "2w", "36501d", "99999999d"} {
		if got, err := api.ParsePeriod(bad); err == nil {
			t.Errorf("%q is accepted as %v", bad, got)
		}
	}
}
