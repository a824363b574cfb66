package enrolment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/chore"
	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
	"github.com/daypass/daypass/ledger"
)

const (
	sweepEvery = 500 * time.Millisecond
	sweepWork  = "(devices)" // the claim of it; no target has such a name
	sweepPage  = 100
	goneFor    = 90 * 24 * time.Hour
)

// Run ends the leases of devices that count no more until ctx ends, for all servers of a store.
func (e *Register) Run(ctx context.Context) error {
	chore.Loop{
		Claim:  chore.NewClaim(e.store, sweepWork),
		Every:  sweepEvery,
		After:  10 * sweepEvery,
		Do:     e.sweep,
		Failed: func(err error) { e.log.Error("look for devices that count no more", "err", err) },
	}.Run(ctx)
	return nil
}

// Remove makes a device count no more, for administrators who may lock. Its leases end before this returns,
// unless the store fails under it: then the next sweep ends them.
func (e *Register) Remove(ctx context.Context, c admission.Caller, at, name string) (out Enrolled, err error) {
	who, err := e.guard.Administer(ctx, c, policy.Lock)
	if err != nil {
		return out, err
	}
	ctx = context.WithoutCancel(ctx)
	url, now := access.DeviceIssuer{}.URL(at), e.now()
	err = e.store.Update(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(url, name)
		if err != nil || !d.RemovedAt.IsZero() {
			out = Enrolled{d, at}
			return err
		}
		if err := tx.RemoveDevice(url, name, now); err != nil {
			return err
		}
		d.RemovedAt = now
		out = Enrolled{d, at}
		_, err = tx.Append(ledger.Entry{Time: now, Event: ledger.DeviceRemoved, Device: at + ":" + name, Key: d.Thumbprint})
		return err
	})
	if err != nil {
		return Enrolled{}, err
	}
	who.Origin.Log(e.log).Warn("a device was removed", "issuer", at, "device", name, "by", who.Name)
	return out, e.end(ctx, out.Device)
}

// end ends the leases of a device that counts no more. Its row keeps new ones from being made.
func (e *Register) end(ctx context.Context, d store.Device) error {
	reason := lease.Withdrawn
	if !d.RemovedAt.IsZero() {
		reason = lease.Revoke
	}
	if err := e.ender.EndAll(ctx, store.Filter{IssuerURL: d.IssuerURL, Subject: d.Name}, reason); err != nil {
		return fmt.Errorf("end the leases of device %s: %w", d.Name, err)
	}
	return e.store.Update(ctx, func(tx *store.Tx) error { return tx.EndDevice(d.IssuerURL, d.Name, e.now()) })
}

// sweep ends the leases of devices whose term is over, and what a crash left of those that were removed; and it
// forgets devices that are gone for long.
func (e *Register) sweep(ctx context.Context) error {
	now := e.now()
	var gone []store.Device
	err := e.store.View(ctx, func(tx *store.Tx) (err error) {
		gone, err = tx.GoneDevices(now, sweepPage)
		return err
	})
	for _, d := range gone {
		err = errors.Join(err, e.end(ctx, d))
	}
	if err != nil || len(gone) > 0 {
		return err
	}
	var old []store.Device
	err = e.store.View(ctx, func(tx *store.Tx) (err error) {
		old, err = tx.OldDevices(now.Add(-goneFor), 1)
		return err
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return e.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ForgetDevices(now.Add(-goneFor), sweepPage)
		return err
	})
}

// List returns a page of the devices of an issuer by name, for administrators.
func (e *Register) List(ctx context.Context, c admission.Caller, at, cursor string, limit int) (page []Enrolled, next string, err error) {
	if _, err := e.guard.Administer(ctx, c, policy.Read); err != nil {
		return nil, "", err
	}
	var found []store.Device
	err = e.store.View(ctx, func(tx *store.Tx) (err error) {
		found, next, err = tx.Devices(access.DeviceIssuer{}.URL(at), cursor, limit)
		return err
	})
	for _, d := range found {
		page = append(page, Enrolled{d, at})
	}
	return page, next, err
}
