// Package feed reads the sources of posture that have a URL, each in its time.
//
// It owns how such a source is asked, and what counts as its answer. It promises that an answer is bounded in time and
// size and followed nowhere; that what cannot be read changes nothing, so that records grow old and then count as missing;
// and that of several servers of one store one reads. What records mean is for others; the package must not import what
// serves.
package feed

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/store"
)

// Bounds of reading.
const (
	maxBody  = 16 << 20
	patience = 15 * time.Second
	look     = time.Second // how often to look for what is due
)

// Config is everything that a [Feed] needs.
type Config struct {
	Guard   *admission.Guard // tells which sources there are
	Posture *posture.Records // takes what was read
	Store   *store.Store     // tells which server reads
	Secrets secretdir.Dir
	Egress  egress.Dialer
	Now     func() time.Time
	Log     *slog.Logger
}

// Feed reads the sources of the active access revision.
type Feed struct{ cfg Config }

// New returns a feed. It asks nobody anything before it runs.
func New(cfg Config) *Feed { return &Feed{cfg} }

// Run reads the sources of posture that have a URL, each at its time, until ctx ends. With several servers of
// one store one of them reads.
func (f *Feed) Run(ctx context.Context) error {
	due := map[string]time.Time{}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		view := f.cfg.Guard.View()
		if view == nil {
			continue
		}
		for name, source := range view.Access.Postures {
			if now := f.cfg.Now(); source.Read != nil && !now.Before(due[name]) {
				due[name] = now.Add(source.Read.Every)
				f.read(ctx, source)
			}
		}
	}
}

// read reads one source. What cannot be read changes nothing: its records grow old, and then count as missing.
func (f *Feed) read(ctx context.Context, source access.Posture) {
	var ours bool
	err := f.cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.Keep("(posture "+source.Name+")", 2*source.Read.Every)
		return err
	})
	if err == nil && !ours {
		return
	}
	var records []posture.Report
	if err == nil {
		records, err = f.fetch(ctx, *source.Read)
	}
	refused := 0
	if err == nil {
		refused, err = f.cfg.Posture.Take(ctx, posture.Reading{Source: source.Name, By: source.Read.URL, Records: records})
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		f.cfg.Log.Error("read posture", "source", source.Name, "err", err)
	case refused > 0:
		f.cfg.Log.Warn("records of posture are not as declared, and count as missing", "source", source.Name, "records", refused)
	}
}

// fetch asks a URL for its records. It follows no redirect, and trusts the source's own authority where it has
// one.
func (f *Feed) fetch(ctx context.Context, read access.PostureRead) ([]posture.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, read.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if read.Token != "" {
		token, err := f.cfg.Secrets.Text(read.Token)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if read.CAFile != "" {
		text, err := f.cfg.Secrets.Certificates(read.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM(text)
	}
	transport := &http.Transport{TLSClientConfig: settings, DialContext: f.cfg.Egress.DialContext, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 1 << 16}
	defer transport.CloseIdleConnections()
	one := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := one.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", read.URL, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	return parse(body)
}

// parse reads what a URL answers: `{"records": [{"id": …, "fields": {…}, "reported_at": …?}]}`.
func parse(body []byte) ([]posture.Report, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("the answer has more than %d MiB", maxBody>>20)
	}
	var document struct {
		Records *[]struct {
			ID         string          `json:"id"`
			Fields     json.RawMessage `json:"fields"`
			ReportedAt *api.Time       `json:"reported_at"`
		} `json:"records"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&document); err != nil {
		return nil, errors.New("the answer is not the JSON of posture records") // the cause may quote it
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) || document.Records == nil {
		return nil, errors.New("the answer has no records, or goes on after its end")
	}
	records := make([]posture.Report, len(*document.Records))
	for i, r := range *document.Records {
		records[i] = posture.Report{ID: r.ID, Fields: r.Fields}
		if r.ReportedAt != nil {
			records[i].ReportedAt = r.ReportedAt.Time
		}
	}
	return records, nil
}
