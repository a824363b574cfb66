package postgres

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/daypass/daypass/target"
)

// shards is how many roles create logins on PostgreSQL 16 and later. Each created role makes its creator a
// member, and create and drop cost as much as the creator has memberships: 64 creators keep that flat at 10,000
// logins.
const shards = 64

// base32Alphabet is what instances and lease IDs are made of. Nothing in it needs quoting.
const base32Alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// names derives every name that we use at a server from the instance alone. All are far below the 63 bytes at
// which PostgreSQL cuts names without an error.
type names struct{ instance string }

func newNames(instance string) (names, error) {
	if len(instance) < 4 || len(instance) > 6 || strings.Trim(instance, base32Alphabet) != "" {
		return names{}, fmt.Errorf("instance %q: want 4 to 6 characters of lowercase base32", instance)
	}
	return names{instance}, nil
}

// login is the login role of a lease.
func (n names) login(lease string) string { return n.loginPrefix() + lease }

func (n names) loginPrefix() string { return "dp_" + n.instance + "_" }

// lease is the inverse of login.
func (n names) lease(login string) (string, bool) {
	lease, ours := strings.CutPrefix(login, n.loginPrefix())
	return lease, ours && target.CheckLease(lease) == nil
}

// group is the role that holds the rights of a Daypass role. The name of that role and its rights are hashed, so
// that two roles with the same rights stay apart and a change of rights is a new group.
func (n names) group(role string, rights []byte) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(role), role, rights))
	return n.groupPrefix() + digest(sum[:])
}

func (n names) groupPrefix() string { return "dpg_" + n.instance + "_" }

// creatorAt is one of the roles that make, alter and drop logins on PostgreSQL 16 and later. Which one made a
// login is read from its memberships.
func (n names) creatorAt(shard int) string {
	return fmt.Sprintf("%s%02d", n.creatorPrefix(), shard%shards)
}

func (n names) creators() []string {
	all := make([]string, shards)
	for shard := range all {
		all[shard] = n.creatorAt(shard)
	}
	return all
}

func (n names) creatorPrefix() string { return "dpc_" + n.instance + "_" }

// stashPrefix begins the names of roles that own what leases made in the name of a group, with which nobody can log
// in and which have no rights.
func (n names) stashPrefix() string { return "dpx_" + n.instance + "_" }

// mark is the role whose comment marks this server and database as a target of ours. Roles belong to the whole
// server, so that the database is part of the name: two databases of one server are two targets.
func (n names) mark(database string) string {
	sum := sha256.Sum256([]byte(database))
	return "dpm_" + n.instance + "_" + digest(sum[:])
}

// application is what our connections call themselves, so that the next boot finds those of this one.
func (n names) application(boot int64) string {
	return fmt.Sprintf("%s%d", n.applicationPrefix(), boot)
}

func (n names) applicationPrefix() string { return "daypass/" + n.instance + "/" }

// digest shortens a hash to 16 characters (80 bits) of base32.
func digest(sum []byte) string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// quote makes an identifier of any name.
func quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// quoteAll makes a list of identifiers.
func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

// literal makes a string constant. Every connection has standard_conforming_strings on, so that a backslash is a
// backslash.
func literal(text string) string {
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}
