package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/admission"
	"github.com/daypass/daypass/internal/fault"
	"github.com/daypass/daypass/internal/policy"
	"github.com/daypass/daypass/internal/source"
	"github.com/daypass/daypass/internal/trust"
)

func accessRoutes() []route {
	ifMatch := parameter{"If-Match", "the revision that must be active, in double quotes"}
	return []route{
		with(http.MethodPut, "/v1/access", "applyAccess", "Apply access files as the active revision", (*call).applyAccess).heading(ifMatch),
		with(http.MethodPost, "/v1/access/check", "checkAccess", "Find every mistake in access files", (*call).checkAccess),
		with(http.MethodGet, "/v1/access/revisions", "listRevisions", "List access revisions, newest first", (*call).revisions).
			asking(pageParameters()...),
		with(http.MethodPost, "/v1/access/revisions/{id}/activate", "activateAccess", "Activate an earlier revision", (*call).activate).heading(ifMatch),
		with(http.MethodGet, "/v1/schema", "schema", "Read the Cedar schema of the active revision", (*call).schema),
	}
}

// expected reads the condition of a change, and that nothing else is asked.
func (c *call) expected() (string, error) {
	if _, err := c.query(); err != nil {
		return "", err
	}
	return c.ifMatch()
}

// ifMatch returns the revision in the If-Match header, or none.
func (c *call) ifMatch() (string, error) {
	values := c.r.Header.Values("If-Match")
	if len(values) == 0 {
		return "", nil
	}
	id, opened := strings.CutPrefix(values[0], `"`)
	id, closed := strings.CutSuffix(id, `"`)
	if len(values) > 1 || opened != closed || !isRevision(id) {
		return "", malformed(`If-Match is one revision in double quotes: 64 hexadecimal digits (RFC 9110 §13.1.1)`)
	}
	return id, nil
}

// isRevision reports whether text can be a revision, the hash of its content.
func isRevision(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

func (c *call) applyAccess(in api.AccessRequest) (api.Revision, error) {
	const op = "apply access files"
	expected, err := c.expected()
	if err != nil {
		return api.Revision{}, err
	}
	if len(in.Files) == 0 {
		return api.Revision{}, malformed("files is missing or empty: an object of path to text; a lock stops everything, if that is wanted")
	}
	applied, err := c.edge.Guard.Apply(c.r.Context(), c.who, in.Files, expected)
	if err != nil {
		return api.Revision{}, refuseMistakes(op, err)
	}
	return wireApplied(applied)
}

// wireApplied tells of a revision that was made active, and what is wider in its files than it need be.
func wireApplied(applied admission.Applied) (api.Revision, error) {
	out := wireRevision(applied.Revision, applied.Revision.ID, applied.Notes)
	var files access.Files
	if err := json.Unmarshal(applied.Revision.Files, &files); err != nil {
		return out, fmt.Errorf("read the files of revision %s: %w", out.ID, err)
	}
	var err error
	out.Findings, err = findings(applied.Access, files)
	return out, err
}

// findings looks at files without mistakes, with the same eyes as `daypass check`.
func findings(cfg *access.Config, files access.Files) ([]api.AccessFinding, error) {
	found, err := trust.Lint(cfg, files)
	return trust.Wire(found), err
}

// checkAccess answers with the mistakes as its result: finding them is what was asked for.
func (c *call) checkAccess(in api.AccessRequest) (api.AccessCheck, error) {
	if _, err := c.query(); err != nil {
		return api.AccessCheck{}, err
	}
	if in.Files == nil {
		return api.AccessCheck{}, malformed("files is missing: an object of path to text")
	}
	out := api.AccessCheck{Revision: access.Hash(in.Files)}
	checked, err := c.edge.Guard.CheckAccess(c.r.Context(), c.who, in.Files)
	if wrong, ok := errors.AsType[source.Errors](err); ok {
		out.Errors = mistakes(wrong)
		return out, nil
	}
	if err == nil {
		out.Findings, err = findings(checked, in.Files)
	}
	return out, err
}

func (c *call) revisions(none) (page api.Page[api.Revision], err error) {
	limit, cursor, err := c.page()
	if err != nil {
		return page, err
	}
	found, active, next, err := c.edge.Guard.Revisions(c.r.Context(), c.who, cursor, limit)
	if err != nil {
		return page, err
	}
	page = api.Page[api.Revision]{Items: make([]api.Revision, len(found)), Next: next}
	for i, r := range found {
		page.Items[i] = wireRevision(r, active, nil)
	}
	return page, nil
}

func (c *call) activate(none) (api.Revision, error) {
	expected, err := c.expected()
	if err != nil {
		return api.Revision{}, err
	}
	id := c.r.PathValue("id")
	if !isRevision(id) {
		return api.Revision{}, fault.New(fault.NotFound, "activate a revision", "no such revision")
	}
	applied, err := c.edge.Guard.Activate(c.r.Context(), c.who, id, expected)
	if err != nil {
		return api.Revision{}, refuseMistakes("activate revision "+id, err)
	}
	return wireApplied(applied)
}

func (c *call) schema(none) (api.AccessSchema, error) {
	if _, err := c.query(); err != nil {
		return api.AccessSchema{}, err
	}
	if _, err := c.edge.Guard.Administer(c.r.Context(), c.who, policy.Read); err != nil {
		return api.AccessSchema{}, err
	}
	view := c.edge.Guard.View()
	if view == nil {
		return api.AccessSchema{}, fault.New(fault.NotFound, "read the schema", "no access configuration is active; apply one first")
	}
	return api.AccessSchema{Schema: view.Policy.Schema()}, nil
}
