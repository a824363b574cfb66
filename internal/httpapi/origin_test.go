package httpapi

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestTheSourceIsTheRightmostHopThatIsNotTrusted(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		what, remote, want string
		forwarded          []string
	}{
		{"nobody in between", "192.0.2.1:5", "192.0.2.1", nil},
		{"a stranger who claims another address", "192.0.2.1:5", "192.0.2.1", []string{"198.51.100.7"}},
		{"one proxy", "10.0.0.1:5", "198.51.100.7", []string{"198.51.100.7"}},
		{"one proxy and a forged beginning", "10.0.0.1:5", "198.51.100.7", []string{"127.0.0.1, 198.51.100.7"}},
		{"two proxies", "10.0.0.1:5", "198.51.100.7", []string{"1.1.1.1, 198.51.100.7, 10.0.0.2"}},
		{"two headers", "10.0.0.1:5", "198.51.100.7", []string{"1.1.1.1", "198.51.100.7, 10.9.9.9"}},
		{"all trusted", "10.0.0.1:5", "10.0.0.3", []string{"10.0.0.3, 10.0.0.2"}},
		{"a proxy without a header", "10.0.0.1:5", "10.0.0.1", nil},
		{"an entry that is no address", "10.0.0.1:5", "", []string{"198.51.100.7, unknown, 10.0.0.2"}},
		{"an empty entry", "10.0.0.1:5", "", []string{"198.51.100.7,"}},
		{"with a port", "10.0.0.1:5", "198.51.100.7", []string{"198.51.100.7:4711"}},
		{"IPv6", "[fd00::1]:5", "2001:db8::7", []string{"[2001:db8::7]:80"}},
		{"IPv4 within IPv6", "[::ffff:10.0.0.1]:5", "198.51.100.7", []string{"::ffff:198.51.100.7"}},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for _, line := range c.forwarded {
			r.Header.Add("X-Forwarded-For", line)
		}
		want, _ := netip.ParseAddr(c.want)
		if got := sourceIP(r, trusted); got != want {
			t.Errorf("%s: %v, want %v", c.what, got, want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(WithPeer(r.Context(), Peer{}))
	if got := sourceIP(r, trusted); got.IsValid() {
		t.Errorf("the socket comes from %v", got)
	}
}
