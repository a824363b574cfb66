package server

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// crowd is a listener that has room for so many connections at once. One that finds none is closed: strangers who hold
// connections open keep other strangers out for as long, but take no memory or files from those who are in, nor from what ends
// leases, and none of the socket's.
type crowd struct {
	net.Listener

	room chan struct{}
	log  *slog.Logger
	tell rate.Sometimes
}

func newCrowd(l net.Listener, most int, log *slog.Logger) *crowd {
	return &crowd{Listener: l, room: make(chan struct{}, most), log: log, tell: rate.Sometimes{Interval: time.Minute}}
}

// Accept returns the next connection that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case c.room <- struct{}{}:
			return &guest{Conn: conn, leave: sync.OnceFunc(func() { <-c.room })}, nil
		default:
			_ = conn.Close() // nothing was said on it
			c.tell.Do(func() {
				c.log.Warn("connections are turned away: there are as many as limits.connections says", "connections", cap(c.room))
			})
		}
	}
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
