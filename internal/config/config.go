// Package config is the file daypass.yaml: what can be said in it, what it means when it is not said, and what is wrong
// with it.
//
// It owns the fields (config.go, whose comments are the reference manual), what they refer to (reference.go) and every check
// that needs the file alone (validate.go, alerts.go). It promises that what is left out means something safe, and that all
// mistakes come back at once, each at its place. It makes nothing from what it reads, but for a logger (log.go); it must not
// import what does.
package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/source"
)

// Config is the file daypass.yaml. Its comments are the reference manual. Every field may be left out: what it
// then means is safe.
type Config struct {
	// Listen is the address of the HTTP API; 127.0.0.1:8420 unless given. An address that is not loopback needs
	// tls and url.
	Listen string `yaml:"listen"`
	// URL is our own URL as clients write it, https and without a slash at its end. It is the one audience that
	// workload tokens carry, compared byte for byte. Required unless listen is loopback; http://<listen> there.
	URL string `yaml:"url"`
	// TLS is the certificate of the listener. Both files are read again when they change; when the new ones are
	// bad, the old ones stay.
	TLS TLS `yaml:"tls"`
	// Socket is the path of the socket for local administration: the kernel tells who calls.
	// /run/daypass/admin.sock unless given; "none" is no socket.
	Socket string `yaml:"socket"`
	// Admins says who may administer.
	Admins Admins `yaml:"admins"`
	// Store is where everything is kept: sqlite:/// and an absolute path, a file that one server owns; or
	// postgres://user@host:port/database, a database that several servers share. Of a primary and its standbys name
	// all, host1:5432,host2:5432: the one that takes writes is used. Its parameters are sslmode=verify-full (the
	// default; sslmode=disable on this machine only) and schema=… (public). sqlite:///var/lib/daypass/daypass.db
	// unless given.
	Store string `yaml:"store"`
	// StorePassword is the file that holds the password of a PostgreSQL store: file:/// and an absolute path. None
	// unless given: the server then knows us in another way.
	StorePassword string `yaml:"store_password"`
	// StoreCA is the file with the certificates of the PostgreSQL server's authority, PEM: file:/// and an absolute
	// path. Those of the system unless given.
	StoreCA string `yaml:"store_ca"`
	// MasterKey is the key that secrets in the store are sealed under: file:/// and an absolute path.
	// file:///var/lib/daypass/master.key unless given. It is never in the store: back it up elsewhere.
	MasterKey string `yaml:"master_key"`
	// SecretsDir is the directory that `file:` references of access files resolve in, and never out of.
	// /etc/daypass/secrets unless given.
	SecretsDir string `yaml:"secrets_dir"`
	// Access is a directory of access files. It is activated at the start and on SIGHUP, when what it holds was
	// never active before: a revision that was rolled back stays rolled back. None unless given.
	Access string `yaml:"access"`
	// TrustedProxies are the networks (CIDR) of proxies in front of us. The rightmost address of X-Forwarded-For
	// that is in none of them is context.source_ip. A client certificate that one of them shows is its own and says
	// nothing of a caller. None unless given: then the header is not read.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// TimeZones are the zones that policies may ask the local time of, such as Europe/Berlin.
	TimeZones []string `yaml:"time_zones"`
	// Location says where addresses are, for policies. Nothing is known of places unless given.
	Location Location `yaml:"location"`
	// Conditions says what becomes of policies that permit acquire without a when or unless that looks at anything: off,
	// warn (they are named when a revision becomes active) or require (no such revision becomes active). off unless given.
	Conditions string `yaml:"conditions"`
	// Limits bound what one principal may do. Roles may be narrower.
	Limits Limits `yaml:"limits"`
	// Issuer is Daypass as an issuer: its tokens, which roles of the kind oidc-token and clouds get, are verified by
	// others.
	Issuer Issuer `yaml:"issuer"`
	// OAuth says how the access tokens are that workloads get for their evidence.
	OAuth OAuth `yaml:"oauth"`
	// Alerts says when people are told of what issuers and strangers do, and where.
	Alerts Alerts `yaml:"alerts"`
	// ConnectTo are networks (CIDR) that issuers, bundle endpoints, sources of posture and sinks of alerts may be in although
	// they are link-local, belong to a cloud's metadata service, or are loopback behind a name that does not say so. None unless
	// given. Private networks need no mention.
	ConnectTo []netip.Prefix `yaml:"connect_to"`
	// Postgres says what access files may ask of PostgreSQL targets.
	Postgres Postgres `yaml:"postgres"`
	// Retention says how long what has ended is kept. The ledger is kept for ever.
	Retention Retention `yaml:"retention"`
	// Log is the log on standard error.
	Log Log `yaml:"log"`
	// Traces says where traces of acquisitions are sent. Nothing is traced unless given.
	Traces Traces `yaml:"traces"`

	dev bool // made by [Dev]: status says so
}

// TLS is the section tls.
type TLS struct {
	// Certificate is the path of the certificate chain, PEM, the server's own first.
	Certificate string `yaml:"certificate"`
	// Key is the path of its private key, PEM.
	Key string `yaml:"key"`
}

// Admins is the section admins.
type Admins struct {
	// UIDs are the users who may administer over the socket; root and our own user unless uids or gids are given.
	UIDs []uint32 `yaml:"uids"`
	// GIDs are the groups whose members may, by their main group or another. The socket belongs to the first.
	GIDs []uint32 `yaml:"gids"`
	// Issuers are the names of issuers whose principals may administer remotely, where policies permit it.
	Issuers []string `yaml:"issuers"`
}

// Location is the section location.
type Location struct {
	// File is the path of a file in MaxMind's format (*.mmdb) that says in which country, and where it knows in which
	// subdivision, an address is. It is read again when it is replaced; one that is broken replaces nothing.
	File string `yaml:"file"`
}

// Limits is the section limits.
type Limits struct {
	// LeasesPerPrincipal is how many live leases a principal may have in all; 100 unless given.
	LeasesPerPrincipal int `yaml:"leases_per_principal"`
	// AcquireRate is how often a principal may acquire, such as 10/s or 90/m, with bursts of one second; 10/s
	// unless given.
	AcquireRate Rate `yaml:"acquire_rate"`
	// Connections is how many connections the listener holds at once; those that come beyond are closed. 4096 unless given.
	// One address (of IPv6 a /64) may hold a quarter of them, but for those in trusted_proxies and loopback, for which eight
	// more are kept. Where many workloads come through one address that is no proxy, such as a NAT, give four times what they
	// need. The socket for administration has none of them.
	Connections int `yaml:"connections"`
}

// Issuer is the section issuer.
type Issuer struct {
	// URL is what others know our issuer by, https and without a slash at its end: below it stand
	// /.well-known/openid-configuration and /.well-known/jwks.json. The field url unless given. Give another where a
	// bucket or web server holds copies of the two, so that this server needs no address that all can reach.
	URL string `yaml:"url"`
	// Algorithm signs tokens of roles that ask for none: RS256, which all verifiers know, or ES256, which costs a
	// thirtieth. RS256 unless given.
	Algorithm string `yaml:"algorithm"`
	// Rotate is how long keys sign before the next ones do, which were published since the rotation before; 30d
	// unless given, a day at least.
	Rotate Period `yaml:"rotate"`
	// Publish is a directory that the server keeps copies of the two documents in, each at its path, for a bucket or
	// web server to serve. It must exist. None unless given.
	Publish string `yaml:"publish"`
}

// OAuth is the section oauth.
type OAuth struct {
	// AccessTokenTTL is how long access tokens live at most; 1h unless given, a minute at least and a day at most. None
	// lives longer than the evidence that it was given for. They are bound to a key, and locks and withdrawn issuers apply
	// to them at once.
	AccessTokenTTL Period `yaml:"access_token_ttl"`
	// Nonce says whether proofs of possession need a nonce of ours: require, or off for clients that cannot take one up;
	// proofs are then good for a minute by their own clock. require unless given.
	Nonce string `yaml:"nonce"`
}

// Alerts is the section alerts.
type Alerts struct {
	// Sinks are where alerts are sent, each with the fields below. None unless given: then the log, the metrics and
	// daypass status alone tell.
	Sinks []AlertSink `yaml:"sinks"`
	// Quiet is how long a thing must not be seen for it to be over; 10m unless given, a minute at least.
	Quiet Period `yaml:"quiet"`
	// Failures is how many failed attempts in a minute, at one issuer or from one source, are a burst; 60 unless given.
	Failures int `yaml:"failures"`
	// Skew is how far ahead of ours the clock of an issuer may be; 10s unless given. Tokens are refused from 30s on.
	Skew Period `yaml:"skew"`
	// Unreachable is how long an issuer may give no keys; 5m unless given.
	Unreachable Period `yaml:"unreachable"`
	// KeysEnding is how long before the last good keys of an issuer stop working; 6h unless given. They work for a day.
	KeysEnding Period `yaml:"keys_ending"`
}

// AlertSink is one of alerts.sinks.
type AlertSink struct {
	// Name tells it from the others, in the log, metrics and daypass status: 1 to 40 of a-z, 0-9 and -.
	Name string `yaml:"name"`
	// Webhook is the URL that alerts are posted to as JSON, https or on loopback; or file:/// and the path of a file that
	// holds it. A sink has a webhook, slack or syslog.
	Webhook string `yaml:"webhook"`
	// Slack is the URL of an incoming webhook of Slack, or of what is compatible with one; best file:/// and the path of a
	// file that holds it: who knows it can post.
	Slack string `yaml:"slack"`
	// Syslog is where messages of RFC 5424 are sent: udp://, tcp:// or tls:// with host and port, or unix:///dev/log.
	Syslog string `yaml:"syslog"`
	// Key is the file with the key that signs a webhook's body, in the header Daypass-Signature: file:/// and an absolute
	// path. Read at each alert. Nothing is signed unless given.
	Key string `yaml:"key"`
	// CA is the file with the certificates (PEM) to trust instead of the system's: file:/// and an absolute path.
	CA string `yaml:"ca"`
	// Rate is how often alerts are sent, with bursts of ten; 30/m unless given.
	Rate Rate `yaml:"rate"`
}

// Postgres is the section postgres. What is here is for those who run the server to allow, not for those who write
// access files.
type Postgres struct {
	// AllowRoles are the roles that roles of access files may name in in_role and owner although they may do more than
	// read and write data: predefined ones such as pg_read_all_data, and those with createrole, createdb, replication
	// or bypassrls. Listing one vouches for the roles that it is a member of, too. Superusers and the roles of Daypass
	// are refused all the same. None unless given.
	AllowRoles []string `yaml:"allow_roles"`
}

// Retention is the section retention.
type Retention struct {
	// Leases is how long leases are kept after their end; 90d unless given.
	Leases Period `yaml:"leases"`
	// Decisions is how long decisions with their inputs are kept; 30d unless given.
	Decisions Period `yaml:"decisions"`
}

// Log is the section log.
type Log struct {
	// Level is debug, info, warn or error; info unless given.
	Level string `yaml:"level"`
	// Format is json or text; json unless given.
	Format string `yaml:"format"`
}

// Traces is the section traces.
type Traces struct {
	// OTLP is the base URL of an OpenTelemetry collector, such as http://127.0.0.1:4318: spans are posted to v1/traces
	// below it, as protobuf. They hold names of the configuration, IDs and times; no token, claim, subject or address.
	// A caller's traceparent is taken up. Environment variables of exporters do not count.
	OTLP string `yaml:"otlp"`
}

// Rate is a number of times per second.
type Rate float64

// UnmarshalText reads a whole number, a slash and s, m or h.
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, ok := strings.Cut(string(text), "/")
	n, err := strconv.ParseUint(number, 10, 31)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !ok || err != nil || n == 0 || per == 0 {
		return fmt.Errorf("%q is not a rate: write a whole number, a slash and s, m or h, such as 10/s", text)
	}
	*r = Rate(float64(n) / per)
	return nil
}

// Period is a length of time that may be given in days.
type Period time.Duration

// UnmarshalText reads a whole number and s, m, h or d.
func (p *Period) UnmarshalText(text []byte) error {
	d, err := api.ParsePeriod(string(text))
	*p = Period(d)
	return err
}

// Dev is the configuration of a server to try things with, below dir.
func Dev(dir string) Config {
	cfg := Config{
		Socket:     filepath.Join(dir, "admin.sock"),
		Store:      "sqlite://" + filepath.Join(dir, "daypass.db"),
		MasterKey:  "file://" + filepath.Join(dir, "master.key"),
		SecretsDir: filepath.Join(dir, "secrets"),
		Access:     filepath.Join(dir, "access"),
		Log:        Log{Format: "text"},
		dev:        true,
	}
	cfg.Fill()
	return cfg
}

// IsDev reports whether [Dev] made the configuration.
func (c Config) IsDev() bool { return c.dev }

// Load reads daypass.yaml. It returns every mistake at once, as [source.Errors].
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fault.WithHint(fmt.Errorf("read the configuration: %w", err), "name another file with --config")
	}
	section, err := source.Document(path, string(text))
	if err != nil {
		return Config{}, err
	}
	var cfg Config
	var wrong source.Errors
	wrong.Add(path, section.Decode(&cfg))
	cfg.Fill()
	if len(wrong) == 0 { // else every value that was not read would be a second mistake
		cfg.check(func(field, message, hint string) { wrong = append(wrong, section.Error(field, message, hint)) })
	}
	return cfg, wrong.Err()
}

// Validate returns every mistake of a configuration that was made by hand, as [source.Errors].
func (c Config) Validate() error {
	c.Fill()
	var wrong source.Errors
	c.check(func(field, message, hint string) {
		wrong = append(wrong, &source.Error{File: field, Message: message, Hint: hint})
	})
	return wrong.Err()
}

// SocketPath is the path of the socket, or nothing.
func (c Config) SocketPath() string {
	if c.Socket == "none" {
		return ""
	}
	return c.Socket
}

// OwnURL is the URL that a server goes by: the one it was told, or else where it listens. It is nothing while only the server
// knows where that is.
func (c Config) OwnURL() string {
	if c.URL != "" {
		return c.URL
	}
	address, err := netip.ParseAddrPort(c.Listen)
	switch {
	case err != nil || address.Port() == 0:
		return ""
	case c.TLS != TLS{}:
		return "https://" + address.String()
	}
	return "http://" + address.String()
}

// Egress is how connections are made that others choose the other end of.
func (c Config) Egress() egress.Dialer { return egress.Dialer{Allow: c.ConnectTo} }

// Zones loads time zones.
func Zones(names []string) ([]*time.Location, error) {
	var all []*time.Location
	for _, name := range names {
		if name == "" || name == "Local" {
			return nil, fmt.Errorf("%q is not the name of a time zone", name)
		}
		zone, err := time.LoadLocation(name)
		if err != nil {
			return nil, fmt.Errorf("there is no time zone %q", name)
		}
		all = append(all, zone)
	}
	return all, nil
}

// Fill puts in what fields mean that were left out.
func (c *Config) Fill() {
	defaults := []struct {
		field *string
		value string
	}{
		{&c.Listen, "127.0.0.1:8420"},
		{&c.Socket, "/run/daypass/admin.sock"},
		{&c.Store, "sqlite:///var/lib/daypass/daypass.db"},
		{&c.MasterKey, "file:///var/lib/daypass/master.key"},
		{&c.SecretsDir, "/etc/daypass/secrets"},
		{&c.Issuer.Algorithm, "RS256"},
		{&c.OAuth.Nonce, "require"},
		{&c.Conditions, "off"},
		{&c.Log.Level, "info"},
		{&c.Log.Format, "json"},
	}
	for _, d := range defaults {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if c.Limits.LeasesPerPrincipal == 0 {
		c.Limits.LeasesPerPrincipal = 100
	}
	if c.Limits.AcquireRate == 0 {
		c.Limits.AcquireRate = 10
	}
	if c.Limits.Connections == 0 {
		c.Limits.Connections = 4096
	}
	const day = Period(24 * time.Hour)
	if c.Issuer.Rotate == 0 {
		c.Issuer.Rotate = 30 * day
	}
	if c.OAuth.AccessTokenTTL == 0 {
		c.OAuth.AccessTokenTTL = Period(time.Hour)
	}
	if c.Retention.Leases == 0 {
		c.Retention.Leases = 90 * day
	}
	if c.Retention.Decisions == 0 {
		c.Retention.Decisions = 30 * day
	}
}
