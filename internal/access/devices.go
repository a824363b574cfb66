package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/api"
)

// KindDevices is the kind of issuers whose principals are machines that are enrolled here.
const KindDevices = "devices"

// DeviceIssuer is the `devices:` section of an issuer: machines that were enrolled with a one-use token, each with a
// key that it made itself.
type DeviceIssuer struct {
	// Term is how long a device counts after it was enrolled or last renewed, such as 30d (the default); at least 1m, and
	// at most 366d.
	Term string `yaml:"term" json:"term,omitempty"`
	// Once makes each assertion of a device good once, by its `jti`. A device signs another one as often as it likes.
	Once bool `yaml:"single_use" json:"single_use,omitempty"`
}

// Bounds of the term of devices.
const (
	defaultTerm = 30 * 24 * time.Hour
	minTerm     = time.Minute
	maxTerm     = 366 * 24 * time.Hour
)

// Duration is the term.
func (s DeviceIssuer) Duration() (time.Duration, error) {
	if s.Term == "" {
		return defaultTerm, nil
	}
	term, err := api.ParsePeriod(s.Term)
	if err != nil {
		return 0, err
	}
	if term < minTerm || term > maxTerm {
		return 0, errors.New("a term is at least 1m and at most 366d")
	}
	return term, nil
}

// Validate returns what keeps the section from being used.
func (s DeviceIssuer) Validate() error {
	if _, err := s.Duration(); err != nil {
		return fieldError{"term", err}
	}
	return nil
}

// fieldError is an error that is shown at a field.
type fieldError struct {
	field string
	error
}

// Field names the field.
func (e fieldError) Field() string { return e.field }

// URL implements what this package asks of settings.
func (s DeviceIssuer) URL(issuer string) string { return "urn:daypass:devices:" + issuer }

// SingleUse is whether a device's assertion is good once.
func (s DeviceIssuer) SingleUse() bool { return s.Once }

// DeviceTerm is the term of the issuer's devices.
func (i Issuer) DeviceTerm() (time.Duration, error) {
	if i.Kind != KindDevices {
		return 0, errors.New("issuer " + i.Name + " has no devices")
	}
	var settings DeviceIssuer
	if err := json.Unmarshal(i.Settings, &settings); err != nil {
		return 0, fmt.Errorf("read the settings of issuer %q: %w", i.Name, err)
	}
	return settings.Duration()
}
