// Package chaos is the chaos run: several `daypass serve` share a store in PostgreSQL, a primary with a standby, while
// callers acquire, renew, release and let expire at random replicas, and accidents happen: replicas are killed or
// stopped for longer than they may be, the store's primary dies and its standby takes over, the target dies, and the
// roads between them lose, hold and cut what passes. Afterwards a checker that uses none of the broker's code compares
// what the callers were told with the store, the target and the ledger:
//
//	logins at the target = leases that may live, no strays, no credential dead before its time,
//	no lease handed out twice, every receipt in one ledger, and no answer that takes an earlier one back.
//
// It is a test: `go test ./internal/chaos` runs most kinds of accidents once, `make chaos` goes on for minutes. It owns
// no code that runs elsewhere. The order of accidents follows from CHAOS_SEED; what the machine does with it does not.
// CHAOS_RACE=1 builds the replicas with the race detector.
//
// Not tried here: clocks that jump. Daypass would need to run under a clock of its own for that.
package chaos
