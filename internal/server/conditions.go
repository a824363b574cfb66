package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/broker"
	"github.com/daypass/daypass/internal/location"
	"github.com/daypass/daypass/internal/secretdir"
	"github.com/daypass/daypass/internal/store"
)

// places is the location file, or nil where none is configured.
func (s *Server) places() *location.File {
	if s.cfg.Location.File == "" {
		return nil
	}
	file := location.New(s.cfg.Location.File)
	s.location = file
	s.readLocation(true)
	return file
}

// locate says where an address is, for policies.
func (s *Server) locate(address netip.Addr) (country, subdivision string) {
	place := s.location.Lookup(address)
	return place.Country, place.Subdivision
}

// readLocation reads the location file when it was replaced, or always. A bad one is told and replaces nothing; after a
// start without a good one no place is known, and policies that need one deny.
func (s *Server) readLocation(always bool) {
	if s.location == nil {
		return
	}
	changed, err := s.location.Reload(always)
	switch {
	case err != nil:
		s.log.Error("the location file is not in use; what was read before serves on", "err", err)
	case changed:
		s.log.Info("the location file was read", "built", s.location.Status().Built)
	}
}

// addLocation warns of a location file that does not serve.
func (s *Server) addLocation(out *api.Status) {
	if s.location == nil {
		return
	}
	status := s.location.Status()
	switch {
	case status.Built.IsZero():
		out.Warnings = append(out.Warnings, "no place is known, and policies that need one deny: the location file "+status.Problem)
	case status.Problem != "":
		out.Warnings = append(out.Warnings, fmt.Sprintf("the location file of %s serves on, since the new one %s", status.Built.Format(time.DateOnly), status.Problem))
	}
}

// The figures of the location file.
var (
	locationDesc = prometheus.NewDesc("daypass_location_up", "1 while the location file that is configured serves; 0 while it is broken or gone. Only where one is configured.", nil, nil)
	placesDesc   = prometheus.NewDesc("daypass_location_built_timestamp_seconds", "When the location file that serves was made.", nil, nil)
)

func (f *figures) collectLocation(out chan<- prometheus.Metric) {
	if f.server.location == nil {
		return
	}
	status, up := f.server.location.Status(), 1.0
	if status.Problem != "" {
		up = 0
	}
	gauge(out, locationDesc, up)
	if !status.Built.IsZero() {
		gauge(out, placesDesc, float64(status.Built.Unix()))
	}
}

// retainPosture deletes what nobody has reported for long, and notes of leases that have ended.
func (s *Server) retainPosture(ctx context.Context, now time.Time) error {
	const page, unheard = 500, 30 * 24 * time.Hour // longer than any source is believed
	for gone := page; gone == page; {
		err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
			gone, err = tx.ForgetPosture(now.Add(-unheard), page)
			return err
		})
		if err != nil {
			return err
		}
	}
	for from, more := []string(nil), true; more; more = from != nil {
		err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
			from, err = tx.PrunePosture(from, page)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// longestLife is how long a lease of the active revision can live. Its decision is kept as long: a review needs it.
func (s *Server) longestLife() (longest time.Duration) {
	if view := s.broker.View(); view != nil {
		for _, role := range view.Access.Roles {
			longest = max(longest, role.TTL.Max)
		}
	}
	return longest
}

// Bounds of reading posture from a URL.
const (
	maxPostureBody = 16 << 20
	postureTime    = 15 * time.Second
	postureLook    = time.Second // how often to look for what is due
)

// readPostures reads the sources of posture that have a URL, each at its time, until ctx ends. With several servers of
// one store one of them reads.
func (s *Server) readPostures(ctx context.Context) error {
	due := map[string]time.Time{}
	ticker := time.NewTicker(postureLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		view := s.broker.View()
		if view == nil {
			continue
		}
		for name, source := range view.Access.Postures {
			if now := time.Now(); source.Read != nil && !now.Before(due[name]) {
				due[name] = now.Add(source.Read.Every)
				s.readPosture(ctx, source)
			}
		}
	}
}

// readPosture reads one source. What cannot be read changes nothing: its records grow old, and then count as missing.
func (s *Server) readPosture(ctx context.Context, source access.Posture) {
	var ours bool
	err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
		ours, err = tx.Keep("(posture "+source.Name+")", 2*source.Read.Every)
		return err
	})
	if err == nil && !ours {
		return
	}
	var records []broker.PostureReport
	if err == nil {
		records, err = s.fetchPosture(ctx, *source.Read)
	}
	refused := 0
	if err == nil {
		refused, err = s.broker.TakePosture(ctx, broker.PostureRead{Source: source.Name, By: source.Read.URL, Records: records})
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.log.Error("read posture", "source", source.Name, "err", err)
	case refused > 0:
		s.log.Warn("records of posture are not as declared, and count as missing", "source", source.Name, "records", refused)
	}
}

// fetchPosture asks a URL for its records. It follows no redirect, and trusts the source's own authority where it has
// one.
func (s *Server) fetchPosture(ctx context.Context, read access.PostureRead) ([]broker.PostureReport, error) {
	ctx, cancel := context.WithTimeout(ctx, postureTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, read.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	files := secretdir.New(s.cfg.SecretsDir)
	if read.Token != "" {
		token, err := files.Text(read.Token)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if read.CAFile != "" {
		text, err := files.Certificates(read.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM(text)
	}
	transport := &http.Transport{TLSClientConfig: settings, DialContext: s.cfg.Egress().DialContext, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 1 << 16}
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
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPostureBody+1))
	if err != nil {
		return nil, err
	}
	return parsePostures(body)
}

// parsePostures reads what a URL answers: `{"records": [{"id": …, "fields": {…}, "reported_at": …?}]}`.
func parsePostures(body []byte) ([]broker.PostureReport, error) {
	if len(body) > maxPostureBody {
		return nil, fmt.Errorf("the answer has more than %d MiB", maxPostureBody>>20)
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
	records := make([]broker.PostureReport, len(*document.Records))
	for i, r := range *document.Records {
		records[i] = broker.PostureReport{ID: r.ID, Fields: r.Fields}
		if r.ReportedAt != nil {
			records[i].ReportedAt = r.ReportedAt.Time
		}
	}
	return records, nil
}
