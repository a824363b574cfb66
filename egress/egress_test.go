package egress_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/testbed"
)

func TestNoConnectionLeadsToMetadataOrLinkLocalAddresses(t *testing.T) {
	for name, address := range map[string]string{
		"metadata of AWS, Azure, Google and others": "169.254.169.254:80",
		"credentials of ECS":                        "169.254.170.2:80",
		"metadata of AWS over IPv6":                 "[fd00:ec2::254]:80",
		"metadata of Google over IPv6":              "[fd20:ce::254]:80",
		"metadata of Alibaba":                       "100.100.100.200:80",
		"the wire server of Azure":                  "168.63.129.16:80",
		"link-local IPv6":                           "[fe80::1%lo]:80",
		"an IPv4 address mapped into IPv6":          "[::ffff:169.254.169.254]:80",
		"an IPv4 address behind NAT64":              "[64:ff9b::a9fe:a9fe]:80",
		"an IPv4 address behind 6to4":               "[2002:a9fe:a9fe::1]:80",
		"this machine written as nothing":           "0.0.0.0:80",
		"this machine written as nothing in IPv6":   "[::]:80",
		"everybody": "255.255.255.255:80",
		"a group":   "224.0.0.1:80",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if c, err := (egress.Dialer{}).DialContext(ctx, "tcp", address); !errors.Is(err, egress.ErrRefused) {
				t.Errorf("%s: %v, %v", address, c, err)
			}
		})
	}
}

// listen returns the port of a listener on loopback.
func listen(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func TestOurOwnMachineIsReachedOnlyByANameThatSaysSo(t *testing.T) {
	port := listen(t)
	dns := testbed.NewDNS(t, "127.0.0.1")
	for _, c := range []struct {
		name, host string
		dialer     egress.Dialer
		refused    bool
	}{
		{"its address", "127.0.0.1", egress.Dialer{}, false},
		{"localhost", "localhost", egress.Dialer{}, false},
		{"a name with its address", "issuer.example", egress.Dialer{Resolver: dns.Resolver()}, true},
		{"a name, where allowed", "issuer.example", egress.Dialer{Resolver: dns.Resolver(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := c.dialer.DialContext(t.Context(), "tcp4", net.JoinHostPort(c.host, port))
			if err == nil {
				conn.Close()
			}
			if errors.Is(err, egress.ErrRefused) != c.refused || !c.refused && err != nil {
				t.Errorf("%s: %v", c.host, err)
			}
		})
	}
}

func TestANameIsLookedAtForEachConnectionAnew(t *testing.T) {
	port := listen(t)
	dns := testbed.NewDNS(t, "127.0.0.1")
	dialer := egress.Dialer{Resolver: dns.Resolver(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	conn, err := dialer.DialContext(t.Context(), "tcp4", "issuer.example:"+port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	dns.Answer("169.254.169.254")
	if _, err := dialer.DialContext(t.Context(), "tcp4", "issuer.example:"+port); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("after the change: %v", err)
	}
}
