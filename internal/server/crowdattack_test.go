package server_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// Strangers who connect and say nothing, or begin a handshake or a request and do not go on, have a bounded part of the server
// for a bounded while, and none of the socket.
func TestStrangersWhoHoldConnectionsOpenAreBoundedInNumberAndTime(t *testing.T) {
	const most = 6
	r := newKindsRig(t, func(r *rig) { r.cfg.Limits.Connections = most })
	dial := func(say string) net.Conn {
		conn, err := net.Dial("tcp", r.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, say); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// turned reports whether the server closes a connection within a while, without a word.
	turned := func(conn net.Conn, within time.Duration) bool {
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, conn)
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	var held []net.Conn
	for range most {
		held = append(held, dial("\x16\x03\x01\x02\x00\x01")) // the beginning of a handshake
	}
	for range 20 { // the ones that were there before the first may still be closing, so that one of many has to do
		if conn := dial(""); turned(conn, 250*time.Millisecond) {
			held = append(held, conn)
			break
		}
	}
	if len(held) == most {
		t.Error("there is room for any number of connections")
	}
	if _, err := r.administrator(t).Status(t.Context()); err != nil {
		t.Errorf("over the socket: %v", err)
	}
	for i, conn := range held[:most] {
		if !turned(conn, time.Minute) {
			t.Errorf("connection %d is still open after a minute", i)
		}
	}
	// A client sees the end of a connection before it has made room: one that is turned away meanwhile comes again.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dialer, again := &tls.Dialer{Config: &tls.Config{RootCAs: r.roots}}, time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for {
		conn, err := dialer.DialContext(ctx, "tcp", r.Address())
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("when they are gone: %v", err)
		}
	}
}

func TestAConnectionOfHTTP2HasABoundedNumberOfRequestsAtOnce(t *testing.T) {
	r := newKindsRig(t)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", r.Address(), &tls.Config{RootCAs: r.roots, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 9) // RFC 9113 §4.1
	if _, err := io.ReadFull(conn, head); err != nil || head[3] != 4 {
		t.Fatalf("the first frame is %x, no SETTINGS: %v", head, err)
	}
	settings := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	streams := uint32(0)
	for ; len(settings) >= 6; settings = settings[6:] {
		if binary.BigEndian.Uint16(settings) == 3 { // SETTINGS_MAX_CONCURRENT_STREAMS
			streams = binary.BigEndian.Uint32(settings[2:])
		}
	}
	if streams == 0 || streams > 100 {
		t.Errorf("it takes %d requests at once", streams)
	}
}
