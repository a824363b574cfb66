// Package testspiffe is a SPIFFE trust domain for tests and scripts: an authority, and an agent whose Workload API speaks
// gRPC over a socket by go-spiffe's own generated code.
//
// It promises to be as strict as the standard asks of an agent: a request without the security header, or for an identity that
// the workload does not have, is refused. It knows one workload, whoever connects. It must not import anything of the
// server.
package testspiffe

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/daypass/daypass/internal/testissuer"
)

// Options say which trust domain it is. All are required but Life.
type Options struct {
	Domain string // such as example.org
	Socket string // path of the agent's socket
	Now    func() time.Time
	Life   time.Duration // of X509-SVIDs; zero: an hour
}

// Domain is a trust domain with an agent.
type Domain struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	options Options
	name    spiffeid.TrustDomain
	root    *x509.Certificate
	rootKey crypto.Signer
	signer  *testissuer.Key
	server  *grpc.Server

	mu     sync.Mutex // guards what follows
	ids    []string   // of the workload
	news   chan struct{}
	serial int64
	asked  [][]string // audiences of JWT-SVIDs
}

// Start starts an agent that knows no identity of the workload yet.
func Start(o Options) (*Domain, error) {
	name, err := spiffeid.TrustDomainFromString(o.Domain)
	if err != nil {
		return nil, err
	}
	if o.Life == 0 {
		o.Life = time.Hour
	}
	d := &Domain{options: o, name: name, news: make(chan struct{})}
	if d.signer, err = testissuer.NewKey("svid-1", "ES256"); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	d.rootKey = key
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: o.Domain}, URIs: []*url.URL{name.ID().URL()}, NotBefore: o.Now().Add(-time.Hour), NotAfter: o.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		d.root, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", o.Socket)
	if err != nil {
		return nil, err
	}
	d.server = grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(d.server, d)
	go func() { _ = d.server.Serve(listener) }() // ends with Close
	return d, nil
}

// Close stops the agent, whatever it is in the middle of.
func (d *Domain) Close() { d.server.Stop() }

// Endpoint is the agent's address, as a workload's environment has it.
func (d *Domain) Endpoint() string { return "unix://" + d.options.Socket }

// Bundle is the trust domain's bundle in SPIFFE's JWKS form.
func (d *Domain) Bundle() ([]byte, error) {
	bundle := spiffebundle.New(d.name)
	bundle.AddX509Authority(d.root)
	if err := bundle.AddJWTAuthority(d.signer.ID, d.signer.Signer.Public()); err != nil {
		return nil, err
	}
	return bundle.Marshal()
}

// Know gives the workload these SPIFFE IDs in place of those it had, and X509-SVIDs that it did not have. Again with the same
// ones, it rotates them.
func (d *Domain) Know(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = ids
	close(d.news)
	d.news = make(chan struct{})
}

// Asked returns the audiences of the JWT-SVIDs that were asked for.
func (d *Domain) Asked() [][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// known is the workload's identities, and what tells that they changed.
func (d *Domain) known(ctx context.Context) ([]string, <-chan struct{}, error) {
	if header, _ := metadata.FromIncomingContext(ctx); !slices.Equal(header.Get("workload.spiffe.io"), []string{"true"}) {
		return nil, nil, status.Error(codes.InvalidArgument, "security header missing from request")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ids) == 0 {
		return nil, d.news, status.Error(codes.PermissionDenied, "no identity issued")
	}
	return d.ids, d.news, nil
}

// FetchX509SVID sends the workload's X509-SVIDs, and again when they change.
func (d *Domain) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	for {
		ids, news, err := d.known(stream.Context())
		if err != nil {
			return err
		}
		response := &workload.X509SVIDResponse{}
		for _, id := range ids {
			svid, err := d.svid(id)
			if err != nil {
				return status.Error(codes.Internal, err.Error())
			}
			response.Svids = append(response.Svids, svid)
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		select {
		case <-news:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// svid makes an X509-SVID.
func (d *Domain) svid(id string) (*workload.X509SVID, error) {
	d.mu.Lock()
	d.serial++
	serial := d.serial + 1
	d.mu.Unlock()
	name, err := spiffeid.FromString(id)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := d.options.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), URIs: []*url.URL{name.URL()}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(d.options.Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, d.root, key.Public(), d.rootKey)
	if err != nil {
		return nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &workload.X509SVID{SpiffeId: id, X509Svid: der, X509SvidKey: text, Bundle: d.root.Raw}, nil
}

// FetchJWTSVID signs JWT-SVIDs for the audience, of all the workload's identities or of the one that it names.
func (d *Domain) FetchJWTSVID(ctx context.Context, r *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	ids, _, err := d.known(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(r.GetAudience()) == 0:
		return nil, status.Error(codes.InvalidArgument, "audience must be specified")
	case r.GetSpiffeId() != "" && !slices.Contains(ids, r.GetSpiffeId()):
		return nil, status.Error(codes.PermissionDenied, "no identity issued")
	case r.GetSpiffeId() != "":
		ids = []string{r.GetSpiffeId()}
	}
	d.mu.Lock()
	d.asked = append(d.asked, r.GetAudience())
	d.mu.Unlock()
	response := &workload.JWTSVIDResponse{}
	now := d.options.Now()
	for _, id := range ids {
		payload, err := json.Marshal(map[string]any{"sub": id, "aud": r.GetAudience(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, d.signer.Algorithm, d.signer.ID)
		response.Svids = append(response.Svids, &workload.JWTSVID{SpiffeId: id, Svid: d.signer.Sign([]byte(header), payload)})
	}
	return response, nil
}
