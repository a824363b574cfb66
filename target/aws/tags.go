package aws

import "github.com/daypass/daypass/target"

// Names of tags, of sessions and of what is made per lease.
const (
	tagLease     = "lease"
	tagPrincipal = "principal"
)

// Tags returns the names of the session tags in our tokens: a trust policy has to allow them.
func Tags() []string { return []string{tagLease, tagPrincipal} }

// maxTag is how long AWS lets the value of a tag be, in characters.
const maxTag = 256

// principalTag says who is behind a lease. Two principals never have one tag.
func principalTag(h target.Holder) string { return h.Text(maxTag) }

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
