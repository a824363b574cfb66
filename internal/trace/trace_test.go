package trace_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/daypass/daypass/internal/trace"
)

// step is traced as the steps of the broker are.
func step(ctx context.Context, t *trace.Tracer, fail error) (err error) {
	defer t.Start(&ctx, "step").End(&err)
	return fail
}

func TestATracerThatIsOffCostsNothing(t *testing.T) {
	tracer, err := trace.New(t.Context(), trace.Config{})
	if err != nil || tracer != nil {
		t.Fatalf("%v, %v", tracer, err)
	}
	ctx, headers := t.Context(), []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	fail := errors.New("it failed")
	allocations := testing.AllocsPerRun(1000, func() {
		inner := tracer.Accept(ctx, headers)
		span := tracer.Serve(&inner, "acquire")
		span.Set("daypass.role", "orders")
		_ = step(inner, tracer, fail)
		span.End(&err)
	})
	if allocations != 0 {
		t.Errorf("%v allocations of a tracer that is off", allocations)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := tracer.Run(ended); err != nil {
		t.Error(err)
	}
}

func TestOnlyOneWellFormedTraceparentIsTakenUp(t *testing.T) {
	tracer, err := trace.New(t.Context(), trace.Config{OTLP: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, c := range map[string]struct {
		headers []string
		want    bool
	}{
		"none":        {nil, false},
		"one":         {[]string{good}, true},
		"two":         {[]string{good, good}, false},
		"zero":        {[]string{"00-00000000000000000000000000000000-0000000000000000-01"}, false},
		"capitals":    {[]string{strings.ToUpper(good)}, false},
		"more fields": {[]string{good + "-00"}, false},
		"long":        {[]string{strings.Repeat("0", 1<<16)}, false},
	} {
		if got := oteltrace.SpanContextFromContext(tracer.Accept(t.Context(), c.headers)).IsValid(); got != c.want {
			t.Errorf("%s: taken up is %v", name, got)
		}
	}
}

// A collector that refuses, hangs or sends elsewhere costs spans and nothing else, and is told of once.
func TestACollectorThatFailsIsToldOfOnceAndDelaysNobody(t *testing.T) {
	refused := make(chan struct{}, 100)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused <- struct{}{}
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer collector.Close()
	var log bytes.Buffer // read after Run has ended
	tracer, err := trace.New(t.Context(), trace.Config{OTLP: collector.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 { // more than the queue takes
		if err := step(t.Context(), tracer, nil); err != nil {
			t.Fatal(err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	begun := time.Now()
	if err := tracer.Run(ended); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if len(refused) == 0 {
		t.Error("the collector was not asked")
	}
	if n := strings.Count(log.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("it was told %d times:\n%s", n, log.String())
	}
}
