package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoCertificate marks errors of calls that were not sent because the client certificate could not be had.
var ErrNoCertificate = errors.New("no client certificate")

// CertificateSource gives the certificate by which the workload is known in TLS, with its key. It is asked before each
// call, so that a source whose certificate is replaced always gives the one that counts: the next call goes over a
// connection of its own then. Certificate may be called concurrently.
type CertificateSource interface {
	Certificate(ctx context.Context) (*tls.Certificate, error)
}

// CertificateFunc is a function as a [CertificateSource].
type CertificateFunc func(ctx context.Context) (*tls.Certificate, error)

// Certificate calls f.
func (f CertificateFunc) Certificate(ctx context.Context) (*tls.Certificate, error) { return f(ctx) }

// FileCertificate is a source that reads the files before each call: the certificate with those between it and its
// authority, leaf first, and the leaf's key, both in PEM. Whoever replaces them need not do so at once: while they do not
// belong together, what was read before counts, as long as it is valid.
func FileCertificate(certificate, key string) CertificateSource {
	f := &fileCertificate{paths: [2]string{certificate, key}}
	return CertificateFunc(f.read)
}

// maxCertificate is how many bytes a file with a certificate or a key may have.
const maxCertificate = 256 << 10

// fileCertificate is what was read of two files.
type fileCertificate struct {
	paths [2]string // of the certificate and of its key

	mu    sync.Mutex // guards what follows
	texts [2][]byte  // that the pair was made of
	pair  *tls.Certificate
}

func (f *fileCertificate) read(context.Context) (*tls.Certificate, error) {
	var texts [2][]byte
	for i, path := range f.paths {
		text, err := readBounded(path)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		texts[i] = text
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pair == nil || !bytes.Equal(texts[0], f.texts[0]) || !bytes.Equal(texts[1], f.texts[1]) {
		pair, err := tls.X509KeyPair(texts[0], texts[1])
		switch {
		case err == nil:
			f.pair, f.texts = &pair, texts
		case f.pair == nil || time.Now().After(f.pair.Leaf.NotAfter):
			return nil, f.explain(texts)
		}
	}
	if end := f.pair.Leaf.NotAfter; time.Now().After(end) {
		return nil, fmt.Errorf("client certificate %q expired at %s: whatever renews it does so no more", f.paths[0], end.UTC().Format(time.RFC3339))
	}
	return f.pair, nil
}

// explain says what keeps two texts from being a certificate and its key. Package tls would show what it found.
func (f *fileCertificate) explain(texts [2][]byte) error {
	certificate, key := types(texts[0]), types(texts[1])
	switch {
	case !slices.Contains(certificate, "CERTIFICATE"):
		return fmt.Errorf("client certificate %q holds no certificate in PEM", f.paths[0])
	case slices.ContainsFunc(key, func(t string) bool { return strings.HasPrefix(t, "ENCRYPTED") }) || bytes.Contains(texts[1], []byte("Proc-Type: 4,ENCRYPTED")):
		return fmt.Errorf("client key %q is encrypted with a passphrase, and nobody is here to type one", f.paths[1])
	case !slices.ContainsFunc(key, func(t string) bool { return strings.HasSuffix(t, "PRIVATE KEY") }):
		return fmt.Errorf("client key %q holds no private key in PEM", f.paths[1])
	}
	return fmt.Errorf("the key in %q is not that of the first certificate in %q", f.paths[1], f.paths[0])
}

// types are the types of the PEM blocks of a text.
func types(text []byte) (all []string) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		all = append(all, block.Type)
	}
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCertificate+1))
	if err == nil && len(text) > maxCertificate {
		err = fmt.Errorf("%q has more than %d bytes", path, maxCertificate)
	}
	return text, err
}

// presenting is a transport that shows a certificate. Connections are as old as the certificate that they showed: another
// one gets connections of its own, and nothing new goes over the old ones.
type presenting struct {
	source CertificateSource
	plain  *http.Transport // shows none
	asked  atomic.Bool     // the server wanted to see one

	mu      sync.Mutex // guards what follows
	current *http.Transport
	shown   *tls.Certificate // by current
}

// RoundTrip implements [http.RoundTripper]. Calls with a token of their own, such as a lease token, go out also when there
// is no certificate: a lease must be released even then.
func (p *presenting) RoundTrip(r *http.Request) (*http.Response, error) {
	certificate, err := p.source.Certificate(r.Context())
	if err == nil && (certificate == nil || len(certificate.Certificate) == 0) {
		err = errors.New("the source gave none")
	}
	switch {
	case err == nil:
		return p.with(certificate).RoundTrip(r)
	case r.Header.Get("Authorization") != "":
		return p.plain.RoundTrip(r)
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, fmt.Errorf("%w: %w", ErrNoCertificate, err)
}

// with returns the transport whose connections show a certificate.
func (p *presenting) with(certificate *tls.Certificate) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown == nil || !slices.EqualFunc(p.shown.Certificate, certificate.Certificate, bytes.Equal) {
		if p.current != nil {
			p.current.CloseIdleConnections()
		}
		p.shown, p.current = certificate, p.plain.Clone()
		p.current.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.asked.Store(true)
			return certificate, nil // whatever authorities the server names: it says what is wrong with another one
		}
	}
	return p.current
}

// unseen says, of a call that was not accepted, that nobody looked at the certificate.
func (p *presenting) unseen() string {
	if p == nil || p.asked.Load() {
		return ""
	}
	return "; the client certificate was not asked for in TLS: the server has no issuer of a kind that takes certificates, or something before it ends TLS"
}
