// Package egress makes the connections that others choose the other end of: an issuer's discovery document names
// where its keys are, and whoever owns a name says which address it has.
//
// It promises that such a connection reaches no metadata service of a cloud, nothing that is link-local, and our own
// machine only where the name itself says so. Addresses are looked at after the name was resolved, for each
// connection anew, so that a name which changes its address gains nothing. Private networks are not refused: the
// issuers of a house live there.
//
// A proxy that the environment names is where the connection leads, and resolves names by itself: what lies behind it
// is for the proxy to refuse. The package imports the standard library alone.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ErrRefused says that a connection would have led where none may lead.
var ErrRefused = errors.New("no connection is made to such an address; connect_to in daypass.yaml can allow it")

// timeout bounds the wait for one connection.
const timeout = 10 * time.Second

// Dialer makes connections. The zero value is usable and strict.
type Dialer struct {
	// Allow are networks that may be reached although they are loopback, link-local or a metadata service.
	Allow []netip.Prefix
	// Resolver looks names up; that of the system unless given.
	Resolver *net.Resolver
}

// DialContext connects as [net.Dialer.DialContext] does. The error of a connection that is refused is an [ErrRefused].
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: timeout, Resolver: d.Resolver, Control: func(_, resolved string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return fmt.Errorf("%q is no address: %w", resolved, ErrRefused)
		}
		return d.check(host, at.Addr())
	}}
	return dialer.DialContext(ctx, network, address)
}

// check refuses an address that a host's name led to.
func (d Dialer) check(host string, a netip.Addr) error {
	a = plain(a)
	for _, p := range d.Allow {
		if p.Contains(a) {
			return nil
		}
	}
	switch {
	case a.IsLoopback() && !isLoopback(host):
		return fmt.Errorf("%s is on our own machine: %w", a, ErrRefused)
	case isForbidden(a):
		return fmt.Errorf("%s is link-local, a metadata service or no single machine: %w", a, ErrRefused)
	}
	return nil
}

// isLoopback reports whether a host says itself that it is this machine.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && plain(a).IsLoopback()
}

// plain takes an IPv4 address out of the ways to write one as IPv6 that networks translate back.
func plain(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	b := a.As16()
	for _, form := range []struct {
		network netip.Prefix
		at      int
	}{
		{netip.MustParsePrefix("64:ff9b::/96"), 12},   // RFC 6052
		{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // RFC 8215, with a /96 of it
		{netip.MustParsePrefix("2002::/16"), 2},       // RFC 3056
	} {
		if form.network.Contains(a) {
			return netip.AddrFrom4([4]byte(b[form.at : form.at+4]))
		}
	}
	return a
}

// isForbidden reports whether nobody that we ask for keys, posture or attention can rightly be at an address.
func isForbidden(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return true
	}
	for _, p := range []string{
		"0.0.0.0/8",              // this network: Linux takes it for this machine
		"255.255.255.255/32",     // everybody
		"100.100.100.200/32",     // metadata of Alibaba Cloud
		"192.0.0.192/32",         // metadata of Oracle Cloud's older images
		"168.63.129.16/32",       // the wire server of Azure
		"fd00:ec2::/32",          // metadata, time and names of AWS
		"fd20:ce::254/128",       // metadata of Google Cloud
		"fd00:c1::a9fe:a9fe/128", // metadata of Oracle Cloud
		"fd00:42::42/128",        // metadata of Scaleway
	} {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}
