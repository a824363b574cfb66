// Package crash is the crash loop: while callers acquire, it kills the broker, kills the database, or loses answers
// between the two, at random instants, and after each round audits that promise 1 holds:
//
//	logins at PostgreSQL = live leases in the store, no strays, no lease lost early,
//	the ledger verifies, and holds every receipt that a caller was given.
//
// Leases are held through a few accidents and then ended, and the ledger is followed entry by entry and verified whole
// now and then, and at the end: so that a round costs the same however many there were before it.
//
// It is a test: `go test ./internal/crash` runs a few rounds, `make crash` hundreds. It owns no code that runs
// elsewhere. Everything is real: the daypass binary as a process, PostgreSQL, tokens of an OpenID Connect issuer.
package crash
