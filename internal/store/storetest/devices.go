package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/store"
)

const fleet = "urn:daypass:devices:edge"

// NewDevice returns a device of an issuer of the tests, with a term of an hour.
func NewDevice(name string) store.Device {
	return store.Device{IssuerURL: fleet, Name: name, Thumbprint: "print-of-" + name, Key: []byte(`{"kty":"EC"}`), Labels: []byte(`{"site":"berlin"}`),
		EnrolledAt: Start(), EnrolledBy: "uid:0", Until: Start().Add(time.Hour)}
}

func testDevices(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	update := func(fn func(tx *store.Tx) error) error { return s.Update(t.Context(), fn) }
	enrol := func(d store.Device, most int) error {
		return update(func(tx *store.Tx) error { return tx.EnrolDevice(d, most) })
	}
	read := func(name string) (d store.Device) {
		t.Helper()
		View(t, s.Store, func(tx *store.Tx) (err error) {
			d, err = tx.Device(fleet, name)
			return err
		})
		return d
	}
	gone := func(now time.Time) (names string) {
		t.Helper()
		View(t, s.Store, func(tx *store.Tx) error {
			all, err := tx.GoneDevices(now, 10)
			for _, d := range all {
				names += d.Name + " "
			}
			return err
		})
		return names
	}
	a, b := NewDevice("a"), NewDevice("b")
	check(t, enrol(a, 2))
	if got := read("a"); fmt.Sprint(got) != fmt.Sprint(a) || !got.Good(Start()) || got.Good(a.Until) {
		t.Errorf("got %+v", got)
	}
	if err := enrol(a, 2); !fault.Is(err, fault.Conflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	check(t, enrol(b, 2))
	if err := enrol(NewDevice("c"), 2); !fault.Is(err, fault.TooMany) {
		t.Errorf("one more than there may be: %v", err)
	}
	b.Thumbprint, b.Key, b.Until = "another", []byte(`{"kty":"OKP"}`), b.Until.Add(time.Hour)
	check(t, update(func(tx *store.Tx) error { return tx.RenewDevice(b) }))
	if got := read("b"); fmt.Sprint(got) != fmt.Sprint(b) {
		t.Errorf("got %+v", got)
	}
	if got := gone(Start()); got != "" {
		t.Errorf("devices that are gone: %q", got)
	}
	check(t, update(func(tx *store.Tx) error { return tx.RemoveDevice(fleet, "b", Start()) }))
	if got := gone(Start()); got != "b " || read("b").Good(Start()) {
		t.Errorf("devices that are gone: %q", got)
	}
	if got := gone(a.Until); got != "b a " {
		t.Errorf("devices that are gone after the term: %q", got)
	}
	if err := enrol(b, 2); !fault.Is(err, fault.Conflict) {
		t.Errorf("a name whose device may still have leases: %v", err)
	}
	check(t, update(func(tx *store.Tx) error {
		if err := tx.EndDevice(fleet, "a", Start()); err != nil { // it still counts
			return err
		}
		return tx.EndDevice(fleet, "b", Start())
	}))
	if got := gone(a.Until); got != "a " {
		t.Errorf("devices that are gone: %q", got)
	}
	check(t, enrol(b, 2))
	if got := read("b"); fmt.Sprint(got) != fmt.Sprint(b) {
		t.Errorf("got %+v", got)
	}
	View(t, s.Store, func(tx *store.Tx) error {
		page, next, err := tx.Devices(fleet, "", 1)
		if err != nil || len(page) != 1 || page[0].Name != "a" || next != "a" {
			t.Errorf("the first page: %+v, %q, %v", page, next, err)
		}
		page, next, err = tx.Devices(fleet, next, 2)
		if len(page) != 1 || page[0].Name != "b" || next != "" {
			t.Errorf("the second page: %+v, %q", page, next)
		}
		return err
	})
	check(t, update(func(tx *store.Tx) error {
		if err := tx.EndDevice(fleet, "a", a.Until); err != nil {
			return err
		}
		n, err := tx.ForgetDevices(a.Until.Add(time.Second), 10)
		if n != 1 {
			t.Errorf("%d devices were forgotten", n)
		}
		return err
	}))
}

// Of many that use one enrolment up, with whatever keys, one has a device.
func testEnrolmentRace(t *testing.T, db Database) {
	s := Serve(t, db, nil)
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			d := NewDevice("pump")
			d.Thumbprint = fmt.Sprint("key-", i)
			var first bool
			err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
				if first, err = tx.Spend("enrolment", "one", Start(), Start().Add(time.Hour)); err != nil || !first {
					return err
				}
				return tx.EnrolDevice(d, 10)
			})
			if err != nil {
				t.Error(err)
			}
			if first {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have won", won.Load())
	}
}
