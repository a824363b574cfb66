package mtls_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/identity/identitytest"
	"github.com/daypass/daypass/identity/mtls"
)

// file is what the revocation lists are read from.
type file struct {
	text  atomic.Pointer[[]byte] // nil: there is no file
	reads atomic.Int64
}

func (f *file) write(lists ...[]byte) {
	text := []byte{}
	for _, der := range lists {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	f.text.Store(&text)
}

func (f *file) read() ([]byte, error) {
	f.reads.Add(1)
	if text := f.text.Load(); text != nil {
		return *text, nil
	}
	return nil, errors.New("no such file")
}

// list is a revocation list of an authority, good for a day.
func (w *world) list(t *testing.T, by identitytest.Authority, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(w.Now().Unix()), ThisUpdate: w.Now().Add(-time.Minute), NextUpdate: w.Now().Add(24 * time.Hour)}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: w.Now(), ReasonCode: 1})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.Certificate, by.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newRevoking(t *testing.T) (*world, *file) {
	f := &file{}
	return newWorld(t, func(c *mtls.Config) { c.Revocations = f.read }), f
}

// cannotTell fails unless a good certificate is refused without calling it bad.
func (w *world) cannotTell(t *testing.T, chain ...*x509.Certificate) {
	t.Helper()
	if _, err := w.verify(chain...); err == nil || errors.Is(err, identity.ErrRejected) {
		t.Errorf("got %v; want an error that does not call the certificate bad", err)
	}
}

func (w *world) accept(t *testing.T, chain ...*x509.Certificate) {
	t.Helper()
	if _, err := w.verify(chain...); err != nil {
		t.Errorf("a good certificate is refused: %v", err)
	}
}

func TestARevokedCertificateIsRejectedOnceTheFileSaysSo(t *testing.T) {
	w, f := newRevoking(t)
	good, bad := w.leaf(t, w.ca, nil), w.leaf(t, w.ca, nil)
	f.write(w.list(t, w.ca, nil))
	w.accept(t, bad)
	f.write(w.list(t, w.ca, nil, bad))
	w.Advance(mtls.Refresh)
	_, err := w.verify(bad)
	why(t, err, mtls.WhyRevoked)
	w.accept(t, good)
	if reads := f.reads.Load(); reads != 2 {
		t.Errorf("the file was read %d times", reads)
	}
}

func TestAStrangersCertificateReadsNoRevocationList(t *testing.T) {
	w, f := newRevoking(t)
	f.write(w.list(t, w.ca, nil))
	_, err := w.verify(w.leaf(t, identitytest.NewAuthority(t, "stranger", w.Now()), nil))
	why(t, err, mtls.WhyChain)
	if f.reads.Load() != 0 {
		t.Error("the lists were read")
	}
}

func TestWithoutACurrentRevocationListNobodyCanTell(t *testing.T) {
	other := func(t *testing.T, w *world) identitytest.Authority {
		return identitytest.NewAuthority(t, "other", w.Now())
	}
	for name, write := range map[string]func(*testing.T, *world, *file){
		"no file":      func(*testing.T, *world, *file) {},
		"an empty one": func(_ *testing.T, _ *world, f *file) { f.write() },
		"no list":      func(_ *testing.T, _ *world, f *file) { f.write([]byte("x")) },
		"one of another authority": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, other(t, w), nil))
		},
		"one that a namesake signed": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, identitytest.NewAuthority(t, "Acme machines", w.Now()), nil))
		},
		"one that is too old": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, w.ca, func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = w.Now().Add(-2*time.Hour), w.Now() }))
		},
		"one of tomorrow": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, w.ca, func(l *x509.RevocationList) { l.ThisUpdate = w.Now().Add(time.Hour) }))
		},
		"a delta": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, w.ca, func(l *x509.RevocationList) {
				l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
			}))
		},
		"one for others' certificates": func(t *testing.T, w *world, f *file) {
			f.write(w.list(t, w.ca, func(l *x509.RevocationList) {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: w.Now(),
					ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}}
			}))
		},
		"a certificate in its place": func(_ *testing.T, w *world, f *file) { text := identitytest.PEM(w.ca.Certificate); f.text.Store(&text) },
	} {
		t.Run(name, func(t *testing.T) {
			w, f := newRevoking(t)
			write(t, w, f)
			w.cannotTell(t, w.leaf(t, w.ca, nil))
			f.write(w.list(t, w.ca, nil))
			w.Advance(mtls.Refresh)
			w.accept(t, w.leaf(t, w.ca, nil))
		})
	}
}

func TestTheLastGoodListsStayUntilTheyAreTooOld(t *testing.T) {
	w, f := newRevoking(t)
	bad := w.leaf(t, w.ca, func(c *x509.Certificate) { c.NotAfter = w.Now().Add(48 * time.Hour) })
	good := w.leaf(t, w.ca, func(c *x509.Certificate) { c.NotAfter = w.Now().Add(48 * time.Hour) })
	f.write(w.list(t, w.ca, nil, bad))
	w.accept(t, good)
	f.text.Store(nil)
	w.Advance(23 * time.Hour)
	w.accept(t, good)
	_, err := w.verify(bad)
	why(t, err, mtls.WhyRevoked)
	w.Advance(time.Hour)
	w.cannotTell(t, good)
}

func TestEveryAuthorityOfTheChainNeedsAListAndMayBeRevoked(t *testing.T) {
	w, f := newRevoking(t)
	between := w.ca.Below(t, "plant 3", w.Now(), nil)
	leaf := w.leaf(t, between, nil)
	f.write(w.list(t, w.ca, nil))
	w.cannotTell(t, leaf, between.Certificate)
	f.write(w.list(t, w.ca, nil), w.list(t, between, nil))
	w.Advance(mtls.Refresh)
	w.accept(t, leaf, between.Certificate)
	f.write(w.list(t, w.ca, nil, between.Certificate), w.list(t, between, nil))
	w.Advance(mtls.Refresh)
	_, err := w.verify(leaf, between.Certificate)
	why(t, err, mtls.WhyRevoked)
}

func TestOneListInDERIsReadToo(t *testing.T) {
	w, f := newRevoking(t)
	leaf := w.leaf(t, w.ca, nil)
	der := w.list(t, w.ca, nil, leaf)
	f.text.Store(&der)
	_, err := w.verify(leaf)
	why(t, err, mtls.WhyRevoked)
}
