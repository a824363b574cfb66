package watch_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/daypass/daypass/egress"
	"github.com/daypass/daypass/internal/watch"
	"github.com/daypass/daypass/secret"
)

const canary = "key-of-the-webhook-canary"

func text(s string) func() (secret.Text, error) {
	return func() (secret.Text, error) { return secret.New(s), nil }
}

// message is one with a stranger's text in it.
func message() watch.Message {
	m := watch.TestMessage("abc123", "host/1", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	m.Kind, m.Subject, m.Summary = watch.Stranger, "https://evil.example/<!channel>&`*x*`", "tokens name it"
	return m
}

// receiver is a real web server that keeps what it is sent.
type receiver struct {
	*httptest.Server
	requests chan received
	status   int
}

type received struct {
	header http.Header
	body   []byte
}

func newReceiver(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{requests: make(chan received, 10), status: status}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.requests <- received{request.Header, body}
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) web() watch.Web {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	return watch.Web{URL: text(r.URL + "/hook-canary"), CA: ca, Now: time.Now}
}

func TestAWebhookIsSignedJSON(t *testing.T) {
	r := newReceiver(t, http.StatusNoContent)
	cfg := r.web()
	cfg.Key = text(canary)
	sink, err := watch.NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	got := <-r.requests
	parts := regexp.MustCompile(`^t=([0-9]+),v1=([0-9a-f]{64})$`).FindStringSubmatch(got.header.Get(watch.SignatureHeader))
	if parts == nil {
		t.Fatalf("signature %q", got.header.Get(watch.SignatureHeader))
	}
	mac := hmac.New(sha256.New, []byte(canary))
	fmt.Fprintf(mac, "%s.%s", parts[1], got.body)
	if hex.EncodeToString(mac.Sum(nil)) != parts[2] {
		t.Error("the signature is not that of the body")
	}
	var m watch.Message
	if err := json.Unmarshal(got.body, &m); err != nil || m != message() {
		t.Errorf("%s: %v", got.body, err)
	}
}

func TestASlackMessageMakesNoLinkMarkOrMentionOfAStrangersText(t *testing.T) {
	r := newReceiver(t, http.StatusOK)
	sink, err := watch.NewSlack(r.web())
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	var body map[string]string
	if err := json.Unmarshal((<-r.requests).body, &body); err != nil {
		t.Fatal(err)
	}
	if want := "```unknown-issuer https://evil.example/&lt;!channel&gt;&amp;'*x*': tokens name it```\n"; !strings.HasPrefix(body["text"], want) || len(body) != 1 {
		t.Errorf("%q", body)
	}
}

func TestAWebSinkThatDoesNotTakeAMessageIsAnErrorWithoutItsURL(t *testing.T) {
	gone := newReceiver(t, http.StatusOK)
	gone.Close()
	for name, cfg := range map[string]watch.Web{
		"an error":              newReceiver(t, http.StatusInternalServerError).web(),
		"a redirect":            newReceiver(t, http.StatusTemporaryRedirect).web(),
		"a server that is gone": gone.web(),
		"another authority":     {URL: text(newReceiver(t, http.StatusOK).URL + "/hook-canary"), Now: time.Now},
		"plain http":            {URL: text("http://192.0.2.1/hook-canary"), Now: time.Now},
		"no URL":                {URL: text("://hook-canary"), Now: time.Now},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Key = text(canary)
			sink, err := watch.NewWebhook(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err = sink.Send(t.Context(), message()); err == nil {
				t.Fatal("it was taken")
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestAWebhookLeadsToNoMetadataService(t *testing.T) {
	sink, err := watch.NewWebhook(watch.Web{URL: text("https://169.254.169.254/latest"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Send(t.Context(), message()); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("%v", err)
	}
}

var form = regexp.MustCompile(`^<84>1 2026-03-01T12:00:00\.000000Z my_host daypass 42 unknown-issuer - unknown-issuer https://evil\.example/[ -~]+$`)

func syslogTo(t *testing.T, address string, ca []byte) {
	t.Helper()
	sink, err := watch.NewSyslog(watch.Syslog{Address: address, CA: ca, Host: "my host", Process: 42})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
}

func TestSyslogOverDatagrams(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct{ network, listen, scheme string }{{"udp", "127.0.0.1:0", "udp://"}, {"unixgram", socket, "unix://"}} {
		t.Run(c.network, func(t *testing.T) {
			server, err := net.ListenPacket(c.network, c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			syslogTo(t, c.scheme+server.LocalAddr().String(), nil)
			got := make([]byte, 4096)
			n, _, err := server.ReadFrom(got)
			if err != nil || !form.Match(got[:n]) {
				t.Errorf("%q, %v", got[:n], err)
			}
		})
	}
}

func TestSyslogOverStreamsSaysHowLongAMessageIs(t *testing.T) {
	web := newReceiver(t, http.StatusOK) // for its certificate
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	socket := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct{ name, network, listen, scheme string }{
		{"tcp", "tcp", "127.0.0.1:0", "tcp://"}, {"tls", "tcp", "127.0.0.1:0", "tls://"}, {"unix", "unix", socket, "unix://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := net.Listen(c.network, c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			address := c.scheme + server.Addr().String()
			if c.name == "tls" {
				server = tls.NewListener(server, &tls.Config{Certificates: web.TLS.Certificates})
			}
			got := make(chan string, 1)
			go func() {
				conn, err := server.Accept()
				if err != nil {
					got <- err.Error()
					return
				}
				defer conn.Close()
				in := bufio.NewReader(conn)
				length, _ := in.ReadString(' ')
				n, err := strconv.Atoi(strings.TrimSpace(length))
				if err != nil || n > 4096 {
					got <- "length " + length
					return
				}
				rest, _ := io.ReadAll(in)
				if len(rest) != n {
					got <- fmt.Sprintf("%d bytes, not %d", len(rest), n)
					return
				}
				got <- string(rest)
			}()
			var authorities []byte
			if c.name == "tls" {
				authorities = ca
			}
			syslogTo(t, address, authorities)
			if line := <-got; !form.MatchString(line) {
				t.Errorf("%q", line)
			}
		})
	}
}

func TestSyslogNobodyListensIsAnError(t *testing.T) {
	for _, address := range []string{"unix://" + filepath.Join(t.TempDir(), "none"), "tcp://127.0.0.1:1"} {
		sink, err := watch.NewSyslog(watch.Syslog{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Send(t.Context(), message()); err == nil {
			t.Errorf("%s: it was taken", address)
		}
	}
}

func TestAddressesOfSyslogAreCheckedWhenTheyAreRead(t *testing.T) {
	for address, good := range map[string]bool{
		"udp://127.0.0.1": true, "tls://log.example.com": true, "unix:///dev/log": true, "tcp://[::1]:601": true,
		"log.example.com:514": false, "http://log.example.com": false, "unix://dev/log": false, "udp://": false, "tcp://a/b": false, "tcp://u@a": false,
	} {
		if _, err := watch.NewSyslog(watch.Syslog{Address: address}); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}
