package watch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/daypass/daypass/egress"
)

// Syslog is what a sink of RFC 5424 needs.
type Syslog struct {
	// Address is udp://host:514, tcp://host:601, tls://host:6514 or unix:///dev/log.
	Address string
	// CA, in PEM, are the authorities to trust instead of the system's; for tls.
	CA     []byte
	Egress egress.Dialer
	// Host and Process are who sends.
	Host    string
	Process int
}

// syslog sends each message over a connection of its own: they are few, and a connection that died unnoticed would
// swallow them.
type syslog struct {
	Syslog
	network, address string
	tls              *tls.Config
}

// NewSyslog returns what sends messages to a syslog server. It connects to nothing.
func NewSyslog(cfg Syslog) (Sender, error) {
	u, err := url.Parse(cfg.Address)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.100q is not an address such as udp://127.0.0.1:514", cfg.Address)
	}
	s := &syslog{Syslog: cfg, network: u.Scheme, address: u.Host}
	if u.Scheme == "unix" {
		if s.address = u.Path; u.Host != "" || s.address == "" {
			return nil, errors.New("write a socket such as unix:///dev/log")
		}
		return s, nil
	}
	defaults := map[string]string{"udp": "514", "tcp": "601", "tls": "6514"}
	if defaults[u.Scheme] == "" || u.Hostname() == "" || u.Path != "" {
		return nil, fmt.Errorf("%.100q is not an address of udp, tcp, tls or unix, such as udp://127.0.0.1:514", cfg.Address)
	}
	if u.Port() == "" {
		s.address = net.JoinHostPort(u.Hostname(), defaults[u.Scheme])
	}
	if u.Scheme == "tls" {
		s.network, s.tls = "tcp", &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if cfg.CA != nil {
			s.tls.RootCAs = x509.NewCertPool()
			if !s.tls.RootCAs.AppendCertsFromPEM(cfg.CA) {
				return nil, errors.New("the authorities hold no PEM certificate")
			}
		}
	}
	return s, nil
}

// Send implements [Sender]. Syslog says nothing back: nil means that it was handed over.
func (s *syslog) Send(ctx context.Context, m Message) error {
	conn, framed, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	text := s.text(m)
	if framed {
		text = strconv.Itoa(len(text)) + " " + text // RFC 6587 §3.4.1, RFC 5425 §4.3
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	return conn.Close()
}

// connect returns a connection, and whether messages on it need to say how long they are.
func (s *syslog) connect(ctx context.Context) (net.Conn, bool, error) {
	if s.network == "unix" {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unixgram", s.address)
		if err == nil {
			return conn, false, nil
		}
		conn, err = dialer.DialContext(ctx, "unix", s.address)
		return conn, true, err
	}
	conn, err := s.Egress.DialContext(ctx, s.network, s.address)
	if err != nil || s.tls == nil {
		return conn, s.network == "tcp", err
	}
	secured := tls.Client(conn, s.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, false, err
	}
	return secured, true, nil
}

// text is a message as RFC 5424 §6 has it. All of it is printable ASCII, so that no byte order mark is needed and no
// line can be forged.
func (s *syslog) text(m Message) string {
	const security, warning, notice = 10, 4, 5
	severity := warning
	if m.State == Ended {
		severity = notice
	}
	line := m.sentence()
	if m.State == Opened {
		line += "; " + m.Advice
	}
	return fmt.Sprintf("<%d>1 %s %s daypass %d %s - %s", security*8+severity, m.Last.UTC().Format("2006-01-02T15:04:05.000000Z"),
		field(s.Host, 255), s.Process, field(string(m.Kind), 32), printable(line, 900))
}

// field is a field of the header: what has no spaces, or a dash.
func field(text string, most int) string {
	text = strings.ReplaceAll(printable(text, most), " ", "_")
	if text == "" {
		return "-"
	}
	return text
}
