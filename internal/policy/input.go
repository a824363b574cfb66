package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/daypass/daypass/identity"
)

// input is what was asked, as it is stored with a decision. Its fields are in the order of their names, so that
// the text is canonical.
type input struct {
	Action        Action         `json:"action"`
	Administrator bool           `json:"administrator"`
	Context       inputContext   `json:"context"`
	Principal     inputPrincipal `json:"principal"`
	Resource      inputResource  `json:"resource"`
}

type inputContext struct {
	Country     string                  `json:"country,omitempty"`
	LiveLeases  *int                    `json:"live_leases,omitempty"`
	Local       map[string]inputTime    `json:"local,omitempty"` // for people: a replay computes it again
	Now         string                  `json:"now"`
	Posture     map[string]inputPosture `json:"posture,omitempty"`
	SourceIP    string                  `json:"source_ip,omitempty"`
	Subdivision string                  `json:"subdivision,omitempty"`
	TokenAge    *int64                  `json:"token_age_ms,omitempty"`
	TTL         int64                   `json:"ttl_ms"`
}

type inputPosture struct {
	Fields     map[string]any `json:"fields"`
	ID         string         `json:"id"`
	ReportedAt string         `json:"reported_at"`
}

type inputTime struct {
	Date    string `json:"date,omitempty"`
	Hour    int    `json:"hour"`
	Minute  int    `json:"minute"`
	Weekday int    `json:"weekday"`
}

type inputPrincipal struct {
	Claims    inputClaims `json:"claims,omitempty"` // all that were verified, so that policies yet to be written can be tried
	Issuer    string      `json:"issuer"`
	IssuerURL string      `json:"issuer_url"`
	Subject   string      `json:"subject"`
}

type inputClaims map[string]any

// MarshalJSON writes the claims as everybody here does.
func (c inputClaims) MarshalJSON() ([]byte, error) { return identity.EncodeClaims(c) }

type inputResource struct {
	Holder *inputHolder `json:"holder,omitempty"`
	ID     string       `json:"id"`
	Role   string       `json:"role,omitempty"`
	Target string       `json:"target,omitempty"`
	Type   string       `json:"type"`
}

type inputHolder struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// inputTimeFormat is RFC 3339 with the milliseconds that Cedar knows.
const inputTimeFormat = "2006-01-02T15:04:05.000Z"

// Input returns what was asked as canonical JSON, enough for [Engine.Replay]. It holds claims, so it belongs
// where they may be erased.
func (d Decision) Input() []byte {
	r := d.request
	in := input{
		Action: r.Action, Administrator: r.Administrator,
		Context: inputContext{
			Country: r.Country, Subdivision: r.Subdivision, LiveLeases: r.LiveLeases,
			Now: r.Now.UTC().Format(inputTimeFormat), TTL: r.TTL.Milliseconds(), Local: map[string]inputTime{},
		},
		Principal: inputPrincipal{
			Claims: r.Principal.Claims, Issuer: r.Principal.Issuer, IssuerURL: r.Principal.IssuerURL, Subject: r.Principal.Subject,
		},
		Resource: inputResource{ID: r.Resource.id, Role: r.Resource.role, Target: r.Resource.target, Type: r.Resource.kind},
	}
	if r.SourceIP.IsValid() {
		in.Context.SourceIP = plainAddress(r.SourceIP).String()
	}
	if r.TokenAge != nil {
		in.Context.TokenAge = new(r.TokenAge.Milliseconds())
	}
	if len(r.Posture) > 0 {
		in.Context.Posture = map[string]inputPosture{}
	}
	for source, record := range r.Posture {
		in.Context.Posture[source] = inputPosture{record.Fields, record.ID, record.ReportedAt.UTC().Format(inputTimeFormat)}
	}
	if r.Resource.kind == kindLease {
		in.Resource.Holder = &inputHolder{r.Resource.holder.Issuer, r.Resource.holder.Subject}
	}
	if d.engine != nil {
		for _, z := range d.engine.zones {
			clock := localTime(r.Now, z.location)
			in.Context.Local[string(z.key)] = inputTime{clock.date(), clock.hour, clock.minute, clock.weekday}
		}
	}
	text, err := encode(in)
	if err != nil { // claims that are no JSON values: they were a denial, and the rest still tells of it
		in.Principal.Claims = nil
		text, _ = encode(in)
	}
	return text
}

func encode(in input) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(in); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Replay decides again what an earlier [Decision.Input] asked, by the policies of e.
func (e *Engine) Replay(stored []byte) (Decision, error) {
	r, err := readInput(stored)
	if err != nil {
		return Decision{}, err
	}
	return e.Decide(r), nil
}

// Recall returns the request that an earlier [Decision.Input] stored, to be decided in other circumstances.
func Recall(stored []byte) (Request, error) { return readInput(stored) }

func readInput(stored []byte) (Request, error) {
	var in input
	decoder := json.NewDecoder(bytes.NewReader(stored))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&in); err != nil {
		return Request{}, fmt.Errorf("read a stored decision input: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("read a stored decision input: there is more behind it")
	}
	r, err := in.request()
	if err != nil {
		return Request{}, fmt.Errorf("read a stored decision input: %w", err)
	}
	return r, nil
}

// request returns the request that was stored.
func (in input) request() (Request, error) {
	now, err := time.Parse(inputTimeFormat, in.Context.Now)
	if err != nil {
		return Request{}, errors.New("its time is malformed")
	}
	r := Request{
		Principal: identity.Principal{
			Issuer: in.Principal.Issuer, IssuerURL: in.Principal.IssuerURL, Subject: in.Principal.Subject, Claims: in.Principal.Claims,
		},
		Administrator: in.Administrator, Action: in.Action, Now: now,
		TTL: time.Duration(in.Context.TTL) * time.Millisecond, Country: in.Context.Country, Subdivision: in.Context.Subdivision,
		LiveLeases: in.Context.LiveLeases,
		Resource:   Resource{kind: in.Resource.Type, id: in.Resource.ID, role: in.Resource.Role, target: in.Resource.Target},
	}
	if in.Resource.Holder != nil {
		r.Resource.holder = Holder{in.Resource.Holder.Issuer, in.Resource.Holder.Subject}
	}
	if in.Context.SourceIP != "" {
		if r.SourceIP, err = netip.ParseAddr(in.Context.SourceIP); err != nil {
			return Request{}, errors.New("its source address is malformed")
		}
	}
	if in.Context.TokenAge != nil {
		r.TokenAge = new(time.Duration(*in.Context.TokenAge) * time.Millisecond)
	}
	if len(in.Context.Posture) > 0 {
		r.Posture = map[string]Posture{}
	}
	for source, record := range in.Context.Posture {
		at, err := time.Parse(inputTimeFormat, record.ReportedAt)
		if err != nil {
			return Request{}, errors.New("the time of its posture is malformed")
		}
		r.Posture[source] = Posture{record.ID, at, record.Fields}
	}
	return r, nil
}
