package access

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/source"
)

// Posture is a source of records about the health of devices, clusters or principals, which policies may ask for.
type Posture struct {
	Name   string
	Of     map[string]string    // the issuers whose principals it speaks of, to the claim that names the record, or [SubjectKey]
	Fields map[string]ClaimType // what a record says
	MaxAge time.Duration        // how long a record is believed
	Read   *PostureRead         // where records are read; nil: they are reported to us
	Place  source.Place
}

// PostureRead says where a source's records are read.
type PostureRead struct {
	URL    string
	Every  time.Duration
	Token  string // file below the secrets directory whose content is sent as a bearer token; empty: none
	CAFile string // certificates to trust for it; empty: the system's
}

// SubjectKey stands where a claim could: the principal's subject names the record.
const SubjectKey = "sub"

// Bounds of what files may ask of posture.
const (
	maxPostureFields = 50
	minPostureAge    = 10 * time.Second
	maxPostureAge    = 7 * 24 * time.Hour
	minPostureEvery  = 5 * time.Second
)

type postureDocument struct {
	Kind   string               `yaml:"kind"`
	Name   string               `yaml:"name"`
	Of     map[string]string    `yaml:"of"`
	Fields map[string]ClaimType `yaml:"fields"`
	MaxAge api.Duration         `yaml:"max_age"`
	Read   *postureReadDocument `yaml:"read"`
}

type postureReadDocument struct {
	URL    string        `yaml:"url"`
	Every  *api.Duration `yaml:"every"`
	Token  *fileDocument `yaml:"token"`
	CAFile string        `yaml:"ca_file"`
}

type fileDocument struct {
	File string `yaml:"file"`
}

// pendingPosture is a source whose issuers are still to be looked for: they may stand in a later file.
type pendingPosture struct {
	posture Posture
	section *source.Section
}

func (b *builder) posture(section *source.Section) {
	var doc postureDocument
	err := section.Decode(&doc)
	b.wrong.Add("", err)
	if !b.define(section, "Posture", doc.Name) || err != nil {
		return
	}
	report := b.reporter(section)
	posture := Posture{Name: doc.Name, Of: doc.Of, Fields: doc.Fields, MaxAge: time.Duration(doc.MaxAge), Place: section.PlaceOf("name")}
	if posture.MaxAge < minPostureAge || posture.MaxAge > maxPostureAge {
		report("max_age", fmt.Sprintf("records are believed for %s to %s", api.Duration(minPostureAge), api.Duration(maxPostureAge)), "add `max_age:` such as 10m: after that a record counts as missing")
	}
	checkPostureFields(doc.Fields, report)
	if doc.Read != nil {
		posture.Read = doc.Read.settings(posture.MaxAge, report)
	}
	b.postured = append(b.postured, pendingPosture{posture, section})
}

func checkPostureFields(fields map[string]ClaimType, report func(field, message, hint string)) {
	if len(fields) == 0 || len(fields) > maxPostureFields {
		report("fields", fmt.Sprintf("the source declares %d fields", len(fields)), fmt.Sprintf("declare 1 to %d, such as `fields: {healthy: bool}`", maxPostureFields))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if message := refuseAttribute(name, 63); message != "" {
			report("fields."+name, fmt.Sprintf("field %q: %s", name, message), "")
		}
		if name == "reported_at" {
			report("fields."+name, "every record has the field \"reported_at\"", "remove it here")
		}
	}
}

// settings reads where records are read.
func (doc *postureReadDocument) settings(maxAge time.Duration, report func(field, message, hint string)) *PostureRead {
	read := &PostureRead{URL: doc.URL, Every: time.Minute, CAFile: doc.CAFile}
	if doc.Every != nil {
		read.Every = time.Duration(*doc.Every)
	}
	if doc.Token != nil {
		read.Token = doc.Token.File
		if read.Token == "" {
			report("read.token", "the token has no file", "write token: {file: NAME}, below the secrets directory")
		}
	}
	if read.Every < minPostureEvery || 2*read.Every > maxAge {
		report("read.every", fmt.Sprintf("records that are believed for %s cannot be read every %s", api.Duration(maxAge), api.Duration(read.Every)),
			fmt.Sprintf("read every %s or more, and twice within max_age", minPostureEvery))
	}
	u, err := url.Parse(doc.URL)
	switch {
	case err != nil || u.Hostname() == "" || len(doc.URL) > 2048 || strings.ContainsFunc(doc.URL, unicode.IsSpace):
		report("read.url", "the URL cannot be read", "write it such as https://health.example.com/devices.json")
	case u.User != nil || u.Fragment != "":
		report("read.url", "the URL has a user, a password or a fragment", "remove it; a bearer token goes into `token: {file: NAME}`")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		report("read.url", "the URL is not https", "plain http is for loopback addresses only")
	}
	return read
}

// postures finishes the sources of posture, when all issuers are known.
func (b *builder) postures() {
	for _, p := range b.postured {
		report := b.reporter(p.section)
		if len(p.posture.Of) == 0 {
			report("", "the source speaks of nobody", "add `of: {ISSUER: CLAIM}`: which claim of an issuer's principals names the record; `sub` is the subject")
		}
		for _, name := range slices.Sorted(maps.Keys(p.posture.Of)) {
			issuer, known := b.config.Issuers[name]
			claim := p.posture.Of[name]
			declared, ok := issuer.Claims[claim]
			switch {
			case !known:
				if _, broken := b.defined["Issuer "+name]; !broken {
					report("of."+name, fmt.Sprintf("there is no issuer %q", name), source.Suggest(name, "issuers", slices.Collect(maps.Keys(b.config.Issuers))))
				}
			case claim == SubjectKey:
			case !ok || declared.Kind != String:
				report("of."+name, fmt.Sprintf("issuer %q declares no string claim %q", name, claim),
					"write `sub` for the subject; "+source.Suggest(claim, "claims", slices.Collect(maps.Keys(issuer.Claims))))
			}
		}
		b.config.Postures[p.posture.Name] = p.posture
	}
}
