// Package trace makes spans of what the broker does and sends them to an OpenTelemetry collector.
//
// It owns the exporter and what may stand in a span. It promises that a tracer which is off, the nil *Tracer, costs
// nothing; that a collector which is slow, gone or lying delays nobody and loses nothing but spans; and that of what a
// caller sends, the identifiers of W3C traceparent alone become part of a trace.
//
// Its users give names of the configuration and IDs as attributes, never a token, a claim, a subject or an address. It
// must not import what it traces.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/daypass/daypass/internal/fault"
)

const (
	sendTime = 10 * time.Second // how long the collector may take for one batch
	lastTime = 3 * time.Second  // how long the last spans may take when the server stops
)

// Config says where spans go and whose they are.
type Config struct {
	OTLP     string // base URL of a collector; nothing is traced where it is empty
	Version  string
	Instance string
	Log      *slog.Logger
}

// Tracer makes spans. The nil Tracer makes none. Its methods may be called concurrently.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New returns a tracer, nil where the configuration names no collector. It connects to nothing. What the environment
// says of exporters does not count: the configuration is the one place.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	if cfg.OTLP == "" {
		return nil, nil
	}
	endpoint, err := url.JoinPath(cfg.OTLP, "v1", "traces")
	if err != nil {
		return nil, fmt.Errorf("read the URL of the collector: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(endpoint),
		otlptracehttp.WithHeaders(nil),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(sendTime),
		otlptracehttp.WithHTTPClient(&http.Client{
			Timeout:       sendTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&reporter{SpanExporter: exporter, log: cfg.Log}),
		sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "daypass"),
			attribute.String("service.version", cfg.Version),
			attribute.String("service.instance.id", cfg.Instance))))
	return &Tracer{provider, provider.Tracer("github.com/daypass/daypass")}, nil
}

// Run sends what is left when ctx ends, and waits for it a moment.
func (t *Tracer) Run(ctx context.Context) error {
	<-ctx.Done()
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what could not be sent is only spans, and the reporter has said so
	return nil
}

// Accept returns the context of a request with the trace that its caller is in, by the values of its traceparent
// headers. Baggage and tracestate are a stranger's text and are not taken.
func (t *Tracer) Accept(ctx context.Context, traceparent []string) context.Context {
	if t == nil || len(traceparent) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent[0]})
}

// Span is a part of a trace. The nil Span takes everything and does nothing.
type Span struct{ span trace.Span }

// Serve begins the span of a request and puts it into ctx.
func (t *Tracer) Serve(ctx *context.Context, name string) *Span {
	return t.start(ctx, name, trace.SpanKindServer)
}

// Start begins a span below the one in ctx and puts it there. A step is traced by one line at its head, where err is
// its named result:
//
//	defer t.Start(&ctx, "grant").End(&err)
func (t *Tracer) Start(ctx *context.Context, name string) *Span {
	return t.start(ctx, name, trace.SpanKindInternal)
}

func (t *Tracer) start(ctx *context.Context, name string, kind trace.SpanKind) *Span {
	if t == nil {
		return nil
	}
	inner, span := t.tracer.Start(*ctx, name, trace.WithSpanKind(kind))
	*ctx = inner
	return &Span{span}
}

// Set notes something about the span: a name of the configuration or an ID. An empty value is not noted.
func (s *Span) Set(key, value string) {
	if s != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// End ends the span with the outcome that err points to. Of an error it tells the kind alone: texts may name
// principals. What is the caller's fault is no error of ours.
func (s *Span) End(err *error) {
	if s == nil {
		return
	}
	if *err != nil {
		kind := fault.KindOf(*err)
		s.Set("error.type", string(kind))
		switch kind {
		case fault.Internal, fault.StoreUnavailable, fault.TargetUnavailable, fault.IssuerUnavailable:
			s.span.SetStatus(codes.Error, string(kind))
		}
	}
	s.span.End()
}

// reporter tells of an exporter that stops working, and of one that works again, once each.
type reporter struct {
	sdk.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements the exporter. It keeps errors from the SDK, which would print them past our log.
func (r *reporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	if failing := err != nil; r.failing.Swap(failing) != failing {
		if failing {
			r.log.Warn("traces cannot be sent: they are lost until they can", "err", err)
		} else {
			r.log.Info("traces are sent again")
		}
	}
	return nil
}
