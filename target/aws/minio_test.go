package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/daypass/daypass/internal/testbed"
	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/targettest"
)

// shop is a MinIO that trusts our issuer, with two objects: shop/orders/1 and shop/secrets/1.
type shop struct {
	*rig
	minio *testbed.MinIO
}

const audience = "sts.amazonaws.com"

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{rig: newRig(t)}
	s.minio = testbed.OwnMinIO(t, testbed.MinIOOptions{Issuer: s.issuer.URL(), Audience: audience, Policy: "readwrite"})
	owner := sdk.Credentials{AccessKeyID: s.minio.User, SecretAccessKey: s.minio.Password}
	if _, err := ask(t.Context(), owner, "s3", http.MethodPut, s.minio.URL+"/shop", ""); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{"/shop/orders/1": "an order", "/shop/secrets/1": "a secret"} {
		if _, err := ask(t.Context(), owner, "s3", http.MethodPut, s.minio.URL+path, body); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// again is the same shop with a book and a log of its own.
func (s *shop) again() *shop {
	return &shop{rig: &rig{issuer: s.issuer, book: &book{leases: map[string]aws.Held{}}, log: &testbed.Log{}, instance: s.instance}, minio: s.minio}
}

func (s *shop) open(t testing.TB) target.Target {
	t.Helper()
	opened, err := aws.NewSessions(s.config(aws.Settings{STS: s.minio.URL, TokenLife: true, Leeway: short(time.Second)}))
	if err != nil {
		t.Fatal(err)
	}
	return sessions{opened, s.book}
}

// reader are rights to read what is below orders/.
func (s *shop) reader() json.RawMessage {
	text, err := json.Marshal(aws.Rights{RoleARN: s.minio.RoleARN, SessionPolicy: map[string]any{
		"Version":   "2012-10-17",
		"Statement": []any{map[string]any{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::shop/orders/*"}},
	}})
	if err != nil {
		panic(err)
	}
	return text
}

func (s *shop) get(ctx context.Context, c target.Credential, key string) error {
	_, err := ask(ctx, keysOf(c), "s3", http.MethodGet, s.minio.URL+"/shop/"+key, "")
	return err
}

// TestSessionsConform runs on MinIO's STS, which verifies our tokens, narrows by session policies and ends sessions.
func TestSessionsConform(t *testing.T) {
	t.Parallel()
	all := newShop(t)
	targettest.RunTogether(t, func(t *testing.T) targettest.Fixture {
		s := all.again()
		return targettest.Fixture{
			Target: s.open(t),
			Rights: s.reader(),
			TTL:    4 * time.Second,
			Try:    func(ctx context.Context, c target.Credential) error { return s.get(ctx, c, "orders/1") },
			Exceed: func(ctx context.Context, c target.Credential) error { return s.get(ctx, c, "secrets/1") },
			Alive: func(ctx context.Context, lease string) (bool, error) {
				held, err := s.book.held(ctx, lease)
				return held.HandedOut && time.Now().Before(held.Until), err
			},
			Name: func(target.Credential) string {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.tokens[len(s.tokens)-1].ID
			},
			Logs: s.log.String,
			Skips: map[targettest.Capability]string{
				targettest.Sessions:    "AWS checks each request by itself: there is nothing that stays open",
				targettest.LostAnswers: "of sessions: one whose answer was lost is held by nobody",
				targettest.LateGrants:  "of sessions: one that comes late is held by nobody",
				targettest.Listing:     "of sessions: AWS keeps no list of them",
				targettest.Renewal:     "the time of a session and of a role's sessions is set at their beginning: acquire another",
				targettest.Narrowing:   "a session keeps the policy that it was asked for with",
				targettest.Marking:     "of sessions: there is nothing at AWS that is ours",
				targettest.Clocks:      "AWS says no time but in what it signs",
				targettest.Expiries:    "of sessions: AWS tells who holds one, and nobody else",
			},
		}
	})
}

func TestTheOfficialCLIReadsAnObject(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c, err := s.open(t).Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "read-orders", Rights: s.reader(), TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{
		"AWS_ACCESS_KEY_ID=" + keysOf(c).AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keysOf(c).SecretAccessKey, "AWS_SESSION_TOKEN=" + keysOf(c).SessionToken,
		"AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + s.minio.URL,
	}
	out, err := testbed.AWS(t.Context(), t, environment, "s3", "cp", "s3://shop/orders/1", "-")
	if err != nil || out != "an order" {
		t.Errorf("aws s3 cp: %v: %s", err, out)
	}
	if out, err := testbed.AWS(t.Context(), t, environment, "s3", "cp", "s3://shop/secrets/1", "-"); err == nil || !strings.Contains(out, "403") && !strings.Contains(out, "AccessDenied") {
		t.Errorf("what the session policy does not give: %v: %s", err, out)
	}
}

// TestMinIORefusesTokensThatAreNotOurs shows that the STS of these tests does verify, so that what passes it proves something.
func TestMinIORefusesTokensThatAreNotOurs(t *testing.T) {
	t.Parallel()
	s, stranger := newShop(t), newIssuer(t)
	for name, change := range map[string]func(*aws.Config){
		"signed by another issuer":            func(c *aws.Config) { c.Sign = (&rig{issuer: stranger}).sign },
		"for another audience":                func(c *aws.Config) { c.Settings.Audience = "elsewhere" },
		"one letter of its signature changed": func(c *aws.Config) { c.Sign = tampered(c.Sign) },
	} {
		cfg := s.config(aws.Settings{STS: s.minio.URL, TokenLife: true})
		change(&cfg)
		opened, err := aws.NewSessions(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = opened.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "read-orders", Rights: s.reader(), TTL: time.Minute})
		if err == nil {
			t.Errorf("%s: MinIO took it", name)
		}
	}
	cfg := s.config(aws.Settings{STS: s.minio.URL, TokenLife: true})
	opened, err := aws.NewSessions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	lease := targettest.Lease()
	if _, err := opened.Grant(t.Context(), target.Grant{Lease: lease, Role: "read-orders", Rights: s.reader(), TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	s.book.put(target.Grant{Lease: lease, Rights: s.reader(), TTL: time.Minute}, true)
	if _, lives := errors.AsType[*target.UnexpiredError](opened.Revoke(t.Context(), lease)); !lives {
		t.Error("a session that nobody can pull was called revoked before its end")
	}
}

func tampered(sign func(context.Context, aws.Token) (secret.Text, error)) func(context.Context, aws.Token) (secret.Text, error) {
	return func(ctx context.Context, token aws.Token) (secret.Text, error) {
		signed, err := sign(ctx, token)
		if err != nil {
			return signed, err
		}
		b := []byte(signed.Reveal())
		at := len(b) - 10 // not among the last bits, which encode nothing
		if b[at] == 'A' {
			b[at] = 'B'
		} else {
			b[at] = 'A'
		}
		return secret.New(string(b)), nil
	}
}

// TestACheckTakesEachRoleForNothing asks a real STS, with tokens as workloads have them.
func TestACheckTakesEachRoleForNothing(t *testing.T) {
	t.Parallel()
	s, stranger := newShop(t), newIssuer(t)
	for name, c := range map[string]struct {
		change func(*aws.Config)
		want   []string
	}{
		"what it trusts": {func(*aws.Config) {}, nil},
		"another audience": {func(c *aws.Config) { c.Settings.Audience = "elsewhere" },
			[]string{`problem: a token of role "read-orders" (issuer ` + s.issuer.URL() + ", audience elsewhere, subject role:read-orders) does not take " + s.minio.RoleARN, "its audience is not the one that the other side takes"}},
		"another issuer": {func(c *aws.Config) { c.Sign = (&rig{issuer: stranger}).sign }, []string{"the other side does not find the key that signed it. AWS says InvalidParameterValue: No public key found", "daypass trust check read-orders"}},
		"a role that there is not": {func(c *aws.Config) {
			c.Roles = func(context.Context) (map[string]string, error) {
				return map[string]string{"read-orders": "arn:minio:iam:::role/nobody"}, nil
			}
		}, []string{"does not take arn:minio:iam:::role/nobody: there is no such role"}},
	} {
		cfg := s.config(aws.Settings{STS: s.minio.URL, TokenLife: true})
		cfg.Roles = func(context.Context) (map[string]string, error) {
			return map[string]string{"read-orders": s.minio.RoleARN}, nil
		}
		c.change(&cfg)
		opened, err := aws.NewSessions(cfg)
		if err != nil {
			t.Fatal(err)
		}
		found, err := opened.Check(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all := ""
		for _, f := range found {
			if f.Severity != target.Note {
				all += fmt.Sprintf("%s: %s (%s)\n", f.Severity, f.Message, f.Fix)
			}
		}
		for _, want := range c.want {
			if !strings.Contains(all, want) {
				t.Errorf("%s: found %s, want %s", name, all, want)
			}
		}
		if c.want == nil && all != "" {
			t.Errorf("%s: found %s", name, all)
		}
	}
	gone := s.config(aws.Settings{STS: "http://127.0.0.1:1", TokenLife: true})
	gone.Roles = func(context.Context) (map[string]string, error) {
		return map[string]string{"read-orders": s.minio.RoleARN}, nil
	}
	opened, err := aws.NewSessions(gone)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := opened.Check(t.Context()); err == nil {
		t.Errorf("an STS that does not answer was checked: %v", found)
	}
}
