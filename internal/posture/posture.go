// Package posture keeps what is said of the state of devices, clusters and principals: by those whom a policy permits to
// report it, or at a URL that is read.
//
// It owns the records from the moment they are said. It promises that a record is as its source declares, that who
// reports may, and that what is read from a URL is all there is. What follows from a record is not its business: it
// tells that records have changed ([Records.Changed]), and the store which leases hang on them.
//
// It must not import the broker, the edge, or net/http: whoever reads the URL hands over what it said.
package posture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/rate"
	"github.com/daypass/daypass/internal/store"
)

// PerAcquisition is how many reports a second one principal may make for each acquisition a second.
const PerAcquisition = 20

// Bounds of posture.
const (
	maxRecords  = 100_000 // records of one source
	maxRecord   = 4096    // bytes of one record
	reportAhead = time.Minute
	pageSize    = 200
)

// Guard is what posture needs of admission. [admission.Guard] is one.
type Guard interface {
	View() *admission.View
	Identify(ctx context.Context, c admission.Caller) (admission.Actor, error)
	Administer(ctx context.Context, c admission.Caller, action policy.Action) (admission.Actor, error)
	MayReport(who admission.Actor, source string) bool
}

// Config is what Records need.
type Config struct {
	Guard Guard
	Store *store.Store
	Rate  float64 // reports of one principal in a second; 0: no limit
	Now   func() time.Time
}

// Records are what is known of posture. Their methods may be called concurrently.
type Records struct {
	guard   Guard
	store   *store.Store
	now     func() time.Time
	rates   *rate.Limit
	changed chan struct{} // buffered, so that no change is lost
	reports prometheus.Counter
}

// New returns Records.
func New(cfg Config) *Records {
	return &Records{
		guard:   cfg.Guard,
		store:   cfg.Store,
		now:     cfg.Now,
		rates:   rate.New(cfg.Rate),
		changed: make(chan struct{}, 1),
		reports: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daypass_posture_reports_total", Help: "Posture records that were taken."}),
	}
}

// Changed tells that records may have changed, to one listener. Of several changes that it did not hear of in time it is
// told once.
func (p *Records) Changed() <-chan struct{} { return p.changed }

func (p *Records) wake() {
	select {
	case p.changed <- struct{}{}:
	default: // it is told already
	}
}

// Describe implements [prometheus.Collector].
func (p *Records) Describe(out chan<- *prometheus.Desc) { p.reports.Describe(out) }

// Collect implements [prometheus.Collector].
func (p *Records) Collect(out chan<- prometheus.Metric) { p.reports.Collect(out) }

// Report is what somebody says of a device, a cluster or a principal.
type Report struct {
	Source     string
	ID         string
	Fields     []byte    // a JSON object
	ReportedAt time.Time // zero: now
}

// Report keeps a record of a source, for a principal whom a policy permits to report it. Leases that hang on it
// are decided again soon.
func (p *Records) Report(ctx context.Context, c admission.Caller, report Report) (kept store.PostureRecord, err error) {
	who, err := p.reporter(ctx, c, report.Source)
	if err != nil {
		return kept, err
	}
	if !who.Local {
		if err := p.rates.Take(who.Principal.IssuerURL, who.Principal.Subject, p.now()); err != nil {
			return kept, err
		}
	}
	record, err := p.check(who.View, report.Source, report, who.Name)
	if err != nil {
		return kept, err
	}
	err = p.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) (err error) {
		kept, err = tx.PutPosture(record, maxRecords)
		return err
	})
	if err == nil {
		p.reports.Inc()
		p.wake()
	}
	return kept, err
}

// reporter identifies a caller who may report to a source that takes reports.
func (p *Records) reporter(ctx context.Context, c admission.Caller, source string) (admission.Actor, error) {
	const op = "report posture"
	who, err := p.guard.Identify(ctx, c)
	if err != nil {
		return who, err
	}
	if !p.guard.MayReport(who, source) {
		return who, fault.New(fault.Denied, op, fmt.Sprintf("you may not report posture %q", source))
	}
	declared, ok := who.View.Access.Postures[source]
	switch {
	case !ok:
		return who, fault.New(fault.NotFound, op, fmt.Sprintf("the access configuration declares no posture %q", source))
	case declared.Read != nil:
		return who, fault.New(fault.Conflict, op, fmt.Sprintf("the records of posture %q are read from its URL", source))
	}
	return who, nil
}

// check checks a report against what the source declares.
func (p *Records) check(view *admission.View, source string, report Report, by string) (r store.PostureRecord, err error) {
	const op = "report posture"
	now := p.now()
	age, _ := view.Policy.PostureAge(source)
	ahead := report.ReportedAt.After(now.Add(reportAhead))
	if report.ReportedAt.IsZero() || report.ReportedAt.After(now) {
		// A clock that is ahead gets no start: until its time came, what others report would be older and not count.
		report.ReportedAt = now
	}
	switch {
	case !policy.ValidPostureID(report.ID):
		return r, fault.New(fault.Invalid, op, "the ID is empty, longer than 255 bytes, or has characters that do not show")
	case len(report.Fields) > maxRecord:
		return r, fault.New(fault.Invalid, op, fmt.Sprintf("the record has more than %d bytes", maxRecord))
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

// Withdraw takes a record back, for those who may report it, and returns it: what policies ask of it is then
// missing.
func (p *Records) Withdraw(ctx context.Context, c admission.Caller, source, id string) (was store.PostureRecord, err error) {
	if _, err := p.reporter(ctx, c, source); err != nil {
		return was, err
	}
	err = p.store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) (err error) {
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
	p.wake()
	return was, err
}

// List returns one page of a source's records, for administrators.
func (p *Records) List(ctx context.Context, c admission.Caller, source, cursor string, limit int) (page []store.PostureRecord, next string, err error) {
	if _, err := p.guard.Administer(ctx, c, policy.Read); err != nil {
		return nil, "", err
	}
	err = p.store.View(ctx, func(tx *store.Tx) (err error) {
		page, next, err = tx.Postures(source, cursor, limit)
		return err
	})
	return page, next, err
}

// Read returns one record, for administrators.
func (p *Records) Read(ctx context.Context, c admission.Caller, source, id string) (r store.PostureRecord, err error) {
	if _, err := p.guard.Administer(ctx, c, policy.Read); err != nil {
		return r, err
	}
	var found bool
	err = p.store.View(ctx, func(tx *store.Tx) (err error) {
		r, found, err = tx.Posture(source, id)
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "read posture", "no such record")
	}
	return r, err
}

// Reading is what a source's URL said.
type Reading struct {
	Source  string
	By      string // the URL
	Records []Report
}

// Take keeps what was read of a source as all there is: records that it no longer has are taken back. A record
// that is not as declared counts as one that it does not have. It returns how many of those there were.
func (p *Records) Take(ctx context.Context, read Reading) (refused int, err error) {
	view := p.guard.View()
	if view == nil {
		return 0, nil
	}
	if len(read.Records) > maxRecords {
		return 0, fmt.Errorf("read posture %q: it has more than %d records", read.Source, maxRecords)
	}
	records, fresh, refused := p.good(view, read)
	age, _ := view.Policy.PostureAge(read.Source)
	if records, err = p.fresh(ctx, records, age/4); err != nil {
		return refused, err
	}
	if err := p.keep(ctx, records); err != nil {
		return refused, err
	}
	err = p.dropOthers(ctx, read.Source, fresh)
	p.wake()
	return refused, err
}

// good are the good ones of what was read, and which IDs they have. Of an ID with two records that differ there is
// none: which of them is true nobody can tell.
func (p *Records) good(view *admission.View, read Reading) (records []store.PostureRecord, fresh map[string]bool, refused int) {
	fresh = map[string]bool{}
	at, torn := map[string]int{}, map[string]bool{}
	for _, report := range read.Records {
		record, err := p.check(view, read.Source, report, read.By)
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

// fresh leaves out what says the same as what is known and is not much newer: it need not be written each time.
func (p *Records) fresh(ctx context.Context, records []store.PostureRecord, newer time.Duration) (fresh []store.PostureRecord, err error) {
	err = p.store.View(ctx, func(tx *store.Tx) error {
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

// keep keeps records page by page, so that nobody waits long behind them.
func (p *Records) keep(ctx context.Context, records []store.PostureRecord) error {
	for len(records) > 0 {
		page := records[:min(pageSize, len(records))]
		records = records[len(page):]
		err := p.store.Update(ctx, func(tx *store.Tx) error {
			for _, record := range page {
				if _, err := tx.PutPosture(record, maxRecords); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.reports.Add(float64(len(page)))
	}
	return nil
}

// dropOthers takes back the records of a source that are not among some.
func (p *Records) dropOthers(ctx context.Context, source string, keep map[string]bool) error {
	for cursor := ""; ; {
		var page []store.PostureRecord
		var next string
		err := p.store.View(ctx, func(tx *store.Tx) (err error) {
			page, next, err = tx.Postures(source, cursor, pageSize)
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
			err = p.store.Update(ctx, func(tx *store.Tx) error {
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
