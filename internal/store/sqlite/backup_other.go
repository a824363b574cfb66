//go:build !linux

package sqlite

// freeRoom is not asked for here: a full disk is found when it is full.
func freeRoom(string) (int64, bool) { return 0, false }
