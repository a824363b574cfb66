package aws_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/issuer/issuertest"
	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
)

// TestMain lets many tests run at once: they wait for sessions to end, and compute little.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(testbed.Main(m))
}

// newIssuer is our issuer, which shows its documents on the loopback.
func newIssuer(t testing.TB) *issuer.Issuer {
	t.Helper()
	var ours *issuer.Issuer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		documents, err := ours.Documents(r.Context())
		for _, d := range documents {
			if err == nil && d.Path == r.URL.Path {
				w.Header().Set("Content-Type", "application/json")
				w.Write(d.Body)
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	ours = issuertest.NewKeys(t).Open(issuer.Config{URL: server.URL, Algorithm: issuer.ES256, Now: time.Now})
	return ours
}

// book is what the store of a broker knows of leases.
type book struct {
	mu     sync.Mutex // guards what follows
	leases map[string]aws.Held
}

// held tells of a lease as a broker does: of one that is only asked for, what it was asked for.
func (b *book) held(_ context.Context, lease string) (aws.Held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leases[lease], nil
}

func (b *book) put(g target.Grant, handedOut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.leases[g.Lease]
	if h.Rights == nil {
		now := time.Now()
		h = aws.Held{Rights: g.Rights, Made: now, Until: now.Add(g.TTL)}
	}
	h.HandedOut = h.HandedOut || handedOut
	b.leases[g.Lease] = h
}

// forget is what a store does that was restored from before the lease.
func (b *book) forget(lease string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.leases, lease)
}

// sessions and principals are targets whose grants are in a book before and after, as a broker's are in its store.
type (
	sessions struct {
		*aws.Sessions
		book *book
	}
	principals struct {
		*aws.Principals
		book *book
	}
)

func (s sessions) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	return s.book.around(ctx, g, s.Sessions.Grant)
}

func (p principals) Grant(ctx context.Context, g target.Grant) (target.Credential, error) {
	return p.book.around(ctx, g, p.Principals.Grant)
}

func (b *book) around(ctx context.Context, g target.Grant, grant func(context.Context, target.Grant) (target.Credential, error)) (target.Credential, error) {
	if len(g.Lease) == 20 && len(g.Rights) > 20 {
		b.put(g, false)
	}
	c, err := grant(ctx, g)
	if err == nil {
		b.put(g, true)
	}
	return c, err
}

// rig is an issuer, a book, and a log.
type rig struct {
	issuer   *issuer.Issuer
	book     *book
	log      *testbed.Log
	instance string

	mu     sync.Mutex  // guards what follows
	tokens []aws.Token // that were asked for
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return &rig{issuer: newIssuer(t), book: &book{leases: map[string]aws.Held{}}, log: &testbed.Log{}, instance: "abc234"}
}

func (r *rig) sign(ctx context.Context, t aws.Token) (secret.Text, error) {
	r.mu.Lock()
	r.tokens = append(r.tokens, t)
	r.mu.Unlock()
	return r.issuer.Sign(ctx, issuer.Token{ID: t.ID, Subject: t.Subject, Audience: []string{t.Audience}, TTL: t.TTL, Claims: t.Claims})
}

func (r *rig) config(settings aws.Settings) aws.Config {
	settings.Region = "eu-central-1"
	return aws.Config{
		Instance: r.instance, Name: "account", Issuer: r.issuer.URL(), Settings: settings, Sign: r.sign, Lease: r.book.held,
		Now: time.Now, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
}

func short(d time.Duration) *api.Duration {
	v := api.Duration(d)
	return &v
}

// keysOf are the keys in a credential.
func keysOf(c target.Credential) sdk.Credentials {
	return sdk.Credentials{
		AccessKeyID: c.Attributes["access_key_id"].(string), SecretAccessKey: c.Secrets["secret_access_key"].Reveal(), SessionToken: text(c.Secrets["session_token"]),
	}
}

func text(t secret.Text) string {
	if t.IsZero() {
		return ""
	}
	return t.Reveal()
}

// ask sends one request with keys to a service at a URL, as the SDK would, and returns the body of a good answer.
func ask(ctx context.Context, keys sdk.Credentials, service, method, url, body string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if body != "" && service != "s3" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	request.Header.Set("X-Amz-Content-Sha256", hash)
	sign := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" }
	if err := v4.NewSigner(sign).SignHTTP(ctx, keys, request, hash, service, "us-east-1", time.Now()); err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%d: %s", answer.StatusCode, text)
	}
	return string(text), err
}
