package testbed

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Fault is what a [Proxy] does to the connections through it.
type Fault int

// The faults.
const (
	None        Fault = iota // everything passes
	Hold                     // requests wait at the proxy, also when their sender is gone, and go on at [Proxy.Heal]
	DropAnswers              // requests arrive, answers are lost, and nobody hangs up
	Cut                      // connections are closed and new ones too; requests on their way are lost
	BlackHole                // nothing passes either way, and nothing is kept
)

// Proxy is a TCP proxy that breaks connections on purpose.
type Proxy struct {
	upstream string
	listener net.Listener

	mu      sync.Mutex // guards what follows
	changed *sync.Cond // told when fault changes
	fault   Fault
	delay   time.Duration
	trigger []byte // arms next when a request holds it
	next    Fault
	before  bool // next strikes before that request, not after it
	hits    int
	conns   map[net.Conn]bool
}

// StartProxy listens on a free port, passes everything to upstream (host:port), and ends with the test.
func StartProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{upstream: upstream, listener: listener, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	go p.accept()
	t.Cleanup(func() {
		listener.Close()
		p.Set(Cut)
	})
	return p
}

// Port returns the port of the proxy on the loopback address.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Address returns host:port of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set makes fault strike now, on open connections and new ones.
func (p *Proxy) Set(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(fault)
}

func (p *Proxy) set(fault Fault) {
	p.fault = fault
	if fault == Cut {
		for conn := range p.conns {
			conn.Close()
		}
	}
	p.changed.Broadcast()
}

// Heal lets everything pass; what was held goes on its way.
func (p *Proxy) Heal() { p.Set(None) }

// Delay holds each answer back for d.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Before makes fault strike when a request with text in it arrives, before that request passes.
func (p *Proxy) Before(text string, fault Fault) { p.arm(text, fault, true) }

// After makes fault strike when a request with text in it has passed.
func (p *Proxy) After(text string, fault Fault) { p.arm(text, fault, false) }

func (p *Proxy) arm(text string, fault Fault, before bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trigger, p.next, p.before = []byte(text), fault, before
}

// Struck counts how often an armed fault struck.
func (p *Proxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.fault == Cut {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
	}()
	go func() {
		p.answers(server, client)
		client.Close()
	}()
	p.requests(client, server)
}

// requests passes what the client sends. It goes on after the client has hung up until all of it is delivered.
func (p *Proxy) requests(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if n > 0 && p.pass(buffer[:n]) {
			_, _ = server.Write(buffer[:n]) // a side that has gone is seen at the next read
			p.strikeAfter(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// pass strikes an armed fault, waits while requests are held, and reports whether this one may go on.
func (p *Proxy) pass(request []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before && p.armed(request) {
		p.strike()
	}
	for p.fault == Hold {
		p.changed.Wait()
	}
	return p.fault == None || p.fault == DropAnswers
}

func (p *Proxy) strikeAfter(request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.before && p.armed(request) {
		p.strike()
	}
}

func (p *Proxy) armed(request []byte) bool {
	return len(p.trigger) > 0 && bytes.Contains(request, p.trigger)
}

func (p *Proxy) strike() {
	p.trigger = nil
	p.hits++
	p.set(p.next)
}

// answers passes what the server sends, or loses it.
func (p *Proxy) answers(server, client net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		p.mu.Lock()
		lose, delay := p.fault == DropAnswers || p.fault == BlackHole, p.delay
		p.mu.Unlock()
		if delay > 0 {
			<-time.After(delay)
		}
		if n > 0 && !lose {
			_, _ = client.Write(buffer[:n]) // as above
		}
		if err != nil {
			return
		}
	}
}
