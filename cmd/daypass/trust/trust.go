package trust

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/client"
	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/inspection"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/terminal"
	"github.com/daypass/daypass/internal/trust"
	"github.com/daypass/daypass/target"
)

func (a *app) trustCommand() *cobra.Command {
	c := &cobra.Command{Use: "trust", Short: "make others trust our issuer, and see whether they can", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.renderCommand(), a.trustCheckCommand())
	return c
}

// trusted is what is known of a role whose tokens others are to trust.
type trusted struct {
	config, access, issuer, subject string
}

func (t *trusted) addTo(a *app, c *cobra.Command) {
	a.AddConfig(c, &t.config)
	c.Flags().StringVar(&t.access, "access", "", "`directory` of access files; that of the configuration unless given")
	c.Flags().StringVar(&t.issuer, "issuer", "", "`URL` of our issuer; that of the configuration unless given")
	c.Flags().StringVar(&t.subject, "subject", "", "the `subject` of the tokens, where the role's depends on who has it")
}

// trustSource is where roles are looked up, and what the access files leave to the server.
type trustSource struct {
	files          map[string]string
	url, algorithm string
}

// source reads what was named, and what the configuration says where nothing was.
func (t *trusted) source(c *cobra.Command) (s trustSource, err error) {
	cfg, err := config.Load(t.config)
	absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
	if err != nil && (!absent || c.Flags().Changed("config")) {
		return s, err
	}
	dir := cmp.Or(t.access, cfg.Access)
	s.url, s.algorithm = cmp.Or(t.issuer, cfg.Issuer.URL, cfg.OwnURL()), cmp.Or(cfg.Issuer.Algorithm, "RS256")
	switch {
	case dir == "":
		return s, terminal.Hinted(terminal.Usage("where the access files are is not known"), "--access DIR, or --config FILE with the server's configuration")
	case s.url == "":
		return s, terminal.Hinted(terminal.Usage("the URL of our issuer is not known"),
			"--issuer https://…, as in `iss` of the tokens, or --config FILE with the server's configuration")
	}
	s.files, err = command.ReadAccess(dir)
	return s, err
}

// named reads roles, and those of targets.
func (t *trusted) named(c *cobra.Command, names []string) (all []trust.Federation, err error) {
	for _, name := range names {
		some, err := t.federations(c, name)
		if err != nil {
			return nil, err
		}
		for _, f := range some {
			if strings.Contains(f.Subject, "${") {
				return nil, terminal.Hinted(terminal.Usage(fmt.Sprintf("the subject of role %s depends on who has it: %s", terminal.Quote(f.Role), f.Subject)),
					"name one: --subject 'repo:acme%2Forders'")
			}
			if !slices.ContainsFunc(all, func(other trust.Federation) bool { return other.Role == f.Role }) {
				all = append(all, f)
			}
		}
	}
	if t.subject != "" && len(all) > 1 {
		return nil, terminal.UsageOf(c.CommandPath(), "--subject is of one role, and more are named")
	}
	return all, nil
}

// federations reads a role, or those of a target.
func (t *trusted) federations(c *cobra.Command, name string) ([]trust.Federation, error) {
	s, err := t.source(c)
	if err != nil {
		return nil, err
	}
	roles, err := inspection.RolesAt(s.files, name)
	if err != nil {
		return nil, err
	}
	var all []trust.Federation
	for _, role := range roles {
		f, err := inspection.FederationOf(s.files, role, s.url, s.algorithm)
		if err != nil {
			return nil, err
		}
		f.Subject = cmp.Or(t.subject, f.Subject)
		all = append(all, f)
	}
	return all, nil
}

func (a *app) renderCommand() *cobra.Command {
	t, format := &trusted{}, ""
	c := &cobra.Command{
		Use: "render PLATFORM ROLE|TARGET…", Short: "print what makes a platform trust the tokens of roles",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return terminal.Usage("render takes PLATFORM and at least one ROLE or TARGET")
			}
			return nil
		},
		Long: command.Wrap(`For aws, azure, gcp, kubernetes and vault (OpenBao too): Terraform, or commands with --format cli. The platform
			will trust tokens of our issuer with each role's audience and subject, and no others. Of a target it is all of its
			roles. What several share, such as the provider, is there once: name all that one side is to trust. What only the other
			side knows is a variable. Nothing is called or changed: review it, and apply it where it belongs.`),
		Example: `daypass trust render aws deploy > trust.tf
daypass trust render aws deploy read-orders > trust.tf
daypass trust render kubernetes deploy --format cli --issuer https://daypass.example.com --access ./access`,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(trust.Platforms(), args[0]) {
				return terminal.Hinted(terminal.Usage("there is no platform "+terminal.Quote(args[0])), source.Suggest(args[0], "platforms", trust.Platforms()))
			}
			roles, err := t.named(c, args[1:])
			if err != nil {
				return err
			}
			text, err := trust.Render(args[0], format, roles...)
			if err != nil {
				return terminal.UsageOf(c.CommandPath(), err.Error())
			}
			return a.Show(map[string]string{"platform": args[0], "format": format, "text": text}, func() { a.Printf("%s", terminal.CleanLines(text)) })
		},
		ValidArgs: trust.Platforms(),
	}
	t.addTo(a, c)
	c.Flags().StringVar(&format, "format", "terraform", "`form`: terraform or cli")
	command.Words(c, "format", trust.Formats()...)
	return c
}

// trustCheck is what `daypass trust check` answers.
type trustCheck struct {
	Role     string           `json:"role,omitempty"` // where one was checked
	Target   string           `json:"target"`
	Issuer   string           `json:"issuer"`
	Audience string           `json:"audience,omitempty"` // of the role
	Subject  string           `json:"subject,omitempty"`
	Roles    []string         `json:"roles,omitempty"` // where a target was checked
	Findings []target.Finding `json:"findings,omitempty"`
}

func (a *app) trustCheckCommand() *cobra.Command {
	t, ca := &trusted{}, ""
	c := &cobra.Command{
		Use: "check ROLE|TARGET", Short: "see whether others can verify the tokens of a role, and take them", Args: command.Exactly("ROLE or TARGET"),
		Long: command.Wrap(`Reads our issuer's two documents as outsiders do, over https from the issuer's URL, and compares them with what
			the server publishes: the issuer to the letter, every key, and the clocks. Then the server tries the role's target, or
			the target's roles. At AWS, Google Cloud and Azure it exchanges a token as the role's workloads have it, and nobody gets
			what comes of it: a session or token that may do nothing, at Azure one that is dropped. Where the role makes something
			per lease, it is the token by which the server manages the target, and what that may do. A refusal is explained, with
			what to type. Exits with 1 when something will not work.

			What else trusts the tokens of a role of the kind oidc-token, only it can say.`),
		Example: `daypass trust check deploy
daypass trust check aws-production --output json`,
		RunE: func(c *cobra.Command, args []string) error {
			all, err := t.federations(c, args[0])
			if err != nil {
				return err
			}
			outsider, err := outsider(ca)
			if err != nil {
				return err
			}
			admin, err := a.Admin()
			if err != nil {
				return err
			}
			found, err := a.published(c, admin, outsider, all)
			if err != nil {
				return err
			}
			check := trustCheck{Target: all[0].Target, Issuer: all[0].Issuer}
			for _, f := range all {
				check.Roles = append(check.Roles, f.Role)
			}
			if all[0].Role == args[0] {
				check.Role, check.Audience, check.Subject, check.Roles = all[0].Role, all[0].Audience, all[0].Subject, nil
			}
			check.Findings = append(found, tried(c, admin, check)...)
			return a.reportTrust(check)
		},
	}
	t.addTo(a, c)
	c.Flags().StringVar(&ca, "issuer-ca", "", "`file` of PEM certificates to trust for the issuer's URL; the system's unless given")
	return c
}

// outsider is a client that knows nothing of ours but perhaps an authority.
func outsider(caFile string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, terminal.Usage(fmt.Sprintf("--issuer-ca: %v", err))
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, terminal.Usage(fmt.Sprintf("--issuer-ca: no certificate in %s", terminal.Quote(caFile)))
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}

// published compares what outsiders read with what the server publishes.
func (a *app) published(c *cobra.Command, admin *client.Client, outsider *http.Client, all []trust.Federation) ([]target.Finding, error) {
	f := all[0] // they have one issuer
	if !strings.HasPrefix(f.Issuer, "https://") {
		return []target.Finding{{Severity: target.Problem, Message: fmt.Sprintf("outsiders cannot read our documents: %s is not https, and nobody fetches keys from there", f.Issuer),
			Fix: "give the server an https url, or publish the documents at one: issuer.url in daypass.yaml, daypass issuer publish"}}, nil
	}
	var own trust.Published
	var err error
	if own.Configuration, err = admin.IssuerDocument(c.Context(), issuer.ConfigurationPath); err != nil {
		return nil, err
	}
	if own.Keys, err = admin.IssuerDocument(c.Context(), issuer.KeysPath); err != nil {
		return nil, err
	}
	if _, err := trust.KeysURL(own.Configuration, f.Issuer); err != nil {
		return []target.Finding{{Severity: target.Problem, Message: "the server publishes for another issuer: " + err.Error(),
			Fix: "--issuer, or issuer.url in daypass.yaml"}}, nil
	}
	outside, err := inspection.LookFromOutside(c.Context(), outsider, f.Issuer)
	if err != nil {
		return []target.Finding{{Severity: target.Problem, Message: "outsiders cannot read our documents: " + err.Error(),
			Fix: "make the issuer's URL reachable, or publish the documents there: daypass issuer publish"}}, nil
	}
	found, err := clocks(c, a.Now, admin, outside)
	for _, f := range all {
		for _, one := range f.Compare(outside, own) {
			if !slices.Contains(found, one) {
				found = append(found, one)
			}
		}
	}
	return found, err
}

// clocks compares the server's clock with this machine's and with that of who publishes the documents.
func clocks(c *cobra.Command, now func() time.Time, admin *client.Client, outside trust.Published) ([]target.Finding, error) {
	read := now()
	status, err := admin.Status(c.Context())
	if err != nil {
		return nil, err
	}
	found := trust.Clocks(status.Now.Time, now(), "this machine's")
	if !outside.Date.IsZero() {
		found = append(found, trust.Clocks(status.Now.Time, outside.Date.Add(now().Sub(read)), "that of whoever publishes the documents")...)
	}
	return found, nil
}

// tried has the server try the target: what a kind of target finds out by exchanging a token, it finds there. Of a role, what
// is said of others is left out.
func tried(c *cobra.Command, admin *client.Client, of trustCheck) []target.Finding {
	check, err := admin.CheckTarget(c.Context(), of.Target)
	if err != nil {
		return []target.Finding{{Severity: target.Note, Message: fmt.Sprintf("target %s was not tried: %v", terminal.Quote(of.Target), err)}}
	}
	var found []target.Finding
	for _, f := range check.Findings {
		if of.Role == "" || f.Role == "" || f.Role == of.Role {
			found = append(found, target.Finding{Severity: target.Severity(f.Severity), Role: f.Role, Message: f.Message, Fix: f.Fix})
		}
	}
	return found
}

// reportTrust prints what was found. A problem is an error.
func (a *app) reportTrust(check trustCheck) error {
	problems := 0
	for _, f := range check.Findings {
		if f.Severity == target.Problem {
			problems++
		}
	}
	err := a.Show(check, func() {
		for _, f := range check.Findings {
			a.Printf("%s: %s\n", terminal.Mood(string(f.Severity)), terminal.CleanLines(f.Message))
			if f.Fix != "" {
				a.Printf("  %s %s\n", terminal.Faint("fix:"), terminal.CleanLines(f.Fix))
			}
		}
		switch {
		case problems > 0:
		case check.Role != "":
			a.Printf("others can verify tokens of role %s: issuer %s, audience %s, subject %s\n", terminal.Clean(check.Role), terminal.Clean(check.Issuer),
				terminal.Clean(check.Audience), terminal.Clean(check.Subject))
		default:
			a.Printf("others can verify tokens of target %s (roles %s): issuer %s\n", terminal.Clean(check.Target),
				terminal.Clean(strings.Join(check.Roles, ", ")), terminal.Clean(check.Issuer))
		}
	})
	if err == nil && problems > 0 {
		what := "role " + terminal.Quote(check.Role)
		if check.Role == "" {
			what = "target " + terminal.Quote(check.Target)
		}
		return fmt.Errorf("trust in %s has %s", what, terminal.Count(problems, "problem"))
	}
	return err
}
