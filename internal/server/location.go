package server

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/location"
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
