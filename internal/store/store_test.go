package store_test

import (
	"testing"
	"time"

	"github.com/daypass/daypass/internal/lease"
	"github.com/daypass/daypass/internal/store"
)

// What the store does is tested against a database: see storetest, which every dialect runs.

func TestAnEmptyLockMatchesNothing(t *testing.T) {
	l := store.Lease{ID: lease.NewID(time.Now().Unix()), State: lease.Active, Role: "reader", Target: "db", Issuer: "github", IssuerURL: "https://issuer", Subject: "s"}
	for name, c := range map[string]struct {
		lock store.Lock
		want bool
	}{
		"an empty lock":                     {store.Lock{}, false},
		"an issuer's name alone":            {store.Lock{Issuer: "github"}, false},
		"the principal":                     {store.Lock{IssuerURL: "https://issuer", Subject: "s"}, true},
		"the principal under an old name":   {store.Lock{IssuerURL: "https://issuer", Subject: "s", Issuer: "gh"}, true},
		"another subject":                   {store.Lock{IssuerURL: "https://issuer", Subject: "t"}, false},
		"the role and another target":       {store.Lock{Role: "reader", Target: "other"}, false},
		"the lease":                         {store.Lock{Lease: l.ID}, true},
		"another lease of the same subject": {store.Lock{Lease: lease.NewID(time.Now().Unix()), Subject: "s", IssuerURL: "https://issuer"}, false},
	} {
		if got := c.lock.Matches(&l); got != c.want {
			t.Errorf("%s: matches %v", name, got)
		}
	}
}

func TestATallyCountsWhatMayLive(t *testing.T) {
	if live := (store.Tally{Pending: 1, Active: 2, Revoking: 4}).Live(); live != 7 {
		t.Errorf("%d live", live)
	}
}
