package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass/daypass/internal/config"
	"github.com/daypass/daypass/internal/httpapi"
	"github.com/daypass/daypass/internal/socket"
)

const (
	headerTime = 10 * time.Second // to send the head of a request
	readTime   = 30 * time.Second // to send all of it
	writeTime  = 3 * time.Minute  // to answer; calls that take longer say so themselves
	idleTime   = 2 * time.Minute  // between two requests
	maxHeader  = 32 << 10         // of a request's head; a token is 16 KiB at most
	maxStreams = 100              // requests at once over one connection of HTTP/2; one that resets more is closed
	farewell   = 75 * time.Second // for requests under way when we stop: a release may wait for a minute
	lookEvery  = 10 * time.Second // between two looks at the certificate's files
)

// listen opens the listeners and finds our own URL.
func (s *Server) listen() (err error) {
	if s.cfg.TLS != (config.TLS{}) {
		if s.certificate, err = loadCertificate(s.cfg.TLS); err != nil {
			return err
		}
	}
	if s.tcp, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	s.url = s.cfg.URL
	if s.url == "" {
		s.url = "http://" + s.tcp.Addr().String()
		if s.certificate != nil {
			s.url = "https://" + s.tcp.Addr().String()
		}
	}
	if path := s.cfg.SocketPath(); path != "" {
		s.socket, err = socket.Listen(path, s.cfg.Admins, s.log)
	}
	return err
}

// serve takes up what was active, then answers requests until ctx ends and those under way are done.
func (s *Server) serve(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it began
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	tcp, crowd := s.httpServer(nil), newCrowd(s.tcp, s.cfg.Limits.Connections, s.cfg.TrustedProxies, s.log)
	if s.certificate != nil {
		tcp.TLSConfig = s.tlsConfig()
		group.Go(func() error { return served(tcp.ServeTLS(crowd, "", "")) })
	} else {
		group.Go(func() error { return served(tcp.Serve(crowd)) })
	}
	group.Go(func() error { return s.shutDown(ctx, tcp) })
	if s.socket != nil {
		local := s.httpServer(s.peers())
		group.Go(func() error { return served(local.Serve(s.socket)) })
		group.Go(func() error { return s.shutDown(ctx, local) })
	}
	s.log.Info("daypass serves", "version", s.options.Version, "url", s.url, "address", s.Address(), "socket", s.cfg.SocketPath(),
		"instance", s.store.Instance(), "boot", s.store.Boot(), "ledger_key", s.VerifierKey())
	return group.Wait()
}

// tlsConfig asks clients for certificates where an issuer of the active access revision has them show one. Whose a
// certificate is, its verifier finds out: a client that shows a bad one may still have a token.
func (s *Server) tlsConfig() *tls.Config {
	plain := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get, NextProtos: []string{"h2", "http/1.1"}}
	asking := plain.Clone()
	asking.ClientAuth = tls.RequestClientCert
	plain.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if s.verifiers.WantsCertificates() {
			return asking, nil
		}
		return nil, nil // this one
	}
	return plain
}

func (s *Server) httpServer(connContext func(context.Context, net.Conn) context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // strangers' handshakes
	}
}

// peers returns what gives each connection of the socket its peer. A peer that the kernel does not tell is nobody.
func (s *Server) peers() func(context.Context, net.Conn) context.Context {
	const nobody = ^uint32(0)
	return func(ctx context.Context, conn net.Conn) context.Context {
		uid, gids, err := socket.PeerOf(conn)
		if err != nil {
			s.log.Warn("the kernel does not tell who connected to the socket", "err", err)
			return httpapi.WithPeer(ctx, httpapi.Peer{UID: nobody})
		}
		return httpapi.WithPeer(ctx, httpapi.Peer{UID: uid, MayManage: socket.MayManage(s.cfg.Admins, uid, gids)})
	}
}

// served passes on why a listener ended, unless we ended it.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// shutDown stops a listener when ctx ends, and waits a while for its requests. What is not done then is cut off:
// the credential of an acquisition whose answer cannot be written is ended like any other of that kind.
func (s *Server) shutDown(ctx context.Context, server *http.Server) error {
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		s.log.Warn("requests were cut off at the end", "err", err)
		return server.Close()
	}
	return nil
}

// certificateFiles is the listener's certificate, as its files last had it.
type certificateFiles struct {
	files   config.TLS
	current atomic.Pointer[tls.Certificate]
	seen    [2]time.Time // when the files were changed; owned by who calls reload
}

func loadCertificate(files config.TLS) (*certificateFiles, error) {
	c := &certificateFiles{files: files}
	if _, err := c.reload(true); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files when they have changed, or always. What is bad does not replace what was good.
func (c *certificateFiles) reload(always bool) (changed bool, err error) {
	var seen [2]time.Time
	for i, path := range []string{c.files.Certificate, c.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return false, fmt.Errorf("read the certificate: %w", err)
		}
		seen[i] = info.ModTime()
	}
	if seen == c.seen && !always {
		return false, nil
	}
	c.seen = seen // a bad pair is reported once, not at each look
	pair, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return false, fmt.Errorf("read the certificate %s and its key %s: %w", c.files.Certificate, c.files.Key, err)
	}
	c.current.Store(&pair)
	return true, nil
}

func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
