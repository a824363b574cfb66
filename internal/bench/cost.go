package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass/daypass/api"
)

// cost measures what one lease costs from its acquisition to its end, without what its target costs: processor time of
// the broker and of the store's server, bytes stored, bytes of the store's log.
func cost(ctx context.Context, s settings) error {
	fmt.Printf("\n## What a lease costs (no target is called; %d leases, 16 callers)\n\n| store | | broker CPU | CPU of the store's server | bytes stored | bytes of its log |\n|---|---|--:|--:|--:|--:|\n", s.cost)
	for _, open := range []func(context.Context) (*place, error){onFile, func(ctx context.Context) (*place, error) { return onPostgres(ctx, 1) }} {
		p, err := open(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(costAt(ctx, s, p), p.close()); err != nil {
			return err
		}
	}
	return nil
}

func costAt(ctx context.Context, s settings, p *place) error {
	const callers = 16
	empty, err := p.bytesStored(ctx)
	if err != nil {
		return err
	}
	clients, err := p.workloads(callers, p.urls...)
	if err != nil {
		return err
	}
	n := s.cost / callers * callers
	row := func(phase string, did func() error) error {
		broker, server, log, err := p.spent(ctx, did)
		if err != nil {
			return err
		}
		stored, err := p.bytesStored(ctx)
		if err != nil {
			return err
		}
		per := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000/float64(n)) }
		fmt.Printf("| %s | %s | %s | %s | %d | %d |\n", p.name, phase, per(broker), per(server), (stored-empty)/int64(n), log/int64(n))
		return nil
	}
	err = row("acquired, and live", func() error {
		return load(ctx, callers, 10*time.Minute, n/callers, acquireRole(clients, "token")).failure
	})
	if err != nil {
		return err
	}
	err = row("ended, proved", func() error {
		if _, err := p.admin.Lock(ctx, api.LockRequest{Match: api.Match{Target: "tokens"}, Reason: "the end"}); err != nil {
			return err
		}
		return p.awaitNone(ctx)
	})
	if err != nil {
		return err
	}
	if err := p.forget(ctx); err != nil {
		return err
	}
	stored, err := p.bytesStored(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("| %s | forgotten but for the ledger | | | %d | |\n", p.name, (stored-empty)/int64(n))
	return nil
}

// spent is what a piece of work costs.
func (p *place) spent(ctx context.Context, work func() error) (broker, server time.Duration, log int64, err error) {
	written, err := p.written(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	serverBefore, err := p.storeTime()
	if err != nil {
		return 0, 0, 0, err
	}
	brokerBefore := p.brokerTime()
	err = work()
	broker = p.brokerTime() - brokerBefore
	serverAfter, failed := p.storeTime()
	log, unread := written()
	return broker, serverAfter - serverBefore, log, errors.Join(err, failed, unread)
}
