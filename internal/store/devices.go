package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/internal/fault"
)

// Device is a machine that was enrolled: its name at its issuer, and the key that speaks for it.
type Device struct {
	IssuerURL  string
	Name       string
	Thumbprint string // of the key: RFC 7638 with SHA-256, in base64url
	Key        []byte // the public key as a JWK
	Labels     []byte // a JSON object of texts
	EnrolledAt time.Time
	EnrolledBy string // who made the enrolment token
	Until      time.Time
	RemovedAt  time.Time // zero: it was not removed
	Ended      bool      // it is gone, and so are its leases
}

// Good reports whether the device counts at a time: it was not removed, and its term is not over.
func (d Device) Good(now time.Time) bool { return d.RemovedAt.IsZero() && now.Before(d.Until) }

const deviceColumns = `issuer_url, name, thumbprint, key, labels, enrolled_at, enrolled_by, until, removed_at, ended`

func scanDevice(scan func(...any) error) (d Device, err error) {
	var enrolled, until, removed, ended int64
	err = scan(&d.IssuerURL, &d.Name, &d.Thumbprint, &d.Key, &d.Labels, &enrolled, &d.EnrolledBy, &until, &removed, &ended)
	d.EnrolledAt, d.Until, d.RemovedAt, d.Ended = instant(enrolled), instant(until), instant(removed), ended == 1
	return d, err
}

// Device returns a device, whether or not it counts any more. Its error is of kind not found where there is none.
func (tx *Tx) Device(issuerURL, name string) (d Device, err error) {
	const op = "read a device"
	err = tx.oneRow(`select `+deviceColumns+` from devices where issuer_url = $1 and name = $2`, []any{issuerURL, name},
		func(scan func(...any) error) (err error) {
			d, err = scanDevice(scan)
			return err
		})
	if errors.Is(err, sql.ErrNoRows) {
		return Device{}, missing(op, "device")
	}
	return d, failed(op, err)
}

// EnrolDevice keeps a new device, of at most so many of its issuer. Its name is free where no device had it, or where
// the one that had it is gone with its leases.
func (tx *Tx) EnrolDevice(d Device, most int) error {
	op := "enrol device " + d.Name
	before, err := tx.Device(d.IssuerURL, d.Name)
	switch {
	case err == nil && !before.Ended:
		return fault.New(fault.Conflict, op, fmt.Sprintf("there is a device %q already; remove it first", d.Name))
	case err != nil && !fault.Is(err, fault.NotFound):
		return err
	case err != nil:
		var devices int64
		if err := tx.one(`select count(*) from devices where issuer_url = $1`, []any{d.IssuerURL}, &devices); err != nil {
			return failed(op, err)
		}
		if devices >= int64(most) {
			return fault.New(fault.TooMany, op, fmt.Sprintf("the issuer has %d devices, as many as it may", devices))
		}
	}
	_, err = tx.write(`insert into devices (`+deviceColumns+`) values ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0)
		on conflict (issuer_url, name) do update set thumbprint = excluded.thumbprint, key = excluded.key, labels = excluded.labels,
		enrolled_at = excluded.enrolled_at, enrolled_by = excluded.enrolled_by, until = excluded.until, removed_at = 0, ended = 0`,
		d.IssuerURL, d.Name, d.Thumbprint, d.Key, d.Labels, micros(d.EnrolledAt), d.EnrolledBy, micros(d.Until))
	return failed(op, err)
}

// RenewDevice gives a device another term, and another key where it has changed.
func (tx *Tx) RenewDevice(d Device) error {
	_, err := tx.write(`update devices set thumbprint = $3, key = $4, until = $5 where issuer_url = $1 and name = $2`,
		d.IssuerURL, d.Name, d.Thumbprint, d.Key, micros(d.Until))
	return failed("renew device "+d.Name, err)
}

// RemoveDevice makes a device count no more. Its leases are to be ended: see [Tx.GoneDevices].
func (tx *Tx) RemoveDevice(issuerURL, name string, at time.Time) error {
	_, err := tx.write(`update devices set removed_at = $3 where issuer_url = $1 and name = $2 and removed_at = 0`, issuerURL, name, micros(at))
	return failed("remove device "+name, err)
}

// GoneDevices returns devices that count no more and whose leases were not all ended.
func (tx *Tx) GoneDevices(now time.Time, limit int) ([]Device, error) {
	removed, err := tx.devices("read the devices that were removed",
		`select `+deviceColumns+` from devices where ended = 0 and removed_at > 0 order by removed_at limit $1`, limit)
	if err != nil || len(removed) == limit {
		return removed, err
	}
	over, err := tx.devices("read the devices whose term is over",
		`select `+deviceColumns+` from devices where ended = 0 and removed_at = 0 and until <= $1 order by until limit $2`, micros(now), limit-len(removed))
	return append(removed, over...), err
}

// EndDevice notes that a device which counts no more has no leases. One that counts again by now stays as it is.
func (tx *Tx) EndDevice(issuerURL, name string, now time.Time) error {
	_, err := tx.write(`update devices set ended = 1 where issuer_url = $1 and name = $2 and (removed_at > 0 or until <= $3)`,
		issuerURL, name, micros(now))
	return failed("end device "+name, err)
}

// OldDevices returns some of the devices that [Tx.ForgetDevices] would delete.
func (tx *Tx) OldDevices(before time.Time, limit int) ([]Device, error) {
	return tx.devices("find old devices", `select `+deviceColumns+` from devices where ended = 1 and until < $1 limit $2`, micros(before), limit)
}

// ForgetDevices deletes devices that are gone with their leases and whose term ended before a time, at most so many,
// and returns how many.
func (tx *Tx) ForgetDevices(before time.Time, limit int) (int64, error) {
	n, err := tx.write(`delete from devices where (issuer_url, name) in
		(select issuer_url, name from devices where ended = 1 and until < $1 limit $2)`, micros(before), limit)
	return n, failed("forget devices", err)
}

// Devices returns a page of the devices by issuer and name, also of those that are gone, and where the next page starts.
func (tx *Tx) Devices(issuerURL, cursor string, limit int) (page []Device, next string, err error) {
	page, err = tx.devices("list devices", `select `+deviceColumns+` from devices where issuer_url = $1 and name > $2 order by name limit $3`,
		issuerURL, cursor, limit)
	if err != nil || len(page) < limit || limit == 0 {
		return page, "", err
	}
	return page, page[limit-1].Name, nil
}

func (tx *Tx) devices(op, text string, args ...any) (all []Device, err error) {
	err = tx.each(text, args, func(rows *sql.Rows) error {
		d, err := scanDevice(rows.Scan)
		all = append(all, d)
		return err
	})
	return all, failed(op, err)
}
