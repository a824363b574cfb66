// Package arch holds the house rules as tests: which room may import which, who may read the clock or reveal a
// secret, where a lease's state may change, and how large things may grow.
//
// It owns no code that runs.
package arch
