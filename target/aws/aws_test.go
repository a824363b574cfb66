package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/daypass/daypass/target"
	"github.com/daypass/daypass/target/aws"
	"github.com/daypass/daypass/target/targettest"
)

const (
	role        = "arn:aws:iam::123456789012:role/app"
	plainRights = `{"role_arn":"` + role + `"}`
)

func TestWhatStrangersChooseNamesNothing(t *testing.T) {
	r := newRig(t)
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		seen = request.FormValue("RoleSessionName")
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	opened, err := aws.NewSessions(r.config(aws.Settings{STS: server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(`^[A-Za-z0-9_.:/=+@-]{1,256}$`) // of what AWS allows in tags, what is ASCII
	tags := map[string]string{}
	for _, subject := range []string{
		"repo:acme/orders:ref:refs/heads/main", "repo:acme/orders:ref:refs/heads/ma*n", "*", "?", "${aws:username}", "a b", "a=20b", "a\x00b", "a\nb", "Ｆullwidth",
		"раураl", "pаypal", strings.Repeat("a", 5000), strings.Repeat("a", 5000) + "b", strings.Repeat("*", 200), strings.Repeat("*", 199) + "?", `"},{"Effect":"Allow`, "=", "==", "",
	} {
		lease := targettest.Lease()
		g := target.Grant{Lease: lease, Role: "deploy", Rights: json.RawMessage(plainRights), TTL: time.Hour, Holder: target.Holder{Issuer: "github", Subject: subject, Claims: map[string]any{"lease": "x"}}}
		if _, err := opened.Grant(t.Context(), g); err == nil {
			t.Fatal("a refusal was taken for a session")
		}
		token := r.tokens[len(r.tokens)-1]
		principal := token.Claims["https://aws.amazon.com/tags"].(map[string]any)["principal_tags"].(map[string]any)
		value := principal["principal"].([]any)[0].(string)
		if !allowed.MatchString(value) {
			t.Errorf("%.30q: the tag %q is not one that AWS takes", subject, value)
		}
		if other, taken := tags[value]; taken {
			t.Errorf("%.30q and %.30q have one tag", subject, other)
		}
		tags[value] = subject
		want := "dp_abc234_" + lease
		if seen != want || token.Claims["https://aws.amazon.com/source_identity"] != want || token.Subject != "role:deploy" || principal["lease"].([]any)[0] != lease {
			t.Errorf("%.30q: the session is called %q and its token says %+v", subject, seen, token)
		}
	}
}

func TestRefusalsOfAWSDidNothingAndOtherErrorsMayHave(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		status  int
		body    string
		notDone bool
	}{
		"the role does not trust us":  {403, errorBody("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"), true},
		"the token is not taken":      {400, errorBody("InvalidIdentityToken", "No OpenIDConnect provider found"), true},
		"the session is too long":     {400, errorBody("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration"), true},
		"the policy is too long":      {400, errorBody("PackedPolicyTooLarge", "Packed policy consumes 101% of allotted space"), true},
		"AWS cannot reach our issuer": {400, errorBody("IDPCommunicationError", "try again"), false},
		"AWS throttles":               {400, errorBody("Throttling", "Rate exceeded"), false},
		"AWS fails":                   {500, errorBody("InternalFailure", "sorry"), false},
		"what answers is not AWS":     {200, "<html>", false},
	} {
		calls := 0
		var sent []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			calls++
			sent = append(sent, request.FormValue("WebIdentityToken"))
			w.Header().Set("Content-Type", "text/xml")
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		opened, err := aws.NewSessions(r.config(aws.Settings{STS: server.URL}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = opened.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(plainRights), TTL: time.Hour})
		server.Close()
		if err == nil || errors.Is(err, target.ErrNotDone) != c.notDone {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if calls > 3 {
			t.Errorf("%s: asked %d times", name, calls)
		}
		for _, token := range sent {
			if token != "" && strings.Contains(err.Error(), token) {
				t.Errorf("%s: the error quotes our token", name)
			}
		}
	}
}

func errorBody(code, message string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code + `</Code><Message>` + message + `</Message></Error><RequestId>r</RequestId></ErrorResponse>`
}

func TestSessionsAreNoLongerThanTheyMustBe(t *testing.T) {
	r := newRig(t)
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		asked = request.FormValue("DurationSeconds")
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	opened, err := aws.NewSessions(r.config(aws.Settings{STS: server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	for ttl, want := range map[time.Duration]string{time.Minute: "900", 15 * time.Minute: "900", time.Hour + time.Millisecond: "3601", 12 * time.Hour: "43200"} {
		_, _ = opened.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(plainRights), TTL: ttl})
		if asked != want {
			t.Errorf("a lease of %s asks for %s s, want %s", ttl, asked, want)
		}
	}
	_, err = opened.Grant(t.Context(), target.Grant{Lease: targettest.Lease(), Role: "deploy", Rights: json.RawMessage(plainRights), TTL: 13 * time.Hour})
	if _, ok := errors.AsType[*target.RefusalError](err); !ok {
		t.Errorf("a lease of 13h: got %v, want a refusal", err)
	}
	// A session of 15 minutes outlives its lease of 5: nothing is called revoked before.
	lease := targettest.Lease()
	now := time.Now()
	r.book.leases[lease] = aws.Held{Rights: json.RawMessage(plainRights), HandedOut: true, Made: now, Until: now.Add(5 * time.Minute)}
	unexpired, ok := errors.AsType[*target.UnexpiredError](opened.Revoke(t.Context(), lease))
	if !ok || unexpired.Until.Before(now.Add(15*time.Minute)) || unexpired.Until.After(now.Add(17*time.Minute)) {
		t.Errorf("it is said to live until %v", unexpired)
	}
	// A user or role of its own does not end with its session, and nothing here can end it.
	own := targettest.Lease()
	r.book.leases[own] = aws.Held{Rights: lister("user"), HandedOut: true, Made: now.Add(-20 * time.Hour), Until: now.Add(-19 * time.Hour)}
	if err := opened.Revoke(t.Context(), own); err == nil || !strings.Contains(err.Error(), "needs manage.per_lease") {
		t.Errorf("a user of its own without what manages it: %v", err)
	}
}

// TestADenyEndsOneSession shows the shape of a deny at IAM. That AWS ends a session by it, only AWS can show.
func TestADenyEndsOneSession(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	cfg := a.config(a.settings(a.moto.Address(), false))
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	cfg.Roles = func(context.Context) (map[string]string, error) { return map[string]string{"app": a.arn("app")}, nil }
	opened, err := aws.NewSessions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := sessions{opened, a.book}
	leases := []string{targettest.Lease(), targettest.Lease()}
	for _, lease := range leases {
		c, err := s.Grant(t.Context(), target.Grant{Lease: lease, Role: "app", Rights: json.RawMessage(`{"role_arn":"` + a.arn("app") + `"}`), TTL: time.Hour})
		if err != nil || c.Revocation != target.Assisted {
			t.Fatalf("grant: %v of class %s", err, c.Revocation)
		}
	}
	ended := make(chan error, 4)
	for _, lease := range append(leases, leases...) {
		go func() { ended <- s.Revoke(context.WithoutCancel(t.Context()), lease) }()
	}
	for range 4 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	policies := func() []string {
		found, err := a.iam.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: sdk.String("app")})
		if err != nil {
			t.Fatal(err)
		}
		return found.PolicyNames
	}
	if found := policies(); len(found) != 2 {
		t.Fatalf("the role has the policies %v, want a deny for each session", found)
	}
	deny, err := a.iam.GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: sdk.String("app"), PolicyName: sdk.String("dp_abc234_" + leases[0])})
	if err != nil || !strings.Contains(*deny.PolicyDocument, leases[0]) || strings.Contains(*deny.PolicyDocument, leases[1]) {
		t.Errorf("the deny is %v (%v)", deny, err)
	}
	if _, err := s.Clean(t.Context()); err != nil || len(policies()) != 2 {
		t.Errorf("a deny was taken away while its session may live: %v, %v", policies(), err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := s.Clean(t.Context()); err != nil || len(policies()) != 0 {
		t.Errorf("denies stay when their sessions are dead: %v, %v", policies(), err)
	}
}

func TestDeletingAUserTakesAllThatItsHolderAdded(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	p := a.open(t, a.moto.Address())
	lease := targettest.Lease()
	if _, err := p.Grant(t.Context(), target.Grant{Lease: lease, Role: "admin", Rights: lister("user"), TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	name, ctx := sdk.String("dp_abc234_"+lease), t.Context()
	device, err := a.iam.CreateVirtualMFADevice(ctx, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: sdk.String("phone")})
	for what, do := range map[string]func() error{
		"a second key": func() error {
			_, err := a.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
			return err
		},
		"a login profile": func() error {
			_, err := a.iam.CreateLoginProfile(ctx, &iam.CreateLoginProfileInput{UserName: name, Password: sdk.String("Passw0rd!Passw0rd!")})
			return err
		},
		"an MFA device": func() error {
			if err != nil {
				return err
			}
			_, err := a.iam.EnableMFADevice(ctx, &iam.EnableMFADeviceInput{UserName: name, SerialNumber: device.VirtualMFADevice.SerialNumber, AuthenticationCode1: sdk.String("123456"), AuthenticationCode2: sdk.String("234567")})
			return err
		},
		"an SSH key": func() error {
			_, err := a.iam.UploadSSHPublicKey(ctx, &iam.UploadSSHPublicKeyInput{UserName: name, SSHPublicKeyBody: sdk.String("ssh-rsa AAAAB3NzaC1yc2E")})
			return err
		},
		"an inline policy": func() error {
			_, err := a.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: sdk.String("more"), PolicyDocument: sdk.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)})
			return err
		},
		"an attached policy": func() error {
			made, err := a.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: sdk.String("extra"), PolicyDocument: sdk.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)})
			if err == nil {
				_, err = a.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: name, PolicyArn: made.Policy.Arn})
			}
			return err
		},
		"a group": func() error {
			_, err := a.iam.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: sdk.String("staff")})
			if err == nil {
				_, err = a.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: name, GroupName: sdk.String("staff")})
			}
			return err
		},
	} {
		if err := do(); err != nil {
			t.Errorf("give the user %s: %v", what, err)
		}
	}
	if err := p.Revoke(ctx, lease); err != nil {
		t.Fatal(err)
	}
	if _, err := a.iam.GetUser(ctx, &iam.GetUserInput{UserName: name}); err == nil || !strings.Contains(err.Error(), "NoSuchEntity") {
		t.Errorf("the user is there: %v", err)
	}
	if _, err := a.iam.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: name}); err == nil {
		t.Error("the login profile is there")
	}
}

func TestALeaseThatTheStoreForgotIsEndedAllTheSame(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	p := a.open(t, a.moto.Address())
	for _, kind := range []string{"user", "role"} {
		lease := targettest.Lease()
		c, err := p.Grant(t.Context(), target.Grant{Lease: lease, Role: "admin", Rights: lister(kind), TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		a.book.forget(lease)
		if err := p.Revoke(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if a.act(t.Context(), c, "ListUsers") == nil {
			t.Errorf("the %s works", kind)
		}
		if _, err := p.Grant(t.Context(), target.Grant{Lease: lease, Role: "admin", Rights: lister(kind), TTL: time.Hour}); !errors.Is(err, target.ErrNotDone) {
			t.Errorf("a grant after the end of its lease: %v", err)
		}
	}
}

func TestTombsGoWhenNothingCanComeLate(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	cfg := a.config(a.settings(a.moto.Address(), true))
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	p, err := aws.NewPrincipals(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Revoke(t.Context(), targettest.Lease()); err != nil { // of a lease that nobody knows
		t.Fatal(err)
	}
	tombs := func() int {
		users, err := a.iam.ListUsers(t.Context(), &iam.ListUsersInput{PathPrefix: sdk.String("/daypass/abc234/ended/")})
		if err != nil {
			t.Fatal(err)
		}
		roles, err := a.iam.ListRoles(t.Context(), &iam.ListRolesInput{PathPrefix: sdk.String("/daypass/abc234/ended/")})
		if err != nil {
			t.Fatal(err)
		}
		return len(users.Users) + len(roles.Roles)
	}
	if _, err := p.Clean(t.Context()); err != nil || tombs() != 2 {
		t.Errorf("%d tombs of a young end (%v), want a user's and a role's", tombs(), err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := p.Clean(t.Context()); err != nil || tombs() != 0 {
		t.Errorf("%d tombs of an old end (%v)", tombs(), err)
	}
}

func TestCheckSaysWhatTheManagingRoleLacks(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	p := a.open(t, a.moto.Address())
	worst := func(findings []target.Finding, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, f := range findings {
			texts = append(texts, string(f.Severity)+": "+f.Message)
		}
		return strings.Join(texts, "\n")
	}
	if got := worst(p.Check(t.Context())); !strings.Contains(got, "warning: the role that manages may delete users that are not of Daypass") {
		t.Errorf("one that may do everything: %s", got)
	}
	a.must(t, func(ctx context.Context) error {
		_, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: sdk.String("daypass"), PolicyName: sdk.String("manage"),
			PolicyDocument: sdk.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:List*","Resource":"*"}}`)})
		return err
	})
	if got := worst(p.Check(t.Context())); !strings.Contains(got, "problem: the role that manages may not delete users") || strings.Contains(got, "list users") {
		t.Errorf("one that may only list: %s", got)
	}
	cfg := a.config(a.settings(a.moto.Address(), false))
	cfg.Roles = func(context.Context) (map[string]string, error) { return map[string]string{"app": a.arn("app")}, nil }
	s, err := aws.NewSessions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := worst(s.Check(t.Context())); !strings.Contains(got, "problem: sessions of "+a.arn("app")+" cannot be ended early") {
		t.Errorf("sessions under one that may only list: %s", got)
	}
}
