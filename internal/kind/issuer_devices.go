package kind

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/daypass/daypass/identity/device"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

// deviceIssuers is the kind of issuers that we are ourselves: of devices that were enrolled here.
func deviceIssuers() Issuer {
	return Issuer{
		IssuerKind: access.IssuerKind{Settings: decode[access.DeviceIssuer], Vocabulary: access.KindDevices,
			Instead: "give a device labels where it is invited: `daypass device token --label name=value`"},
		open: func(order IssuerOrder) (OpenIssuer, error) {
			v, err := device.New(device.Config{
				Name: order.Config.Name, Audience: order.Audience, Directory: directory{order.Store, order.Config.URL}, Now: order.Now,
			})
			return OpenIssuer{Tokens: v}, err
		},
	}
}

// directory reads the devices of an issuer from the store, each time: one that was removed at another server counts
// nowhere any more.
type directory struct {
	store *store.Store
	url   string
}

var _ device.Directory = directory{}

// Device implements [device.Directory].
func (d directory) Device(ctx context.Context, name string) (device.Device, error) {
	var found store.Device
	err := d.store.View(ctx, func(tx *store.Tx) (err error) {
		found, err = tx.Device(d.url, name)
		return err
	})
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !found.RemovedAt.IsZero():
		return device.Device{}, device.ErrUnknown
	case err != nil:
		return device.Device{}, err
	}
	out := device.Device{Name: found.Name, Thumbprint: found.Thumbprint, Key: found.Key, EnrolledAt: found.EnrolledAt, Until: found.Until}
	if err := json.Unmarshal(found.Labels, &out.Labels); err != nil {
		return device.Device{}, fmt.Errorf("read the labels of device %q: %w", name, err)
	}
	return out, nil
}
