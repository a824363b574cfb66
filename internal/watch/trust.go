package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/identity/oidc"
)

// Limits say what is worth an alert. A zero field means its default.
type Limits struct {
	Quiet       time.Duration // how long a thing must not be seen for it to be over; 10m unless given
	Failures    int64         // failed attempts in a minute that are a burst, at an issuer or from a source; 60 unless given
	Skew        time.Duration // how far ahead of ours an issuer's clock may be; 10s unless given
	Unreachable time.Duration // how long an issuer may give no keys; 5m unless given
	KeysEnding  time.Duration // how long before the last good keys stop working; 6h unless given
}

// complete fills in what is not given.
func (l *Limits) complete() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.Quiet, 10 * time.Minute}, {&l.Skew, 10 * time.Second}, {&l.Unreachable, 5 * time.Minute}, {&l.KeysEnding, 6 * time.Hour}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Failures == 0 {
		l.Failures = 60
	}
}

// Bounds of what is remembered of strangers.
const (
	maxSources = 1024
	maxText    = 120 // bytes of a stranger's text
	minute     = time.Minute
)

// issuer is what is remembered of one issuer.
type issuer struct {
	discovery            oidc.Discovery
	unknown, bad, future burst
	ahead                time.Duration // the newest token of the last minutes was issued so long after it came
	aheadAt              time.Time     // zero: no token yet
}

// trust turns what is noticed into signals. It is pure, and its memory is bounded.
type trust struct {
	limits  Limits
	issuers map[string]*issuer
	sources crowd
}

func newTrust(limits Limits) *trust {
	limits.complete()
	return &trust{
		limits: limits, issuers: map[string]*issuer{},
		sources: crowd{window: minute, most: maxSources, all: map[string]*burst{}},
	}
}

// of returns what is remembered of an issuer. Its name is one of the configuration.
func (t *trust) of(name string) *issuer {
	i := t.issuers[name]
	if i == nil {
		i = &issuer{unknown: burst{window: minute}, bad: burst{window: minute}, future: burst{window: minute}}
		t.issuers[name] = i
	}
	return i
}

// fetched looks at what came of asking an issuer for its keys.
func (t *trust) fetched(f oidc.Fetch) (signals []signal) {
	if errors.Is(f.Err, oidc.ErrOtherIssuer) {
		signals = append(signals, t.event(DiscoveryMoved, f.Issuer, "its discovery document says that it is another issuer; the keys that we have serve on"))
	}
	if changes := t.of(f.Issuer).moved(f.Discovery); changes != "" {
		signals = append(signals, t.event(DiscoveryMoved, f.Issuer, changes))
	}
	if f.Err == nil && f.Before > 0 && f.Kept == 0 {
		signals = append(signals, t.event(KeysReplaced, f.Issuer,
			fmt.Sprintf("none of its %d keys is among the %d that it publishes now", f.Before, f.Now)))
	}
	return signals
}

// moved compares a discovery document with the one before, and takes its place.
func (i *issuer) moved(now oidc.Discovery) string {
	before := i.discovery
	if now.KeysAt == "" {
		return "" // not found by discovery, or it could not be read
	}
	i.discovery = now
	var changes []string
	if before.KeysAt != "" && before.KeysAt != now.KeysAt {
		changes = append(changes, fmt.Sprintf("its keys are at %s and were at %s", printable(now.KeysAt, maxText), printable(before.KeysAt, maxText)))
	}
	if before.KeysAt != "" && !slices.Equal(before.Algorithms, now.Algorithms) {
		changes = append(changes, fmt.Sprintf("it says that it signs with %s and said %s", algorithms(now.Algorithms), algorithms(before.Algorithms)))
	}
	return strings.Join(changes, "; ")
}

func algorithms(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return printable(strings.Join(names, " "), maxText)
}

// event is a signal of something that happened, rather than lasts.
func (t *trust) event(kind Kind, subject, summary string) signal {
	return signal{kind: kind, subject: subject, summary: summary, count: 1, during: t.limits.Quiet}
}

// verified looks at what came of a token.
func (t *trust) verified(now time.Time, v oidc.Verification) (signals []signal) {
	i := t.of(v.Issuer)
	if !v.IssuedAt.IsZero() {
		i.meet(now, v.IssuedAt)
		if ahead := max(v.IssuedAt.Sub(now), v.NotBefore.Sub(now)); v.Why == oidc.WhyEarly || v.Why == "" && ahead > t.limits.Skew {
			// Once may be a token that is meant for later; three times in a minute is a clock.
			if n := i.future.add(now, 1); n >= 3 {
				signals = append(signals, t.event(ClockSkew, v.Issuer, fmt.Sprintf("its tokens are from %v in our future", ahead.Round(time.Second))))
			}
		}
	}
	if v.UnknownKey || v.Why == oidc.WhyKey {
		signals = append(signals, t.flood(now, &i.unknown, UnknownKeys, v.Issuer, "tokens with keys that it does not publish")...)
	}
	return signals
}

// rejected looks at evidence that an issuer of whatever kind did not accept.
func (t *trust) rejected(now time.Time, name string, err error) []signal {
	if r, ok := errors.AsType[*oidc.Rejection](err); ok && r.Why == oidc.WhyKey {
		return nil // verified has it
	}
	return t.flood(now, &t.of(name).bad, Rejections, name, "pieces of evidence that were not accepted")
}

// meet estimates how far the issuer's clock is ahead: a token that was issued now and came at once says it exactly,
// every other one too little. So the newest of a few minutes counts.
func (i *issuer) meet(now, issued time.Time) {
	const fresh = 5 * time.Minute
	if ahead := issued.Sub(now); i.aheadAt.IsZero() || ahead >= i.ahead || now.Sub(i.aheadAt) > fresh {
		i.ahead, i.aheadAt = ahead, now
	}
}

// flood counts, and signals from the limit on.
func (t *trust) flood(now time.Time, b *burst, kind Kind, subject, what string) []signal {
	n := b.add(now, 1)
	if n < t.limits.Failures {
		return nil
	}
	s := t.event(kind, subject, "at least "+fmt.Sprint(t.limits.Failures)+" "+what+" within a minute")
	if n == t.limits.Failures {
		s.count = n // those that led here
	}
	return []signal{s}
}

// stranger looks at a token that names an issuer that nobody configured.
func (t *trust) stranger(url string) []signal {
	return []signal{t.event(Stranger, printable(url, maxText), "tokens name this issuer, which is not configured")}
}

// refused looks at a failed attempt from an address.
func (t *trust) refused(now time.Time, from netip.Addr) []signal {
	subject := source(from)
	if subject == "" {
		return nil
	}
	n := t.sources.add(now, subject)
	if n < t.limits.Failures {
		return nil
	}
	s := t.event(SourceFailures, subject, fmt.Sprintf("at least %d attempts from there were refused within a minute", t.limits.Failures))
	if n == t.limits.Failures {
		s.count = n
	}
	return []signal{s}
}

// source is whom an address stands for: itself, or the network that one subscriber of IPv6 has.
func source(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	network, _ := a.Prefix(64)
	return network.String()
}

// Health is how an issuer's keys are doing.
type Health struct {
	Issuer       string
	FailingSince time.Time // zero: the last fetch succeeded
	LastError    string
	Keys         int
	KeysUntil    time.Time // zero where there are none
}

// looked looks at the health of all issuers, and forgets those that are gone.
func (t *trust) looked(now time.Time, all []Health) (signals []signal) {
	there := map[string]bool{}
	for _, h := range all {
		there[h.Issuer] = true
		if h.FailingSince.IsZero() {
			continue
		}
		lasts := func(kind Kind, summary string) {
			signals = append(signals, signal{kind: kind, subject: h.Issuer, summary: summary, during: min(t.limits.Quiet, minute)})
		}
		if now.Sub(h.FailingSince) >= t.limits.Unreachable {
			lasts(Unreachable, fmt.Sprintf("it has given no keys since %s: %s", h.FailingSince.UTC().Format(time.RFC3339), printable(h.LastError, 2*maxText)))
		}
		switch left := h.KeysUntil.Sub(now); {
		case h.Keys == 0 && now.Sub(h.FailingSince) >= t.limits.Unreachable:
			lasts(KeysEnding, "there are no keys that still work: its tokens are not accepted")
		case h.Keys > 0 && left <= t.limits.KeysEnding:
			lasts(KeysEnding, fmt.Sprintf("its last good keys work until %s", h.KeysUntil.UTC().Format(time.RFC3339)))
		}
	}
	for name := range t.issuers {
		if !there[name] {
			delete(t.issuers, name)
		}
	}
	return signals
}
