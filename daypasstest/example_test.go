package daypasstest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/daypasstest"
)

// A test uses Start instead of New, and needs neither a directory nor Close.
func Example() {
	dir, err := os.MkdirTemp("", "daypass")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	daypass, err := daypasstest.New(dir, daypasstest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer daypass.Close()

	ctx := context.Background()
	lease, err := daypass.Workload(map[string]any{"sub": "ci"}).Acquire(ctx, api.AcquireRequest{Role: daypasstest.Role})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("works:", daypass.Works(lease.Credential))

	released, err := lease.Release(ctx, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("released:", released.State)
	fmt.Println("works:", daypass.Works(lease.Credential))
	// Output:
	// works: true
	// released: revoked
	// works: false
}
