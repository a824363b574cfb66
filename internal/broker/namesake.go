package broker

import (
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// outlived refuses an enrolment token that is older than the removal of the device that had its name: whoever removed it
// takes its name back, and need not know which tokens for it are still about.
func (b *Broker) outlived(tx *store.Tx, issuerURL string, said invited) error {
	before, err := tx.Device(issuerURL, said.Name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil && time.UnixMicro(said.Made).Before(before.RemovedAt) {
		err = b.stranger("enrol a device", "the enrolment token was made before the device of that name was removed")
	}
	return err
}
