package httpapi

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/daypass/daypass/internal/source"
)

// sourceIP is where a request comes from, for policies to judge: the address that connected, unless that is a
// trusted proxy. Then it is the rightmost address in X-Forwarded-For that is not one: each trusted proxy appends
// who connected to it, and what stands further left anybody can have written. An entry that cannot be read hides
// all left of it, and the result is no address, at which policies that ask for one fail. Requests over the socket
// have none.
func sourceIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	if _, local := r.Context().Value(peerKey{}).(Peer); local {
		return netip.Addr{}
	}
	hop, ok := parseHop(r.RemoteAddr)
	if !ok || !isTrusted(hop, trusted) {
		return hop
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		text := strings.TrimSpace(hops[i])
		if text == "" && len(hops) == 1 {
			break // no header: the proxy itself asks
		}
		if hop, ok = parseHop(text); !ok {
			return netip.Addr{}
		}
		if !isTrusted(hop, trusted) {
			break
		}
	}
	return hop
}

// parseHop reads an address, with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return address.Unmap().WithZone(""), err == nil
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func reorders(r rune) bool { return source.Reorders(r) }
