package server

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// keptAtHome is how many connections from our own machine there is room for beyond all others: what looks whether we are
// alive should not find that we are not because strangers are here.
const keptAtHome = 8

// crowd is a listener that has room for so many connections at once, a quarter of it for one address. One that finds none is
// closed: strangers who hold connections open keep other strangers out for as long, but take no memory or files from those who
// are in, nor from what ends leases, and none of the socket's. One stranger alone keeps nobody out.
type crowd struct {
	net.Listener

	most    int
	proxies []netip.Prefix // many come through each address
	log     *slog.Logger
	full    rate.Sometimes
	greedy  rate.Sometimes

	mu    sync.Mutex // guards the fields below
	here  int
	share map[netip.Prefix]int // of each household that has connections
}

func newCrowd(l net.Listener, most int, proxies []netip.Prefix, log *slog.Logger) *crowd {
	return &crowd{
		Listener: l, most: most, proxies: proxies, log: log, share: map[netip.Prefix]int{},
		full: rate.Sometimes{Interval: time.Minute}, greedy: rate.Sometimes{Interval: time.Minute},
	}
}

// Accept returns the next connection that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if leave, ok := c.enter(conn.RemoteAddr()); ok {
			return &guest{Conn: conn, leave: sync.OnceFunc(leave)}, nil
		}
		_ = conn.Close() // nothing was said on it
	}
}

// enter takes room for a connection from an address, if there is some, until leave is called.
func (c *crowd) enter(from net.Addr) (leave func(), ok bool) {
	at, err := netip.ParseAddrPort(from.String())
	address := at.Addr().Unmap().WithZone("")
	home := err == nil && address.IsLoopback()
	many := home || slices.ContainsFunc(c.proxies, func(p netip.Prefix) bool { return p.Contains(address) })
	who := household(address)

	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.most
	if home {
		most += keptAtHome
	}
	if c.here >= most {
		c.full.Do(func() {
			c.log.Warn("connections are turned away: there are as many as limits.connections says", "connections", c.most)
		})
		return nil, false
	}
	if !many && c.share[who] >= max(c.most/4, 1) {
		c.greedy.Do(func() {
			c.log.Warn("connections of an address are turned away: it has a quarter of limits.connections", "address", who.String(), "connections", c.share[who])
		})
		return nil, false
	}
	c.here++
	c.share[who]++ // bounds those that many come through in nothing
	return func() { c.left(who) }, true
}

func (c *crowd) left(who netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here--
	if c.share[who]--; c.share[who] == 0 {
		delete(c.share, who)
	}
}

// household is what one machine can call itself at will: an IPv4 address, or the /64 of an IPv6 address.
func household(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // an address that is none has no prefix, and shares with its like
	return p
}

// guest is a connection that makes room when it is closed.
type guest struct {
	net.Conn

	leave func()
}

// Close makes room.
func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}

// CloseWrite lets a client read an answer that came before all of its request did.
func (g *guest) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
