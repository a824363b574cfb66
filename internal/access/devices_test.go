package access_test

import (
	"testing"
	"time"

	"github.com/daypass/daypass/internal/access"
)

func TestTheTermOfDevicesIsWrittenLikeOtherPeriods(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"": 30 * day, "30d": 30 * day, "720h": 30 * day, "1m": time.Minute, "366d": 366 * day, "8784h": 366 * day} {
		s := access.DeviceIssuer{Term: text}
		if got, err := s.Duration(); err != nil || got != want || s.Validate() != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"30", "0d", "59s", "367d", "8785h", "1h30m", "a month"} {
		if err := (access.DeviceIssuer{Term: bad}).Validate(); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
