package target

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Text says in at most so many bytes who is behind a lease, for a note or a tag at a target: the issuer's name here, a
// colon, and the subject. Bytes but ASCII letters, digits and _ . : / + @ - are written =XX, so that nothing of it is a
// wildcard, a variable or a letter that looks like another. What is too long ends with == and a hash of all of it. Two
// holders never have one text.
func (h Holder) Text(most int) string {
	text := h.Issuer + ":" + h.Subject
	var b strings.Builder
	cut := 0 // where it could be cut
	const tail = 2 + 32
	for i := range len(text) {
		if c := text[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
		if b.Len() <= most-tail {
			cut = b.Len()
		}
	}
	if b.Len() <= most {
		return b.String()
	}
	sum := sha256.Sum256([]byte(text))
	return b.String()[:cut] + "==" + hex.EncodeToString(sum[:16])
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_.:/+@-", c) >= 0
}
