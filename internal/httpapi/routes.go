package httpapi

import (
	"net/http"
	"reflect"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/policy"
)

// route is one call of the API: how it is reached, what it takes and gives, and what serves it. The multiplexer and
// the OpenAPI document are made from it.
type route struct {
	method, path string
	id           string // operationId
	summary      string
	query        []parameter
	header       []parameter
	in, out      reflect.Type // of the bodies; nil: none
	form         []parameter  // of a body that is form-encoded
	media        string       // of the answer where it is not JSON
	status       []int        // of good answers
	open         bool         // nobody has to say who they are
	serve        func(*call) error
}

// parameter is one parameter of a query or header.
type parameter struct{ name, doc string }

// routes is the table of all calls.
func (e *edge) routes() []route {
	tables := [][]route{leaseRoutes(), lockRoutes(), accessRoutes(), postureRoutes(), deviceRoutes(), ledgerRoutes(), keyRoutes(), operationRoutes(), oauthRoutes()}
	var all []route
	for _, table := range tables {
		all = append(all, table...)
	}
	return all
}

// none is the body of calls without one.
type none struct{}

// with makes a route of a function from a decoded body to an answer, which is written as JSON.
func with[In, Out any](method, path, id, summary string, do func(c *call, in In) (Out, error)) route {
	r := route{method: method, path: path, id: id, summary: summary, out: reflect.TypeFor[Out](), status: []int{http.StatusOK}}
	limit := int64(api.MaxBody)
	hasBody := reflect.TypeFor[In]() != reflect.TypeFor[none]()
	if hasBody {
		r.in = reflect.TypeFor[In]()
	}
	large := r.in == reflect.TypeFor[api.AccessRequest]()
	if large {
		limit = api.MaxAccess
	}
	r.serve = func(c *call) (err error) {
		if large { // many of these at once are more than the machine has: nobody's are read but administrators'
			if c.who, err = c.edge.Guard.Admit(c.r.Context(), c.who, policy.Configure); err != nil {
				return err
			}
		}
		var in In
		if err := read(c, hasBody, limit, &in); err != nil {
			return err
		}
		out, err := do(c, in)
		if err != nil {
			return err
		}
		return c.answer(out)
	}
	return r
}

func read(c *call, hasBody bool, limit int64, into any) error {
	if !hasBody {
		return noBody(c)
	}
	return decode(c, limit, into)
}

// guarded is what serves a route, behind a look at who calls: strangers learn nothing of what is wrong with a
// request, and their bodies are not read.
func (r route) guarded() func(*call) error {
	if r.open {
		return r.serve
	}
	return func(c *call) error {
		if err := c.meet(); err != nil {
			return err
		}
		return r.serve(c)
	}
}

// asking adds parameters of the query to a route.
func (r route) asking(query ...parameter) route {
	r.query = query
	return r
}

// answering replaces the statuses of a route's good answers.
func (r route) answering(status ...int) route {
	r.status = status
	return r
}

// heading adds parameters of the header to a route.
func (r route) heading(header ...parameter) route {
	r.header = header
	return r
}

func pageParameters(more ...parameter) []parameter {
	return append(more, parameter{"limit", "items on a page, 1 to 1000; 100 unless given"},
		parameter{"cursor", "where the page starts: next of the page before"})
}
