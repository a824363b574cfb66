package store

import (
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"errors"
	"strconv"
	"time"

	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/ledger"
)

// The names in meta.
const (
	metaInstance = "instance"
	metaKey      = "ledger_key"
	metaBoot     = "boot"
	metaEpoch    = "epoch"
	metaRevision = "revision"
)

// meta returns a value, "" where there is none.
func (tx *Tx) meta(name string) (value string, err error) {
	err = tx.one(`select value from meta where name = $1`, []any{name}, &value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, failed("read "+name+" of the store", err)
}

func (tx *Tx) setMeta(name, value string) error {
	_, err := tx.write(`insert into meta (name, value) values ($1, $2)
		on conflict (name) do update set value = excluded.value`, name, value)
	return failed("write "+name+" of the store", err)
}

// Probe writes something that means nothing: who commits it knows that the store can be written.
func (tx *Tx) Probe() error { return tx.setMeta("probe", "") }

// advance adds one to a counter in meta, with an entry, and returns its new value.
func (tx *Tx) advance(name string, event ledger.Event) (n int64, err error) {
	text, err := tx.meta(name)
	if err != nil {
		return 0, err
	}
	before, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, failed("read "+name+" of the store", err)
	}
	n = before + 1
	if err := tx.setMeta(name, strconv.FormatInt(n, 10)); err != nil {
		return 0, err
	}
	_, err = tx.Append(ledger.Entry{Event: event, Count: n})
	return n, err
}

// NewEpoch declares the store to be a restored or copied one, with the entry epoch, and returns the new epoch.
func (tx *Tx) NewEpoch() (int64, error) {
	n, err := tx.advance(metaEpoch, ledger.Epoch)
	if err != nil {
		return 0, err
	}
	tx.group.after = append(tx.group.after, func() { tx.store.epoch.Store(n) })
	return n, nil
}

// PutIssuerKeys keeps the keys last fetched from an issuer.
func (tx *Tx) PutIssuerKeys(url string, jwks []byte, fetchedAt time.Time) error {
	_, err := tx.write(`insert into issuer_keys (url, jwks, fetched_at) values ($1, $2, $3)
		on conflict (url) do update set jwks = excluded.jwks, fetched_at = excluded.fetched_at`,
		url, blob(jwks), micros(fetchedAt))
	return failed("keep the keys of issuer "+url, err)
}

// IssuerKeys returns the keys last fetched from an issuer, and when; not found where there are none.
func (tx *Tx) IssuerKeys(url string) (jwks []byte, fetchedAt time.Time, err error) {
	op := "read the keys of issuer " + url
	var at int64
	err = tx.one(`select jwks, fetched_at from issuer_keys where url = $1`, []any{url}, &jwks, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, missing(op, "issuer keys")
	}
	return jwks, instant(at), failed(op, err)
}

// PutSealed keeps a ciphertext under a name, in place of what was there.
func (tx *Tx) PutSealed(name string, ciphertext []byte) error {
	_, err := tx.write(`insert into sealed (name, ciphertext) values ($1, $2)
		on conflict (name) do update set ciphertext = excluded.ciphertext`, name, blob(ciphertext))
	return failed("keep sealed "+strconv.Quote(name), err)
}

// Sealed returns the ciphertext of a name; not found where there is none.
func (tx *Tx) Sealed(name string) (ciphertext []byte, err error) {
	op := "read sealed " + strconv.Quote(name)
	err = tx.one(`select ciphertext from sealed where name = $1`, []any{name}, &ciphertext)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, missing(op, "sealed value")
	}
	return ciphertext, failed(op, err)
}

// TargetMark returns the random ID that the store knows a target by, and whether this call made it.
func (tx *Tx) TargetMark(name string) (mark string, created bool, err error) {
	op := "read the mark of target " + strconv.Quote(name)
	err = tx.one(`select mark from target_marks where name = $1`, []any{name}, &mark)
	switch {
	case err == nil:
		return mark, false, nil
	case !errors.Is(err, sql.ErrNoRows):
		return "", false, failed(op, err)
	case tx.group == nil:
		return "", false, fault.Wrap(fault.NotFound, op, "no such mark", errReadOnly)
	}
	mark = randomText(26)
	_, err = tx.write(`insert into target_marks (name, mark) values ($1, $2)`, name, mark)
	return mark, true, failed(op, err)
}

// randomText returns n characters of lowercase base32, 5 random bits each.
func randomText(n int) string {
	bits := make([]byte, (n*5+7)/8)
	rand.Read(bits) // never fails: crypto/rand ends the process instead
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(bits)[:n]
}
