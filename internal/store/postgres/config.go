package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectTime is how long a server may take to let us in.
const connectTime = 5 * time.Second

// place is what a URL says.
type place struct {
	user, database, schema string
	hosts                  []string // host:port, in the order in which they are tried
	tls                    bool
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// parse reads postgres://user@host:port[,host:port…]/database?sslmode=…&schema=….
func parse(text string) (p place, err error) {
	wrong := func(format string, args ...any) (place, error) {
		return place{}, fmt.Errorf(format, args...)
	}
	rest, ok := strings.CutPrefix(text, "postgres://")
	if !ok {
		return wrong("want postgres://user@host:port/database")
	}
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	hosts := strings.Split(authority[at+1:], ",")
	// The parser takes one host; the others are ours to read.
	u, err := url.Parse("postgres://" + authority[:at+1] + hosts[0] + rest[len(authority):])
	if err != nil {
		return wrong("not a URL") // the parser's error would quote a password
	}
	if _, inline := u.User.Password(); inline {
		return wrong("the URL holds a password; put it in a file and name it in store_password")
	}
	p = place{user: u.User.Username(), database: strings.TrimPrefix(u.Path, "/"), schema: "public", tls: true}
	if strings.ContainsFunc(p.user+p.database, unicode.IsControl) {
		return wrong("the user or the database has control characters in its name")
	}
	local := true
	for _, host := range hosts {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = strings.Trim(host, "[]"), "5432"
		}
		ip := net.ParseIP(name)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || ip == nil && !hostName.MatchString(name) {
			return wrong("%q is not a host and port", host)
		}
		local = local && (name == "localhost" || ip != nil && ip.IsLoopback())
		p.hosts = append(p.hosts, net.JoinHostPort(name, port))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return wrong("its parameters cannot be read")
	}
	for name, values := range query {
		switch value := values[len(values)-1]; {
		case len(values) > 1:
			return wrong("parameter %s is given twice", name)
		case name == "sslmode" && value == "verify-full":
		case name == "sslmode" && value == "disable" && local:
			p.tls = false
		case name == "sslmode" && value == "disable":
			return wrong("sslmode=disable is for servers on this machine; want sslmode=verify-full")
		case name == "schema" && schemaName.MatchString(value):
			p.schema = value
		default:
			return wrong("parameter %s=%s is not taken; there are sslmode=verify-full, sslmode=disable and schema", name, value)
		}
	}
	if p.user == "" || p.database == "" || strings.Contains(p.database, "/") {
		return wrong("want postgres://user@host:port/database")
	}
	return p, nil
}

// Check refuses a URL that names no store.
func Check(text string) error {
	_, err := parse(text)
	return err
}

// Redacted is a URL of a store as it may be shown.
func Redacted(text string) string {
	p, err := parse(text)
	if err != nil {
		return "postgres://…"
	}
	shown := url.URL{Scheme: "postgres", User: url.User(p.user), Host: strings.Join(p.hosts, ","), Path: "/" + p.database}
	return shown.String()
}

// configure builds a configuration from nothing but ours. The driver's parser would read PG* variables and files
// for whatever a connection string leaves open, so that it is given one that leaves nothing open, and every field
// that matters is set again afterwards.
func configure(text string, opt Options) (*pgx.ConnConfig, error) {
	p, err := parse(text)
	if err != nil {
		return nil, err
	}
	if os.Getenv("PGSERVICE") != "" {
		return nil, fmt.Errorf("PGSERVICE is set, and a service file must not say where the store is; unset it")
	}
	config, err := pgx.ParseConfig("host=localhost port=1 user=daypass password=unused dbname=daypass sslmode=disable sslrootcert='' " +
		"sslcert='' sslkey='' sslpassword='' sslnegotiation=postgres sslsni=1 connect_timeout=5 passfile='' target_session_attrs=any " +
		"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''")
	if err != nil {
		return nil, fmt.Errorf("prepare connections: %w", err)
	}
	config.User, config.Database, config.Password = p.user, p.database, opt.Password.Reveal()
	config.Fallbacks = nil
	for i, host := range p.hosts {
		name, port, _ := net.SplitHostPort(host)     // parse has joined them
		number, _ := strconv.ParseUint(port, 10, 16) // and looked at the number
		one := &pgconn.FallbackConfig{Host: name, Port: uint16(number)}
		if p.tls {
			if one.TLSConfig, err = verified(name, opt.CA); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			config.Host, config.Port, config.TLSConfig = one.Host, one.Port, one.TLSConfig
			continue
		}
		config.Fallbacks = append(config.Fallbacks, one)
	}
	// Of several servers the one that takes writes, whichever that is at the moment.
	config.ValidateConnect = takesWrites
	if opt.Password.Reveal() != "" {
		config.RequireAuth = "scram-sha-256" // whatever the server would rather have
	}
	config.ConnectTimeout = connectTime
	// A server that is gone without a farewell is noticed while we wait for it.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}}
	config.DialFunc = dialer.DialContext
	config.RuntimeParams = map[string]string{
		"application_name":                    "daypass " + filepath.Base(opt.Name),
		"search_path":                         p.schema,
		"statement_timeout":                   "20s",
		"lock_timeout":                        "12s", // for the baton; a group gives up a little later
		"idle_in_transaction_session_timeout": "3s",  // a process that stops gives the baton back
		"client_min_messages":                 "error",
		// Every question has an index in its order; no answer is to be collected and then sorted.
		"enable_bitmapscan": "off",
		"enable_sort":       "off",
		"timezone":          "UTC",
	}
	return config, nil
}

// Why a server is not the one that takes writes.
var (
	errStandby = errors.New("the server is a standby and takes no writes; name the primary in `store`, or both: host1:5432,host2:5432")
	errFrozen  = errors.New("the database is read only for this login; take the setting back: " +
		"alter database … reset default_transaction_read_only, or the same of the role")
)

// takesWrites refuses a connection to a server that does not.
func takesWrites(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, "select pg_is_in_recovery(), current_setting('transaction_read_only')").ReadAll()
	if err != nil {
		return err
	}
	switch row := results[0].Rows[0]; {
	case string(row[0]) == "t":
		return errStandby
	case string(row[1]) == "on":
		return errFrozen
	}
	return nil
}

// forViews is a configuration of connections that hold no lock: they may take their time.
func forViews(config *pgx.ConnConfig) *pgx.ConnConfig {
	config = config.Copy()
	config.RuntimeParams["statement_timeout"], config.RuntimeParams["idle_in_transaction_session_timeout"] = "60s", "60s"
	return config
}

// verified is TLS that believes only a certificate of that name.
func verified(host string, ca []byte) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("the store's authority: no certificate in PEM form")
		}
	}
	return config, nil
}

// settle readies a new connection. A commit that a crash of the server undoes was none.
func settle(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `select set_config('synchronous_commit', 'on', false)
		where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')`)
	return err
}
