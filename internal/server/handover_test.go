package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A server dies in the middle of a review: it leaves its claim behind, and policies by which not all leases were looked
// at. Another one waits until the claim is over, takes it, and looks at all of them.
func TestTheReviewOfAServerThatDiedIsTakenOver(t *testing.T) {
	first := newRig(t).share(t).start(t)
	lease := acquire(t, first.at(t))
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	database := first.cfg.Store[strings.LastIndex(first.cfg.Store, "/")+1 : strings.Index(first.cfg.Store, "?")]
	sql := func(text string) error { return first.postgres.Exec(t.Context(), database, text) }
	const now = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
	if err := sql("insert into keepers (name, boot, until) values ('(review)', 4711, " + now + " + 4000000) on conflict (name) do update set boot = 4711, until = excluded.until"); err != nil {
		t.Fatal(err)
	}
	// It died after it had made these policies active.
	first.write(t, "access/policy.cedar", strings.Replace(allowMain, "refs/heads/main", "refs/heads/release", 1))
	second := first.another(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		info, err := second.administrator(t).Lease(ctx, lease.ID())
		if err != nil {
			t.Fatalf("nobody has taken the review over: %v", err)
		}
		if info.Reason == "policy" {
			break
		}
	}
	// That nobody works beside a server that lives is what the claim is for. Dividing by zero is an error.
	for what, count := range map[string]string{
		"the claim of the dead is over":   "select 1 / count(*) from keepers where name = '(review)' and boot <> 4711",
		"the other server has the claim":  "select 1 / count(*) from keepers k join replicas r on r.boot = k.boot where k.name = '(review)' and k.until > " + now,
		"it notes that it looked at them": "select 1 / count(*) from meta where name = 'reviewed' and value = (select id from revisions order by activated_at desc limit 1)",
	} {
		if err := awaitSQL(ctx, sql, count); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// awaitSQL runs a statement until it is no error.
func awaitSQL(ctx context.Context, sql func(string) error, text string) error {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		err := sql(text)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", err)
		}
	}
}
