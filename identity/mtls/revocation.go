package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/daypass/daypass/identity"
)

// What revocation lists may hold.
const (
	maxLists   = 64
	maxListing = 16 << 20 // bytes of all lists
)

// lists are the revocation lists of one issuer. The last good ones stay when newer ones cannot be read, until they
// are too old: each says itself until when it is good.
type lists struct {
	read func() ([]byte, error)

	mu     sync.Mutex // guards the fields below
	readAt time.Time
	text   [sha256.Size]byte // hash of what the lists are of
	all    []*revocationList // with what they remember of signatures
	err    error             // of the last reading
}

// revocationList is one list, ready to be asked.
type revocationList struct {
	*x509.RevocationList
	revoked map[string]bool // serial numbers
	signed  map[string]bool // public keys of authorities that were asked for its signature, and whether it is theirs
}

// isOf reports whether an authority signed the list. Checking a long list takes a while, so that it is done once.
func (r *revocationList) isOf(authority *x509.Certificate) bool {
	if !bytes.Equal(r.RawIssuer, authority.RawSubject) {
		return false
	}
	key := string(authority.RawSubjectPublicKeyInfo)
	known, ok := r.signed[key]
	if !ok {
		known = r.CheckSignatureFrom(authority) == nil
		r.signed[key] = known
	}
	return known
}

// renew reads the lists again when they are due. It holds mu.
func (l *lists) renew(now time.Time) {
	if age := now.Sub(l.readAt); l.readAt.IsZero() || age < 0 || age >= Refresh {
		l.readAt = now
		l.refresh()
	}
}

// refresh reads the lists. It holds mu.
func (l *lists) refresh() {
	text, err := l.read()
	if err != nil {
		l.err = fmt.Errorf("read the revocation lists: %w", err)
		return
	}
	hash := sha256.Sum256(text)
	if l.all != nil && hash == l.text {
		l.err = nil
		return
	}
	all, err := parseLists(text)
	if err != nil {
		l.err = fmt.Errorf("read the revocation lists: %w", err)
		return
	}
	l.all, l.text, l.err = all, hash, nil
}

// parseLists reads lists in PEM, or one in DER.
func parseLists(text []byte) ([]*revocationList, error) {
	if len(text) > maxListing {
		return nil, fmt.Errorf("they have more than %d bytes", maxListing)
	}
	if !bytes.Contains(text, []byte("-----BEGIN ")) {
		one, err := parseList(text)
		return []*revocationList{one}, err
	}
	var all []*revocationList
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("they hold a %.40q", block.Type)
		}
		if len(all) == maxLists {
			return nil, fmt.Errorf("there are more than %d", maxLists)
		}
		one, err := parseList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("list %d: %w", len(all)+1, err)
		}
		all, text = append(all, one), rest
	}
	if len(all) == 0 {
		return nil, errors.New("there is none")
	}
	return all, nil
}

// parseList reads one list. Critical extensions say that the list is not about all certificates of its issuer, such
// as a delta (RFC 5280 §5.2.4) or one for some reasons only (§5.2.5); taking it for a whole one would be wrong.
func parseList(der []byte) (*revocationList, error) {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, errors.New("it cannot be read")
	}
	if parsed.NextUpdate.IsZero() {
		return nil, errors.New("it does not say until when it is good")
	}
	for _, extension := range parsed.Extensions {
		if extension.Critical {
			return nil, fmt.Errorf("it has the critical extension %s: deltas and partial lists are not supported", extension.Id)
		}
	}
	list := &revocationList{parsed, make(map[string]bool, len(parsed.RevokedCertificateEntries)), map[string]bool{}}
	for _, entry := range parsed.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical && !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 21}) { // the reason
				return nil, fmt.Errorf("an entry has the critical extension %s: lists about others' certificates are not supported", extension.Id)
			}
		}
		list.revoked[entry.SerialNumber.String()] = true
	}
	return list, nil
}

// check refuses chains of which each holds a revoked certificate. Where no list can tell, nobody can.
func (l *lists) check(chains [][]*x509.Certificate, now time.Time) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renew(now)
	var err error
	for _, chain := range chains {
		if err = checkChain(l.all, chain, now); err == nil {
			return nil
		}
	}
	if _, revoked := errors.AsType[*Rejection](err); l.err != nil && !revoked {
		return fmt.Errorf("%w; %w", err, l.err)
	}
	return err
}

// checkChain looks at every certificate but the authority that we trust.
func checkChain(all []*revocationList, chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain[:len(chain)-1] {
		list, err := listOf(all, chain[i+1], now)
		if err != nil {
			return err
		}
		if list.revoked[c.SerialNumber.String()] {
			return identity.Reject(WhyRevoked, "the certificate of %s with serial number %s is revoked", identity.Quote(c.Subject.String()), serial(c))
		}
	}
	return nil
}

// listOf returns the newest current list that an authority signed.
func listOf(all []*revocationList, authority *x509.Certificate, now time.Time) (*revocationList, error) {
	var newest *revocationList
	old := false
	for _, list := range all {
		if !list.isOf(authority) {
			continue
		}
		if now.Before(list.ThisUpdate) || !now.Before(list.NextUpdate) {
			old = true
			continue
		}
		if newest == nil || list.ThisUpdate.After(newest.ThisUpdate) {
			newest = list
		}
	}
	switch {
	case newest != nil:
		return newest, nil
	case old:
		return nil, fmt.Errorf("the revocation list of %s is not current", identity.Quote(authority.Subject.String()))
	}
	return nil, fmt.Errorf("there is no revocation list of %s", identity.Quote(authority.Subject.String()))
}
