package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/daypass/daypass/identity"
)

// Rule says which name in a certificate is the subject of its principal.
type Rule string

// The rules. A certificate must hold exactly one name of the kind: with two, whoever reads it could take either.
const (
	URI        Rule = "uri"    // the URI among its subject alternative names, as it is written
	DNS        Rule = "dns"    // the DNS name among them, in lower case; no wildcard
	Email      Rule = "email"  // the address among them, as it is written
	CommonName Rule = "cn"     // the common name of its subject
	Serial     Rule = "serial" // its serial number, in hexadecimal: each renewal is another principal
)

// ParseRule reads a rule.
func ParseRule(text string) (Rule, error) {
	switch r := Rule(text); r {
	case URI, DNS, Email, CommonName, Serial:
		return r, nil
	}
	return "", fmt.Errorf("a subject is uri, dns, email, cn or serial, not %.40q", text)
}

const maxSubject = 255 // bytes; identity.Principal promises it

// of returns the subject of a leaf.
func (r Rule) of(leaf *x509.Certificate) (string, error) {
	var found []string
	switch r {
	case URI:
		for _, u := range leaf.URIs {
			found = append(found, u.String())
		}
	case DNS:
		for _, name := range leaf.DNSNames {
			found = append(found, strings.ToLower(name))
		}
	case Email:
		found = leaf.EmailAddresses
	case CommonName:
		found = commonNames(leaf)
	case Serial:
		found = []string{serial(leaf)}
	}
	if len(found) != 1 {
		return "", identity.Reject(WhySubject, "it has %d names of kind %s; exactly one is needed", len(found), r)
	}
	subject := found[0]
	if r == DNS && !isHost(subject) {
		return "", identity.Reject(WhySubject, "%s is not the name of one machine", identity.Quote(subject))
	}
	return subject, checkSubject(subject)
}

// commonNames returns every common name of the subject: the library's field has but the last one.
func commonNames(leaf *x509.Certificate) []string {
	var found []string
	for _, attribute := range leaf.Subject.Names {
		if attribute.Type.String() == "2.5.4.3" {
			text, _ := attribute.Value.(string)
			found = append(found, text)
		}
	}
	return found
}

// isHost reports whether a DNS name is one of letters, digits, hyphens and dots: no wildcard, and no letter of another
// script that looks like one of these.
func isHost(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

// checkSubject refuses what a log, a terminal or a person could take for another subject.
func checkSubject(subject string) error {
	switch {
	case subject == "":
		return identity.Reject(WhySubject, "its subject is empty")
	case len(subject) > maxSubject:
		return identity.Reject(WhySubject, "its subject has more than %d bytes", maxSubject)
	case !utf8.ValidString(subject):
		return identity.Reject(WhySubject, "its subject is not UTF-8")
	}
	for _, r := range subject {
		// Cf holds the bidirectional controls, and other characters that nobody sees.
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return identity.Reject(WhySubject, "its subject holds the control character %U", r)
		}
	}
	return nil
}

// serial writes a serial number in lower-case hexadecimal.
func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// claims are what policies may ask of a certificate. Each is there; what the certificate does not have is empty.
func claims(leaf *x509.Certificate) map[string]any {
	var uris, addresses []any
	for _, u := range leaf.URIs {
		uris = append(uris, valid(u.String()))
	}
	for _, ip := range leaf.IPAddresses {
		addresses = append(addresses, ip.String())
	}
	fingerprint := sha256.Sum256(leaf.Raw)
	return map[string]any{
		"common_name":         valid(leaf.Subject.CommonName),
		"organization":        list(leaf.Subject.Organization),
		"organizational_unit": list(leaf.Subject.OrganizationalUnit),
		"country":             list(leaf.Subject.Country),
		"subject_dn":          valid(leaf.Subject.String()),
		"issuer_dn":           valid(leaf.Issuer.String()),
		"serial":              serial(leaf),
		"fingerprint":         hex.EncodeToString(fingerprint[:]),
		"uri":                 append([]any{}, uris...),
		"dns":                 list(leaf.DNSNames),
		"email":               list(leaf.EmailAddresses),
		"ip":                  append([]any{}, addresses...),
		"not_after":           leaf.NotAfter.Unix(),
	}
}

// valid makes a text of a certificate one of UTF-8, as claims are: some of its kinds of text hold any bytes.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func list(texts []string) []any {
	all := []any{}
	for _, text := range texts {
		all = append(all, valid(text))
	}
	return all
}
