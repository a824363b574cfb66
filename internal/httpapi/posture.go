package httpapi

import (
	"maps"
	"net/http"
	"slices"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/identity"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/posture"
	"github.com/daypass/daypass/internal/store"
)

func postureRoutes() []route {
	return []route{
		with(http.MethodGet, "/v1/posture", "listPostureSources", "List the sources of posture that the active access files declare", (*call).postureSources),
		with(http.MethodPut, "/v1/posture/{source}/{id}", "reportPosture", "Report the posture of a device, a cluster or a principal", (*call).reportPosture),
		with(http.MethodGet, "/v1/posture/{source}/{id}", "readPosture", "Read a posture record", (*call).posture),
		with(http.MethodDelete, "/v1/posture/{source}/{id}", "withdrawPosture", "Take a posture record back", (*call).withdrawPosture),
		with(http.MethodGet, "/v1/posture/{source}", "listPosture", "List the posture records of a source, by ID", (*call).postures).asking(pageParameters()...),
	}
}

// postureKey reads the path, and that nothing else is asked.
func (c *call) postureKey() (source, id string, err error) {
	if _, err := c.query(); err != nil {
		return "", "", err
	}
	source, id = c.r.PathValue("source"), c.r.PathValue("id")
	if err := checkName("source", source); err != nil {
		return "", "", err
	}
	return source, id, checkName("ID", id)
}

func (c *call) reportPosture(in api.PostureReport) (api.PostureRecord, error) {
	source, id, err := c.postureKey()
	if err != nil {
		return api.PostureRecord{}, err
	}
	report := posture.Report{Source: source, ID: id, Fields: in.Fields}
	if in.ReportedAt != nil {
		report.ReportedAt = in.ReportedAt.Time
	}
	kept, err := c.edge.Posture.Report(c.r.Context(), c.who, report)
	return c.wirePosture(kept), err
}

func (c *call) posture(none) (api.PostureRecord, error) {
	source, id, err := c.postureKey()
	if err != nil {
		return api.PostureRecord{}, err
	}
	r, err := c.edge.Posture.Read(c.r.Context(), c.who, source, id)
	return c.wirePosture(r), err
}

func (c *call) withdrawPosture(none) (api.PostureRecord, error) {
	source, id, err := c.postureKey()
	if err != nil {
		return api.PostureRecord{}, err
	}
	was, err := c.edge.Posture.Withdraw(c.r.Context(), c.who, source, id)
	out := c.wirePosture(was)
	out.Believed, out.Until = false, nil // it was, and is not any more
	return out, err
}

func (c *call) postures(none) (page api.Page[api.PostureRecord], err error) {
	limit, cursor, err := c.page()
	if err != nil {
		return page, err
	}
	found, next, err := c.edge.Posture.List(c.r.Context(), c.who, c.r.PathValue("source"), cursor, limit)
	if err != nil {
		return page, err
	}
	page = api.Page[api.PostureRecord]{Items: make([]api.PostureRecord, len(found)), Next: next}
	for i, r := range found {
		page.Items[i] = c.wirePosture(r)
	}
	return page, nil
}

// wirePosture adds to a record whether policies would see it now.
func (c *call) wirePosture(r store.PostureRecord) api.PostureRecord {
	out := api.PostureRecord{Source: r.Source, ID: r.ID, Fields: r.Fields, ReportedAt: api.At(r.ReportedAt), ReportedBy: r.ReportedBy}
	view := c.edge.Guard.View()
	if view == nil {
		return out
	}
	fields, err := identity.ParseClaims(r.Fields)
	if err != nil {
		return out
	}
	until, believed := view.Policy.Believes(r.Source, policy.Posture{ID: r.ID, ReportedAt: r.ReportedAt, Fields: fields}, c.edge.Now())
	if !until.IsZero() {
		at := api.At(until)
		out.Believed, out.Until = believed, &at
	}
	return out
}

func (c *call) postureSources(none) (page api.Page[api.PostureSource], err error) {
	if _, err := c.query(); err != nil {
		return page, err
	}
	if _, err := c.edge.Guard.Administer(c.r.Context(), c.who, policy.Read); err != nil {
		return page, err
	}
	page.Items = []api.PostureSource{}
	view := c.edge.Guard.View()
	if view == nil {
		return page, nil
	}
	for _, name := range slices.Sorted(maps.Keys(view.Access.Postures)) {
		declared := view.Access.Postures[name]
		s := api.PostureSource{Name: name, Of: declared.Of, Fields: map[string]string{}, MaxAge: api.Duration(declared.MaxAge)}
		for field, kind := range declared.Fields {
			s.Fields[field] = kind.String()
		}
		if declared.Read != nil {
			s.URL = declared.Read.URL
		}
		page.Items = append(page.Items, s)
	}
	return page, nil
}
