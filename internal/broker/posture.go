package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/store"
)

// Bounds of posture.
const (
	maxPostures       = 100_000 // records of one source
	maxPosture        = 4096    // bytes of one record
	reportAhead       = time.Minute
	reportsPerAcquire = 20 // reports a second for each acquisition a second that one principal may make
)

// PostureReport is what somebody says of a device, a cluster or a principal.
type PostureReport struct {
	Source     string
	ID         string
	Fields     []byte    // a JSON object
	ReportedAt time.Time // zero: now
}

// ReportPosture keeps a record of a source, for a principal whom a policy permits to report it. Leases that hang on it
// are decided again soon.
func (b *Broker) ReportPosture(ctx context.Context, c Caller, report PostureReport) (kept store.PostureRecord, err error) {
	who, source, err := b.reporter(ctx, c, report.Source)
	if err != nil {
		return kept, err
	}
	if !who.local {
		if err := b.reports.take(who.principal.IssuerURL, who.principal.Subject, time.Now()); err != nil {
			return kept, err
		}
	}
	record, err := b.postureRecord(who.view, source, report, who.name)
	if err != nil {
		return kept, err
	}
	err = b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) (err error) {
		kept, err = tx.PutPosture(record, maxPostures)
		return err
	})
	if err == nil {
		b.figures.reports.Inc()
		b.wakeReviews()
	}
	return kept, err
}

// reporter identifies a caller who may report to a source that takes reports.
func (b *Broker) reporter(ctx context.Context, c Caller, source string) (actor, string, error) {
	const op = "report posture"
	who, err := b.identifyCaller(ctx, c)
	if err != nil {
		return who, source, err
	}
	refused := fault.New(fault.Denied, op, fmt.Sprintf("you may not report posture %q", source))
	if who.view == nil || !who.local && (who.holds != "" || !who.view.Policy.Decide(b.mayReport(who, source)).Allow) {
		return who, source, refused
	}
	declared, ok := who.view.Access.Postures[source]
	switch {
	case !ok:
		return who, source, fault.New(fault.NotFound, op, fmt.Sprintf("the access configuration declares no posture %q", source))
	case declared.Read != nil:
		return who, source, fault.New(fault.Conflict, op, fmt.Sprintf("the records of posture %q are read from its URL", source))
	}
	return who, source, nil
}

func (b *Broker) mayReport(who actor, source string) policy.Request {
	now := b.clock.Now()
	r := policy.Request{
		Principal: who.principal, Administrator: b.isAdministrator(who), Action: policy.Report, Resource: policy.OnPosture(source),
		Now: now, SourceIP: who.origin.SourceIP, TokenAge: tokenAge(who.principal, now),
	}
	r.Country, r.Subdivision = b.place(r.SourceIP)
	return r
}

// postureRecord checks a report against what the source declares.
func (b *Broker) postureRecord(view *View, source string, report PostureReport, by string) (r store.PostureRecord, err error) {
	const op = "report posture"
	now := b.clock.Now()
	age, _ := view.Policy.PostureAge(source)
	ahead := report.ReportedAt.After(now.Add(reportAhead))
	if report.ReportedAt.IsZero() || report.ReportedAt.After(now) {
		// A clock that is ahead gets no start: until its time came, what others report would be older and not count.
		report.ReportedAt = now
	}
	switch {
	case !policy.ValidPostureID(report.ID):
		return r, fault.New(fault.Invalid, op, "the ID is empty, longer than 255 bytes, or has characters that do not show")
	case len(report.Fields) > maxPosture:
		return r, fault.New(fault.Invalid, op, fmt.Sprintf("the record has more than %d bytes", maxPosture))
	case ahead:
		return r, fault.New(fault.Invalid, op, "reported_at is in the future")
	case report.ReportedAt.Before(now.Add(-age)):
		return r, fault.New(fault.Invalid, op, fmt.Sprintf("reported_at is longer ago than the %s for which the source is believed", age))
	}
	fields, err := identity.ParseClaims(report.Fields)
	if err != nil || fields == nil {
		return r, fault.New(fault.Invalid, op, "fields is no JSON object")
	}
	if err := view.Policy.CheckPosture(source, fields); err != nil {
		return r, fault.Wrap(fault.Invalid, op, err.Error(), err)
	}
	text, err := json.Marshal(fields) // sorted, so that equal records are equal bytes
	if err != nil {
		return r, fmt.Errorf("encode posture: %w", err)
	}
	return store.PostureRecord{Source: source, ID: report.ID, Fields: text, ReportedAt: report.ReportedAt, ReportedBy: by}, nil
}

// WithdrawPosture takes a record back, for those who may report it, and returns it: what policies ask of it is then
// missing.
func (b *Broker) WithdrawPosture(ctx context.Context, c Caller, source, id string) (was store.PostureRecord, err error) {
	if _, _, err := b.reporter(ctx, c, source); err != nil {
		return was, err
	}
	err = b.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) (err error) {
		var found bool
		if was, found, err = tx.Posture(source, id); err != nil {
			return err
		}
		if !found {
			return fault.New(fault.NotFound, "withdraw posture", "no such record")
		}
		_, err = tx.DropPosture(source, id)
		return err
	})
	b.wakeReviews()
	return was, err
}

// Postures returns one page of a source's records, for administrators.
func (b *Broker) Postures(ctx context.Context, c Caller, source, cursor string, limit int) (page []store.PostureRecord, next string, err error) {
	if _, err := b.administer(ctx, c, policy.Read); err != nil {
		return nil, "", err
	}
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		page, next, err = tx.Postures(source, cursor, limit)
		return err
	})
	return page, next, err
}

// Posture returns one record, for administrators.
func (b *Broker) Posture(ctx context.Context, c Caller, source, id string) (r store.PostureRecord, err error) {
	if _, err := b.administer(ctx, c, policy.Read); err != nil {
		return r, err
	}
	var found bool
	err = b.store.View(ctx, func(tx *store.Tx) (err error) {
		r, found, err = tx.Posture(source, id)
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "read posture", "no such record")
	}
	return r, err
}

// PostureRead is what a source's URL said.
type PostureRead struct {
	Source  string
	By      string // the URL
	Records []PostureReport
}

// TakePosture keeps what was read of a source as all there is: records that it no longer has are taken back. A record
// that is not as declared counts as one that it does not have. It returns how many of those there were.
func (b *Broker) TakePosture(ctx context.Context, read PostureRead) (refused int, err error) {
	view := b.View()
	if view == nil {
		return 0, nil
	}
	if len(read.Records) > maxPostures {
		return 0, fmt.Errorf("read posture %q: it has more than %d records", read.Source, maxPostures)
	}
	records, fresh, refused := b.postureRecords(view, read)
	age, _ := view.Policy.PostureAge(read.Source)
	if records, err = b.newPostures(ctx, records, age/4); err != nil {
		return refused, err
	}
	if err := b.keepPostures(ctx, records); err != nil {
		return refused, err
	}
	err = b.dropOthers(ctx, read.Source, fresh)
	b.wakeReviews()
	return refused, err
}

// postureRecords are the good ones of what was read, and which IDs they have. Of an ID with two records that differ there is
// none: which of them is true nobody can tell.
func (b *Broker) postureRecords(view *View, read PostureRead) (records []store.PostureRecord, fresh map[string]bool, refused int) {
	fresh = map[string]bool{}
	at, torn := map[string]int{}, map[string]bool{}
	for _, report := range read.Records {
		record, err := b.postureRecord(view, read.Source, report, read.By)
		first, again := at[report.ID]
		switch {
		case err != nil:
			refused++
		case again:
			refused++
			if !bytes.Equal(records[first].Fields, record.Fields) {
				torn[report.ID] = true
			}
		default:
			at[report.ID], records = len(records), append(records, record)
		}
	}
	records = slices.DeleteFunc(records, func(r store.PostureRecord) bool { return torn[r.ID] })
	for _, r := range records {
		fresh[r.ID] = true
	}
	return records, fresh, refused + len(torn)
}

// newPostures leaves out what says the same as what is known and is not much newer: it need not be written each time.
func (b *Broker) newPostures(ctx context.Context, records []store.PostureRecord, newer time.Duration) (fresh []store.PostureRecord, err error) {
	err = b.store.View(ctx, func(tx *store.Tx) error {
		for _, record := range records {
			known, found, err := tx.Posture(record.Source, record.ID)
			if err != nil {
				return err
			}
			if !found || !bytes.Equal(known.Fields, record.Fields) || record.ReportedAt.Sub(known.ReportedAt) >= newer {
				fresh = append(fresh, record)
			}
		}
		return nil
	})
	return fresh, err
}

// keepPostures keeps records page by page, so that nobody waits long behind them.
func (b *Broker) keepPostures(ctx context.Context, records []store.PostureRecord) error {
	for len(records) > 0 {
		page := records[:min(reviewPage, len(records))]
		records = records[len(page):]
		err := b.store.Update(ctx, func(tx *store.Tx) error {
			for _, record := range page {
				if _, err := tx.PutPosture(record, maxPostures); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.figures.reports.Add(float64(len(page)))
	}
	return nil
}

// dropOthers takes back the records of a source that are not among some.
func (b *Broker) dropOthers(ctx context.Context, source string, keep map[string]bool) error {
	for cursor := ""; ; {
		var page []store.PostureRecord
		var next string
		err := b.store.View(ctx, func(tx *store.Tx) (err error) {
			page, next, err = tx.Postures(source, cursor, reviewPage)
			return err
		})
		if err != nil {
			return err
		}
		var gone []string
		for _, r := range page {
			if !keep[r.ID] {
				gone = append(gone, r.ID)
			}
		}
		if len(gone) > 0 {
			err = b.store.Update(ctx, func(tx *store.Tx) error {
				for _, id := range gone {
					if _, err := tx.DropPosture(source, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil || next == "" {
			return err
		}
		cursor = next
	}
}
