package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/secret"
	"github.com/daypass/daypass/target"
)

// Settings is the `postgres:` section of a target: how Daypass reaches it.
type Settings struct {
	// URL is postgres://login@host:port/database. It holds no password, which only ever goes out by scram-sha-256.
	// Parameters: sslmode (verify-full when absent; verify-ca takes any name; require and disable are for servers
	// on this machine), channel_binding, connect_timeout (seconds), and host for the directory of a socket. All
	// others are refused, and neither the environment nor a service or password file is read.
	URL string `yaml:"url" json:"url"`
	// Password names the file below secrets_dir with the administrator's password.
	Password File `yaml:"password" json:"password"`
	// CA names the file with the certificates (PEM) that verify the server; absent means the system's.
	CA File `yaml:"ca" json:"ca,omitzero"`
}

// Client is the `client:` section of a target: what workloads are told where it differs from what Daypass uses.
type Client struct {
	Host    string `yaml:"host" json:"host,omitempty"`
	Port    int    `yaml:"port" json:"port,omitempty"`
	SSLMode string `yaml:"sslmode" json:"sslmode,omitempty"`
	// CA names the file with the certificates (PEM) that workloads verify the server with.
	CA File `yaml:"ca" json:"ca,omitzero"`
}

// File refers to a file by name, so that nothing secret is inline.
type File struct {
	File string `yaml:"file" json:"file,omitempty"`
}

// Config is everything that [New] needs. Files are read already.
type Config struct {
	Instance string      // the installation, 4 to 6 characters of lowercase base32
	Settings Settings    // the target's section
	Password secret.Text // of the login in Settings.URL
	CA       string      // PEM; empty: the system's certificates
	Client   Client      // what workloads are told
	ClientCA string      // PEM for workloads; empty: none is handed out
	Mark     target.Mark // which target and boot this is; Mark.Instance is set from Instance when it is empty
	// Boot is that of this process; Mark.Boot where it is 0. Peers are the boots of other processes of the same store
	// that live: what they do here is left alone. None where Peers is nil.
	Boot  int64
	Peers func(context.Context) ([]int64, error)
	// Known says that the store has met this target before. A server without our mark is then another server,
	// and nothing is granted or called revoked there until Mark is called on purpose.
	Known bool
	// AllowRoles lists roles for in_role and owner that would otherwise be refused as too powerful. Superusers and
	// roles of ours are refused all the same.
	AllowRoles []string
	// Grace is added to the expiry that the server enforces, so that revocation normally comes first; 30 s when
	// it is zero.
	Grace time.Duration
	Log   *slog.Logger // nil: nothing is logged

	groupConnections int // 3 unless a test says otherwise
}

// endpoint is a parsed [Settings].URL.
type endpoint struct {
	user, host, database string
	port                 uint16
	sslmode              string
	channelBinding       string
	connectTimeout       time.Duration
}

// Validate returns every mistake, each a [target.FieldError].
func (s Settings) Validate() error {
	_, err := s.parse()
	return err
}

// Validate returns every mistake, each a [target.FieldError].
func (c Client) Validate() error {
	var errs []error
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, target.Wrong("port", "%d is not a port", c.Port))
	}
	modes := []string{"", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	if !slices.Contains(modes, c.SSLMode) {
		errs = append(errs, target.Wrong("sslmode", "%q is not one of %s", c.SSLMode, strings.Join(modes[1:], ", ")))
	}
	return errors.Join(errs...)
}

// parse reads the URL by an allow-list: drivers honour parameters that read files or send the password elsewhere.
func (s Settings) parse() (endpoint, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return endpoint{}, target.Wrong("url", "not a URL") // the parser's error would quote a password
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return endpoint{}, target.Wrong("url", "want postgres://login@host:port/database")
	}
	if _, inline := u.User.Password(); inline {
		return endpoint{}, target.Wrong("url", "holds a password; use password: {file: …}")
	}
	e := endpoint{
		user: u.User.Username(), host: u.Hostname(), database: strings.TrimPrefix(u.Path, "/"), port: 5432,
		sslmode: "verify-full", channelBinding: "prefer", connectTimeout: 10 * time.Second,
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return endpoint{}, target.Wrong("url", "%q is not a port", text)
		}
		e.port = uint16(port)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return endpoint{}, target.Wrong("url", "its parameters cannot be read")
	}
	for name, values := range query {
		if len(values) != 1 {
			return endpoint{}, target.Wrong("url", "parameter %s is given twice", name)
		}
		if err := e.parameter(name, values[0]); err != nil {
			return endpoint{}, err
		}
	}
	switch {
	case e.user == "":
		return endpoint{}, target.Wrong("url", "names no login")
	case e.host == "" || strings.Contains(e.host, ","):
		return endpoint{}, target.Wrong("url", "want exactly one host")
	case e.database == "" || strings.Contains(e.database, "/"):
		return endpoint{}, target.Wrong("url", "names no database")
	case !e.local() && !e.verified():
		return endpoint{}, &target.FieldError{
			Path: "url",
			Text: fmt.Sprintf("sslmode=%s shows the administrator's credential to whoever answers as %s; want sslmode=verify-full or verify-ca", e.sslmode, e.host),
			Help: "for an authority of your own, name its certificate: ca: {file: …}; only servers on this machine go without",
		}
	}
	return e, nil
}

// parameter takes one parameter of the URL, or refuses it.
func (e *endpoint) parameter(name, value string) error {
	oneOf := func(into *string, allowed ...string) error {
		if !slices.Contains(allowed, value) {
			return target.Wrong("url", "%s=%s: want one of %s", name, value, strings.Join(allowed, ", "))
		}
		*into = value
		return nil
	}
	switch name {
	case "sslmode":
		return oneOf(&e.sslmode, "verify-full", "verify-ca", "require", "disable")
	case "require_auth":
		var always string // the one method by which the server learns nothing that it did not know
		return oneOf(&always, "scram-sha-256")
	case "channel_binding":
		return oneOf(&e.channelBinding, "prefer", "require", "disable")
	case "connect_timeout":
		seconds, err := strconv.Atoi(value)
		if err != nil || seconds < 1 || seconds > 300 {
			return target.Wrong("url", "connect_timeout=%s: want 1 to 300 seconds", value)
		}
		e.connectTimeout = time.Duration(seconds) * time.Second
		return nil
	case "host":
		if !strings.HasPrefix(value, "/") || e.host != "" {
			return target.Wrong("url", "parameter host is for the directory of a socket")
		}
		e.host = value
		return nil
	}
	return target.Wrong("url", "parameter %s is not allowed (sslmode, channel_binding, connect_timeout, host)", name)
}

// socket reports whether the server is reached through a socket of this machine.
func (e endpoint) socket() bool { return strings.HasPrefix(e.host, "/") }

// local reports whether nobody is between us and the server.
func (e endpoint) local() bool {
	ip := net.ParseIP(e.host)
	return e.socket() || e.host == "localhost" || ip != nil && ip.IsLoopback()
}

// verified reports whether the server must prove that it is the one we mean.
func (e endpoint) verified() bool { return e.sslmode == "verify-full" || e.sslmode == "verify-ca" }

// tls makes the TLS settings of the mode; nil is no TLS.
func (e endpoint) tls(ca string) (*tls.Config, error) {
	if e.sslmode == "disable" || e.socket() {
		return nil, nil
	}
	config := &tls.Config{ServerName: e.host, MinVersion: tls.VersionTLS12}
	if ca != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("ca: no certificate in it")
		}
	}
	if e.sslmode == "verify-full" {
		return config, nil
	}
	config.InsecureSkipVerify = true // verify-ca checks below; require is for this machine
	if e.sslmode == "verify-ca" {
		roots := config.RootCAs
		config.VerifyConnection = func(state tls.ConnectionState) error {
			options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, certificate := range state.PeerCertificates[1:] {
				options.Intermediates.AddCert(certificate)
			}
			_, err := state.PeerCertificates[0].Verify(options)
			return err
		}
	}
	return config, nil
}

// told is what workloads use to reach the server.
func (e endpoint) told(client Client) (host string, port int, sslmode string) {
	host, port, sslmode = e.host, int(e.port), e.sslmode
	if client.Host != "" {
		host = client.Host
	}
	if client.Port != 0 {
		port = client.Port
	}
	if client.SSLMode != "" {
		sslmode = client.SSLMode
	}
	return host, port, sslmode
}

// title names the target in errors and logs without anything secret.
func (e endpoint) title() string {
	return fmt.Sprintf("postgres %s/%s", net.JoinHostPort(e.host, strconv.Itoa(int(e.port))), e.database)
}
