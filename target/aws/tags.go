package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/daypass/daypass/target"
)

// Names of tags, of sessions and of what is made per lease.
const (
	tagLease     = "lease"
	tagPrincipal = "principal"
)

// Tags returns the names of the session tags in our tokens: a trust policy has to allow them.
func Tags() []string { return []string{tagLease, tagPrincipal} }

// maxTag is how long AWS lets the value of a tag be, in characters.
const maxTag = 256

// principalTag says who is behind a lease: the issuer's name here, a colon, and the subject. Two principals never have
// one tag.
func principalTag(h target.Holder) string { return escapeTag(h.Issuer + ":" + h.Subject) }

// escapeTag writes strangers' text in the characters that AWS allows in tags. Bytes but ASCII letters, digits and
// _ . : / + @ - are written =XX, so that nothing of it is a wildcard, a policy variable or a letter that looks like
// another. What is too long ends with == and a hash of all of it, which no other text has.
func escapeTag(text string) string {
	var b strings.Builder
	cut := 0 // where it could be cut
	const tail = 2 + 32
	for i := range len(text) {
		if c := text[i]; isTagByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
		if b.Len() <= maxTag-tail {
			cut = b.Len()
		}
	}
	if b.Len() <= maxTag {
		return b.String()
	}
	sum := sha256.Sum256([]byte(text))
	return b.String()[:cut] + "==" + hex.EncodeToString(sum[:16])
}

func isTagByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_.:/+@-", c) >= 0
}

// claims are what our token for a session says beside its subject. AWS takes tags and the source identity from the token
// alone, so that nobody but us can choose them.
func (a *account) claims(g target.Grant) map[string]any {
	return map[string]any{
		"https://aws.amazon.com/source_identity": a.name(g.Lease),
		"https://aws.amazon.com/tags": map[string]any{
			"principal_tags":      map[string]any{tagLease: []any{g.Lease}, tagPrincipal: []any{principalTag(g.Holder)}},
			"transitive_tag_keys": []any{tagLease, tagPrincipal},
		},
	}
}
