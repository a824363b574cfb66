package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/client/device"
	"github.com/daypass/daypass/secret"
)

// withDevices adds an issuer of devices, who may read.
func (r *rig) withDevices(t *testing.T) *rig {
	t.Helper()
	r.write(t, "access/devices.yaml", "kind: Issuer\nname: edge\ndevices: {term: 1h}\n")
	r.write(t, "access/devices.cedar", `permit (principal is Device::Workload, action, resource == Role::"orders-readonly")
when { principal.claims.labels.contains("site=berlin") };
`)
	return r
}

// invite is an enrolment token.
func (r *rig) invite(t *testing.T, request api.InvitationRequest) secret.Text {
	t.Helper()
	request.Issuer, request.Labels = "edge", map[string]string{"site": "berlin"}
	made, err := r.administrator(t).InviteDevice(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(made.Token)
}

func newDeviceKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// anybody is a client without evidence.
func (r *rig) anybody(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: "http://" + r.Address()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// machine is a client of an enrolled device.
func (r *rig) machine(t *testing.T, d api.Device, key *ecdsa.PrivateKey) *client.Client {
	t.Helper()
	var state device.State
	state.Take(d, time.Now())
	c, err := client.New(client.Options{URL: "http://" + r.Address(), Token: device.Source{State: state, Key: key, Now: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) enrol(t *testing.T, name string) (api.Device, *ecdsa.PrivateKey) {
	t.Helper()
	key := newDeviceKey(t)
	d, err := r.anybody(t).EnrolDevice(t.Context(), r.invite(t, api.InvitationRequest{Name: name}), key)
	if err != nil {
		t.Fatal(err)
	}
	return d, key
}

// refused fails unless an error is a problem of a status that says something.
func refused(t *testing.T, err error, status int, says string) {
	t.Helper()
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok || problem.Status != status || !strings.Contains(problem.Detail, says) {
		t.Errorf("got %v; want %d that says %q", err, status, says)
	}
}

// TestOfManyWhoUseOneEnrolmentTokenAtOnceOneIsTheDevice proves it at one server, and at two of a shared store.
func TestOfManyWhoUseOneEnrolmentTokenAtOnceOneIsTheDevice(t *testing.T) {
	for name, start := range map[string]func(*testing.T) []*rig{
		"one server": func(t *testing.T) []*rig { return []*rig{newRig(t).withDevices(t).start(t)} },
		"two servers of a store": func(t *testing.T) []*rig {
			first := newRig(t).withDevices(t).share(t).start(t)
			return []*rig{first, first.another(t)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers := start(t)
			token := servers[0].invite(t, api.InvitationRequest{Name: "pump-7"})
			var mu sync.Mutex
			var won []api.Device
			var all sync.WaitGroup
			for i := range 4 {
				key, c := newDeviceKey(t), servers[i%len(servers)].anybody(t)
				all.Go(func() {
					d, err := c.EnrolDevice(t.Context(), token, key)
					if err != nil {
						refused(t, err, http.StatusUnauthorized, "used before")
						return
					}
					again, err := c.EnrolDevice(t.Context(), token, key) // the answer may have been lost
					if err != nil || again.Thumbprint != d.Thumbprint {
						t.Errorf("the same token with the same key: %v", err)
					}
					mu.Lock()
					defer mu.Unlock()
					won = append(won, d)
				})
			}
			all.Wait()
			listed, err := firstOf(servers[0].administrator(t).Devices(t.Context(), "edge"))
			if err != nil || len(won) != 1 || listed.Thumbprint != won[0].Thumbprint {
				t.Errorf("%d have won, and %+v is the device: %v", len(won), listed, err)
			}
		})
	}
}

func firstOf[T any](list func(func(T, error) bool)) (first T, err error) {
	list(func(one T, failed error) bool {
		first, err = one, failed
		return false
	})
	return first, err
}

func TestADeviceThatIsRemovedHasNothingAnyMoreAtAnyServer(t *testing.T) {
	first := newRig(t).withDevices(t).share(t).start(t)
	second := first.another(t)
	d, key := first.enrol(t, "pump-7")
	here, there := first.machine(t, d, key), second.machine(t, d, key)
	lease := acquire(t, here)
	acquire(t, there) // so that it holds an access token, too
	if _, err := first.administrator(t).RemoveDevice(t.Context(), "edge", "pump-7"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{here, there} {
		_, err := c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
		refused(t, err, http.StatusUnauthorized, "")
		_, err = c.RenewDevice(t.Context(), "edge", "pump-7", key, nil)
		refused(t, err, http.StatusUnauthorized, "no such device")
	}
	info, err := first.administrator(t).Lease(t.Context(), lease.ID())
	if err != nil || info.Reason != "revoked" || info.State != "revoking" && info.State != "revoked" {
		t.Errorf("got %+v, %v", info, err)
	}
	// Its name is free, and what the one before it had is worth nothing to the next one's name.
	next, other := first.enrol(t, "pump-7")
	acquire(t, first.machine(t, next, other))
	_, err = here.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
	refused(t, err, http.StatusUnauthorized, "")
}

func TestADevicePastItsTermIsRefusedAndItsLeasesEnd(t *testing.T) {
	r := newRig(t).withDevices(t).share(t).start(t)
	d, key := r.enrol(t, "pump-7")
	c := r.machine(t, d, key)
	lease := acquire(t, c)
	database := r.cfg.Store[strings.LastIndex(r.cfg.Store, "/")+1 : strings.Index(r.cfg.Store, "?")]
	if err := r.postgres.Exec(t.Context(), database, "update devices set until = 1"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
	refused(t, err, http.StatusUnauthorized, "")
	_, err = c.RenewDevice(t.Context(), "edge", "pump-7", key, nil)
	refused(t, err, http.StatusUnauthorized, "no such device")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		info, err := r.administrator(t).Lease(ctx, lease.ID())
		if err != nil {
			t.Fatalf("the lease lives on: %v", err)
		}
		if info.Reason == "withdrawn" {
			return
		}
		<-tick.C
	}
}

func TestADeviceChangesItsKeyWithBothKeysAlone(t *testing.T) {
	r := newRig(t).withDevices(t).start(t)
	d, key := r.enrol(t, "pump-7")
	old := r.machine(t, d, key)
	lease := acquire(t, old)
	next, thief := newDeviceKey(t), newDeviceKey(t)
	for name, by := range map[string]crypto.Signer{"a stranger": thief, "the next key alone": next} {
		if _, err := r.anybody(t).RenewDevice(t.Context(), "edge", "pump-7", by, nil); err == nil {
			t.Errorf("%s renews the term", name)
		}
	}
	renewed, err := r.anybody(t).RenewDevice(t.Context(), "edge", "pump-7", key, next)
	if err != nil || renewed.Thumbprint == d.Thumbprint || renewed.Until.Before(d.Until.Time) {
		t.Fatalf("got %+v, %v", renewed, err)
	}
	_, err = old.Acquire(t.Context(), api.AcquireRequest{Role: "orders-readonly"})
	refused(t, err, http.StatusUnauthorized, "") // the old key's access token is worth nothing either
	now := r.machine(t, renewed, next)
	acquire(t, now)
	if _, err := now.Handle(lease.ID(), secret.Text{}).Release(t.Context(), 0); err != nil {
		t.Errorf("its leases stay its own: %v", err)
	}
}
