package server

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// One who holds all the connections that he may keeps others out of a quarter, and no probe, workload or proxy out of the rest.
func TestOneAddressHoldsAQuarterOfTheConnections(t *testing.T) {
	const most = 40
	d := newDoor(t, most)
	for _, c := range []struct {
		name string
		from func(i int) string
		want int
	}{
		{"an IPv4 address", func(int) string { return "192.0.2.1" }, most / 4},
		{"an IPv4 address written as one of IPv6", func(int) string { return "::ffff:192.0.2.1" }, most / 4},
		{"a /64 of IPv6", func(i int) string { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}).String() }, most / 4},
		{"the zones of a link", func(i int) string { return "fe80::1%eth" + string(rune('a'+i)) }, most / 4},
		{"four addresses", func(i int) string { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 4)}).String() }, most},
		{"a trusted proxy", func(int) string { return "10.1.2.3" }, most},
		{"our own machine", func(int) string { return "127.0.0.1" }, most + keptAtHome},
		{"our own machine by IPv6", func(int) string { return "::1" }, most + keptAtHome},
	} {
		t.Run(c.name, func(t *testing.T) {
			var held []net.Conn
			for i := range 2 * most {
				if conn := d.knock(t, c.from(i)); conn != nil {
					held = append(held, conn)
				}
			}
			if len(held) != c.want {
				t.Errorf("%d connections at once, want %d", len(held), c.want)
			}
			if other := d.knock(t, "198.51.100.7"); (other != nil) != (c.want < most) {
				t.Errorf("room for another address: %v", other != nil)
			} else if other != nil {
				held = append(held, other)
			}
			if probe := d.knock(t, "127.0.0.1"); (probe != nil) != (c.want <= most) {
				t.Errorf("room for our own machine: %v", probe != nil)
			} else if probe != nil {
				held = append(held, probe)
			}
			for _, conn := range held {
				conn.Close()
				conn.Close() // makes room once
			}
			if d.crowd.here != 0 || len(d.crowd.share) != 0 {
				t.Errorf("when all are gone %d are here, with shares %v", d.crowd.here, d.crowd.share)
			}
		})
	}
}

// The smallest limit has room for one.
func TestWhereThereIsRoomForOneConnectionOneAddressMayHaveIt(t *testing.T) {
	d := newDoor(t, 1)
	if d.knock(t, "192.0.2.1") == nil || d.knock(t, "192.0.2.2") != nil {
		t.Error("one connection is one too many, or two are none")
	}
}

// door is a crowd that connections from any address come to.
type door struct {
	crowd *crowd
	come  chan net.Conn
	in    chan net.Conn
}

func newDoor(t *testing.T, most int) *door {
	t.Helper()
	d := &door{come: make(chan net.Conn), in: make(chan net.Conn)}
	d.crowd = newCrowd(street{come: d.come}, most, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, slog.New(slog.DiscardHandler))
	go func() {
		for conn, err := d.crowd.Accept(); err == nil; conn, err = d.crowd.Accept() {
			d.in <- conn
		}
	}()
	t.Cleanup(func() { close(d.come) })
	return d
}

// knock returns the connection that comes from an address as the server has it; nil when it was turned away.
func (d *door) knock(t *testing.T, from string) net.Conn {
	t.Helper()
	turned := make(chan struct{})
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	d.come <- &passer{from: netip.AddrPortFrom(netip.MustParseAddr(from), 50000), turned: turned}
	select {
	case conn := <-d.in:
		return conn
	case <-turned:
		return nil
	case <-late.C:
		t.Fatalf("a connection from %s is neither in nor turned away", from)
		return nil
	}
}

// street is a listener of connections that are only made up.
type street struct {
	net.Listener

	come chan net.Conn
}

func (s street) Accept() (net.Conn, error) {
	conn, ok := <-s.come
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// passer is a connection of which nothing matters but where it comes from and that it was closed.
type passer struct {
	net.Conn

	from   netip.AddrPort
	turned chan struct{}
	closed bool // owned by who has the connection
}

func (p *passer) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.from) }

func (p *passer) Close() error {
	if !p.closed {
		p.closed = true
		close(p.turned)
	}
	return nil
}
