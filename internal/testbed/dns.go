package testbed

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// DNS is a name server that gives every name the same IPv4 address, which a test may change.
type DNS struct {
	address string

	mu     sync.Mutex // guards answer
	answer netip.Addr
}

// NewDNS starts a name server, until the test ends.
func NewDNS(t testing.TB, answer string) *DNS {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	d := &DNS{address: conn.LocalAddr().String()}
	d.Answer(answer)
	go d.serve(conn)
	return d
}

// Answer changes the address of all names.
func (d *DNS) Answer(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = netip.MustParseAddr(address)
}

// Resolver asks this server alone.
func (d *DNS) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", d.address)
	}}
}

// serve answers until the connection is closed.
func (d *DNS) serve(conn net.PacketConn) {
	query := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(query)
		if err != nil {
			return
		}
		if answer := d.reply(query[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// reply answers a query of one question (RFC 1035 §4): with an address where one of IPv4 is asked for, else with nothing.
func (d *DNS) reply(query []byte) []byte {
	const header, typeA = 12, 1
	end := header
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	if end += 5; end > len(query) { // the root, a type and a class
		return nil
	}
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[header:end]...)
	if binary.BigEndian.Uint16(query[end-4:]) != typeA {
		return reply
	}
	reply[7] = 1
	d.mu.Lock()
	defer d.mu.Unlock()
	address := d.answer.As4()
	return append(append(reply, 0xC0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4), address[:]...)
}
