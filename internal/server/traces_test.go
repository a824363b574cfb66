package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/daypass/daypass/internal/testissuer"
)

// receiver is an OpenTelemetry collector that keeps what it gets.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex // guards the fields below
	spans map[string]*otlp.Span
	raw   bytes.Buffer
	wrong []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{spans: map[string]*otlp.Span{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP takes one batch.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch collector.ExportTraceServiceRequest
	zipped, err := gzip.NewReader(request.Body)
	if err == nil {
		var body []byte
		if body, err = io.ReadAll(zipped); err == nil {
			r.raw.Write(body)
			err = proto.Unmarshal(body, &batch)
		}
	}
	if err != nil || request.URL.Path != "/v1/traces" || request.Header.Get("Content-Type") != "application/x-protobuf" {
		r.wrong = append(r.wrong, request.URL.Path+" "+request.Header.Get("Content-Type"))
	}
	for _, resource := range batch.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				r.spans[span.Name] = span
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// attribute is the text of an attribute of a span.
func attribute(span *otlp.Span, key string) string {
	for _, pair := range span.GetAttributes() {
		if pair.Key == key {
			return pair.Value.GetStringValue()
		}
	}
	return ""
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// acquireTraced acquires as a caller does that is in a trace, and returns the answer.
func (r *rig) acquireTraced(t *testing.T, token string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL()+"/v1/leases", strings.NewReader(`{"role": "orders-readonly", "reason": "reason-canary"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	request.Header.Set("Tracestate", "vendor=tracestate-canary")
	request.Header.Set("Baggage", "secret=baggage-canary")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s %v", response.Status, body, err)
	}
	return string(body)
}

func TestAnAcquisitionIsTracedStepByStepAndTellsNoSecret(t *testing.T) {
	r, spans := newRig(t), newReceiver(t)
	r.cfg.Traces.OTLP = spans.URL
	r.start(t)
	token := r.issuer.Token(r.issuer.GitHub(testissuer.Run{Audience: r.URL()}))
	answer := r.acquireTraced(t, token)
	if err := r.stop(); err != nil { // sends what is left
		t.Fatal(err)
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	if len(spans.wrong) > 0 {
		t.Errorf("what came is no OTLP over HTTP: %v", spans.wrong)
	}
	root := spans.spans["acquire"]
	if hex.EncodeToString(root.GetTraceId()) != callersTrace || hex.EncodeToString(root.GetParentSpanId()) != callersSpan {
		t.Fatalf("the caller's trace was not taken up: %v", root)
	}
	var after uint64
	for _, name := range []string{"verify", "decide", "record", "grant", "activate"} {
		span := spans.spans[name]
		if span == nil || !bytes.Equal(span.TraceId, root.TraceId) || !bytes.Equal(span.ParentSpanId, root.SpanId) {
			t.Errorf("%s is no part of the acquisition: %v", name, span)
			continue
		}
		if span.StartTimeUnixNano < after || span.EndTimeUnixNano > root.EndTimeUnixNano {
			t.Errorf("%s is not in its place", name)
		}
		after = span.EndTimeUnixNano
	}
	if role, target := attribute(root, "daypass.role"), attribute(root, "daypass.target"); role != "orders-readonly" || target != "orders-db" {
		t.Errorf("role %q at target %q", role, target)
	}
	if id := attribute(root, "daypass.lease"); id == "" || !strings.Contains(answer, id) {
		t.Errorf("the lease is %q", id)
	}
	known := []string{"daypass.request", "daypass.issuer", "daypass.role", "daypass.target", "daypass.decision", "daypass.lease"}
	for _, span := range spans.spans {
		for _, pair := range span.Attributes {
			if !slices.Contains(known, pair.Key) {
				t.Errorf("%s has the attribute %s", span.Name, pair.Key)
			}
		}
	}
	for _, canary := range []string{token, strings.Split(token, ".")[1], "repo:", "acme/orders", "refs/heads/main", adminPassword, "dpl_", "postgres://", "127.0.0.1", "canary"} {
		if strings.Contains(spans.raw.String(), canary) {
			t.Errorf("%.20q is in a span", canary)
		}
	}
}
