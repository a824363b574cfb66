package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver of the store's file

	"github.com/daypass/daypass/internal/rig"
	"github.com/daypass/daypass/internal/store/storetest"
)

// million measures a broker whose store holds very many live leases against one whose store is empty.
func million(ctx context.Context, s settings) (err error) {
	fmt.Printf("\n## %d live leases in the store (SQLite)\n\n| leases | ready after | resident memory | acquire /s (16 callers, `member-fast`) | p50 |\n|--:|--:|--:|--:|--:|\n", s.million)
	r, err := rig.Start(ctx, rig.Options{Fsync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := measureStore(ctx, s, r, 0); err != nil {
		return err
	}
	if err := clearLeases(ctx, r); err != nil {
		return err
	}
	r.KillBroker()
	if err := seed(ctx, r, s.million); err != nil {
		return err
	}
	return measureStore(ctx, s, r, s.million)
}

// seed writes live leases straight into the store's file, of a target that the broker does not have.
func seed(ctx context.Context, r *rig.Rig, n int) error {
	db, err := sql.Open("sqlite", "file:"+r.Path("daypass.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	return storetest.Seed(ctx, db, n)
}

// measureStore restarts the broker, times it until it is ready, loads it and reads its memory.
func measureStore(ctx context.Context, s settings, r *rig.Rig, n int) error {
	r.KillBroker()
	begun := time.Now()
	if err := r.StartBroker(); err != nil {
		return err
	}
	if err := r.Ready(ctx); err != nil {
		return err
	}
	ready := time.Since(begun)
	clients, err := workloads(r, 16)
	if err != nil {
		return err
	}
	got := load(ctx, 16, s.slice, endless, acquireRole(clients, "member-fast"))
	memory, err := resident(r.BrokerPID())
	if err != nil {
		return err
	}
	fmt.Printf("| %d | %s | %d MiB | %.0f | %s |\n", n, ms(ready), memory>>20, got.rate(), ms(got.quantile(0.5)))
	if got.failure != nil {
		fmt.Printf("\nlast of %d errors: %v\n", got.failed, got.failure)
	}
	return nil
}

// processorTime is what a process has used so far, in user mode and in the kernel, or 0 where nobody tells.
func processorTime(pid int) time.Duration {
	const userTicks, kernelTicks, tick = 11, 12, 10 * time.Millisecond // proc(5), after the name in brackets
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(fields[userTicks], 10, 64)
	kernel, _ := strconv.ParseInt(fields[kernelTicks], 10, 64)
	return time.Duration(user+kernel) * tick
}

var residentLine = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident is a process's memory in bytes.
func resident(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	found := residentLine.FindSubmatch(status)
	if found == nil {
		return 0, fmt.Errorf("no VmRSS of process %d", pid)
	}
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kib << 10, err
}
