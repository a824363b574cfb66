package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/keyring"
)

// report takes one mistake at a field.
type report func(field, message, hint string)

// check reports every mistake in a configuration that was filled.
func (c *Config) check(wrong report) {
	c.checkAddresses(wrong)
	c.checkPaths(wrong)
	for i, name := range c.Admins.Issuers {
		if !access.ValidName(name) {
			wrong(fmt.Sprintf("admins.issuers[%d]", i), fmt.Sprintf("%q cannot be the name of an issuer", name), "names have 1 to 40 of a-z, 0-9 and -")
		}
	}
	if _, err := Zones(c.TimeZones); err != nil {
		wrong("time_zones", err.Error(), "write names of the IANA database, such as Europe/Berlin")
	}
	c.checkConditions(wrong)
	if c.Limits.LeasesPerPrincipal < 0 {
		wrong("limits.leases_per_principal", "a limit cannot be negative", "")
	}
	if c.Limits.Connections < 0 || c.Limits.Connections > 1<<20 {
		wrong("limits.connections", "want 1 to 1048576", "leave it out for 4096")
	}
	for i, name := range c.Postgres.AllowRoles {
		if name == "" || len(name) > 63 {
			wrong(fmt.Sprintf("postgres.allow_roles[%d]", i), fmt.Sprintf("%q cannot be the name of a role", name), "names at PostgreSQL have 1 to 63 bytes")
		}
	}
	c.checkIssuer(wrong)
	c.checkOAuth(wrong)
	c.checkAlerts(wrong)
	if c.Traces.OTLP != "" && !isBase(c.Traces.OTLP) {
		wrong("traces.otlp", fmt.Sprintf("%q is not the base URL of a collector", c.Traces.OTLP), "write it such as http://127.0.0.1:4318, without user, query and v1/traces")
	}
	if c.Retention.Leases < Period(time.Hour) || c.Retention.Decisions < Period(time.Hour) {
		wrong("retention", "what has ended is kept for an hour at least", "write periods such as 30d")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		wrong("log.level", fmt.Sprintf("there is no level %q", c.Log.Level), "write debug, info, warn or error")
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		wrong("log.format", fmt.Sprintf("there is no format %q", c.Log.Format), "write json or text")
	}
}

func (c *Config) checkAddresses(wrong report) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		wrong("listen", fmt.Sprintf("%q is not an address and a port", c.Listen), "write it such as 127.0.0.1:8420")
		return
	}
	near := isLoopback(host)
	hasTLS := c.TLS != TLS{}
	switch {
	case hasTLS && (c.TLS.Certificate == "" || c.TLS.Key == ""):
		wrong("tls", "tls needs certificate and key", "write tls: {certificate: /path, key: /path}")
	case !near && !hasTLS:
		wrong("listen", fmt.Sprintf("%s is not loopback: tokens and credentials would cross the network in clear", c.Listen),
			"add tls: {certificate: /path, key: /path}, or listen on 127.0.0.1 behind a proxy on this machine")
	}
	if c.URL != "" {
		checkURL("url", c.URL, wrong)
	} else if !near {
		wrong("listen", "url is missing: it is the audience of workload tokens", "add `url: https://…` as clients write it")
	}
}

// checkURL refuses what cannot be a name of ours in tokens.
func checkURL(field, text string, wrong report) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		wrong(field, "the URL cannot be read", "write it such as https://daypass.example.com")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		wrong(field, "a URL with user, query or fragment cannot be an audience", "write it such as https://daypass.example.com")
	case strings.HasSuffix(text, "/"):
		wrong(field, "the URL ends with a slash: an audience is compared byte for byte", "remove the slash, here and where tokens are asked for")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		wrong(field, "the URL is not https", "plain http is for loopback addresses only")
	}
}

func (c *Config) checkIssuer(wrong report) {
	if c.Issuer.URL != "" {
		checkURL("issuer.url", c.Issuer.URL, wrong)
	}
	if !slices.Contains(issuer.Algorithms(), issuer.Algorithm(c.Issuer.Algorithm)) {
		wrong("issuer.algorithm", fmt.Sprintf("there is no algorithm %q", c.Issuer.Algorithm), "write RS256 or ES256")
	}
	if c.Issuer.Rotate < Period(24*time.Hour) {
		wrong("issuer.rotate", "keys sign for a day at least", "write a period such as 30d")
	}
}

// isBase reports whether a text is a URL that paths can be added to.
func isBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		!strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/traces")
}

func (c *Config) checkPaths(wrong report) {
	if err := CheckStore(c.Store); err != nil {
		wrong("store", err.Error(), "write sqlite:/// and an absolute path, such as sqlite:///var/lib/daypass/daypass.db, or postgres://user@host:port/database")
	}
	for _, f := range []struct{ field, reference string }{{"store_password", c.StorePassword}, {"store_ca", c.StoreCA}} {
		if f.reference == "" {
			continue
		}
		if _, err := keyring.Path(f.reference); err != nil {
			wrong(f.field, err.Error(), "write file:/// and an absolute path")
		}
	}
	if _, err := keyring.Path(c.MasterKey); err != nil {
		wrong("master_key", err.Error(), "write file:/// and an absolute path")
	}
	for _, p := range []struct{ field, path string }{
		{"secrets_dir", c.SecretsDir}, {"access", c.Access}, {"tls.certificate", c.TLS.Certificate}, {"tls.key", c.TLS.Key}, {"socket", c.SocketPath()}, {"issuer.publish", c.Issuer.Publish},
	} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			wrong(p.field, fmt.Sprintf("%q is not an absolute path", p.path), "a server has no working directory to speak of: write the whole path")
		}
	}
	const longest = 107 // what the kernel takes
	if len(c.SocketPath()) > longest {
		wrong("socket", fmt.Sprintf("the path has %d bytes: at most %d", len(c.SocketPath()), longest), "")
	}
}

// isLoopback reports whether a host is this machine and no other can reach it.
func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

func (c *Config) checkOAuth(wrong report) {
	if ttl := time.Duration(c.OAuth.AccessTokenTTL); ttl < time.Minute || ttl > issuer.MaxTTL {
		wrong("oauth.access_token_ttl", "access tokens live for a minute at least and a day at most", "write a period such as 1h")
	}
	if c.OAuth.Nonce != "require" && c.OAuth.Nonce != "off" {
		wrong("oauth.nonce", "there is no such setting of nonces", "write require or off")
	}
}

// checkConditions checks what policies are given to look at.
func (c *Config) checkConditions(wrong report) {
	if c.Location.File != "" && !filepath.IsAbs(c.Location.File) {
		wrong("location.file", fmt.Sprintf("%q is not an absolute path", c.Location.File), "a server has no working directory to speak of: write the whole path")
	}
	if !slices.Contains([]string{"off", "warn", "require"}, c.Conditions) {
		wrong("conditions", fmt.Sprintf("conditions cannot be %q", c.Conditions), "write off, warn or require")
	}
}
