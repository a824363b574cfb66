package access

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/daypass/daypass/api"
	"github.com/daypass/daypass/internal/source"
)

type issuerDocument struct {
	Kind   string               `yaml:"kind"`
	Name   string               `yaml:"name"`
	Preset string               `yaml:"preset"`
	OIDC   *oidcDocument        `yaml:"oidc"`
	Claims map[string]ClaimType `yaml:"claims"`

	Rest map[string]source.Section `yaml:"*"`
}

type oidcDocument struct {
	URL       string `yaml:"url"`
	Audience  string `yaml:"audience"`
	CAFile    string `yaml:"ca_file"`
	SingleUse bool   `yaml:"single_use"`
}

type targetDocument struct {
	Kind   string                    `yaml:"kind"`
	Name   string                    `yaml:"name"`
	Client source.Section            `yaml:"client"`
	Rest   map[string]source.Section `yaml:"*"`
}

type roleDocument struct {
	Kind   string                    `yaml:"kind"`
	Name   string                    `yaml:"name"`
	Target string                    `yaml:"target"`
	TTL    ttlDocument               `yaml:"ttl"`
	Limits limitsDocument            `yaml:"limits"`
	Labels map[string]string         `yaml:"labels"`
	Renew  string                    `yaml:"renew"`
	Share  string                    `yaml:"share"`
	Rest   map[string]source.Section `yaml:"*"`
}

type ttlDocument struct {
	Default *api.Duration `yaml:"default"`
	Max     *api.Duration `yaml:"max"`
	Over    string        `yaml:"over"`
}

type limitsDocument struct {
	Live         *int `yaml:"live"`
	PerPrincipal *int `yaml:"per_principal"`
}

// reporter returns a function that reports a mistake at a field of section.
func (b *builder) reporter(section *source.Section) func(field, message, hint string) {
	return func(field, message, hint string) { b.wrong = append(b.wrong, section.Error(field, message, hint)) }
}

func (b *builder) issuer(section *source.Section) {
	var doc issuerDocument
	err := section.Decode(&doc)
	b.wrong.Add("", err)
	named := b.define(section, "Issuer", doc.Name)
	issuer := Issuer{Name: doc.Name, Kind: KindOIDC, Preset: doc.Preset, Type: GenericType, Claims: doc.Claims, Place: section.PlaceOf("name")}
	if doc.OIDC == nil && len(doc.Rest) > 0 {
		issuer.Kind = b.ownSection(section, "an issuer", doc.Rest, slices.Collect(maps.Keys(b.kinds.Issuers)), []string{"kind", "name", KindOIDC})
	} else {
		b.unknownKeys(section, doc.Rest, []string{"kind", "name", "preset", KindOIDC, "claims"})
	}
	whole := err == nil
	switch issuer.Kind {
	case "":
		return
	case KindOIDC:
		whole = b.oidcIssuer(section, doc, err, &issuer) && whole
	default:
		whole = b.otherIssuer(section, doc, &issuer) && whole
	}
	if named && whole {
		b.config.Issuers[doc.Name] = issuer
	}
}

// oidcIssuer reads what makes an issuer of OpenID Connect tokens.
func (b *builder) oidcIssuer(section *source.Section, doc issuerDocument, err error, issuer *Issuer) bool {
	report := b.reporter(section)
	if doc.OIDC != nil {
		issuer.OIDC = OIDC{URL: doc.OIDC.URL, Audience: doc.OIDC.Audience, CAFile: doc.OIDC.CAFile}
		issuer.SingleUse = doc.OIDC.SingleUse
	}
	preset, ok := PresetOf(doc.Preset)
	switch {
	case doc.Preset == "":
	case !ok || preset.Kind != "":
		report("preset", fmt.Sprintf("there is no preset %q", doc.Preset), suggestPreset(doc.Preset))
		return false
	default:
		preset.apply(issuer, doc.Claims, report)
	}
	b.nameClaims(doc.Claims, report)
	if doc.OIDC != nil || issuer.OIDC.URL == "" && err == nil {
		if checkIssuerURL(issuer.OIDC.URL, report) && doc.Preset != "" {
			preset.check(issuer.OIDC, report)
		}
	}
	if len(issuer.OIDC.Audience) > 512 || strings.ContainsFunc(issuer.OIDC.Audience, unicode.IsControl) {
		report("oidc.audience", "the audience is longer than 512 bytes or has control characters", "")
	}
	issuer.URL = issuer.OIDC.URL
	return true
}

// otherIssuer has an issuer's kind read its section.
func (b *builder) otherIssuer(section *source.Section, doc issuerDocument, issuer *Issuer) bool {
	report := b.reporter(section)
	kind := b.kinds.Issuers[issuer.Kind]
	if doc.Preset != "" {
		report("preset", fmt.Sprintf("issuers of kind %s have no preset", issuer.Kind), "remove it: the kind says what its principals carry")
	}
	if doc.Claims != nil && !kind.Declares {
		report("claims", fmt.Sprintf("issuers of kind %s have no claims to declare", issuer.Kind), cmp.Or(kind.Instead, "remove it: the kind says what its principals carry"))
	}
	value, text := b.interpret(doc.Rest[issuer.Kind], kind.Settings)
	identified, ok := value.(interface{ URL(issuer string) string })
	if text == nil || !ok {
		return false
	}
	if once, ok := value.(interface{ SingleUse() bool }); ok {
		issuer.SingleUse = once.SingleUse()
	}
	vocabulary, _ := PresetOf(kind.Vocabulary)
	issuer.URL, issuer.Settings = identified.URL(issuer.Name), text
	issuer.Type, issuer.Claims, issuer.Run = vocabulary.Type, maps.Clone(vocabulary.Claims), vocabulary.Run
	if kind.Declares {
		b.declared(section, doc.Claims, issuer)
	}
	return true
}

// refuseAttribute says why name cannot be an attribute in Cedar.
func refuseAttribute(name string, size int) string {
	switch {
	case name == "" || len(name) > size:
		return fmt.Sprintf("its name has %d bytes: 1 to %d", len(name), size)
	case name == "__entity" || name == "__extn":
		return "the name is reserved by Cedar"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || source.Reorders(r) }):
		return "its name has characters that do not show"
	}
	return ""
}

// checkIssuerURL refuses what cannot be an issuer, and reports whether it can. The URL is kept exactly as it is written:
// `iss` is compared byte by byte, so that a slash at its end matters.
func checkIssuerURL(text string, report func(field, message, hint string)) bool {
	const field, exactly = "oidc.url", "write it exactly as `iss` in the issuer's tokens"
	if text == "" {
		report("oidc", "the issuer has no URL", "add `oidc: {url: https://…}`, exactly as `iss` in its tokens")
		return false
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || len(text) > 512 || strings.ContainsFunc(text, unicode.IsSpace):
		report(field, "the URL cannot be read", exactly)
	case u.User != nil:
		report(field, "an issuer URL has no user or password", "remove what stands before @")
	case strings.ContainsAny(text, "?#"):
		report(field, "an issuer URL has no query and no fragment", "remove what follows ? or #")
	case u.Hostname() == "":
		report(field, "the URL has no host", exactly)
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		// Letters of other scripts look like Latin ones, and the name that is asked for is another text than this.
		report(field, "the host has letters that are not ASCII", "write the name in its ASCII form, which begins with xn--")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return true
	case u.Scheme == "http":
		report(field, "plain http is for loopback addresses only", "use https")
	default:
		report(field, fmt.Sprintf("scheme %q is not https", u.Scheme), "use https")
	}
	return false
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

func (b *builder) target(section *source.Section) {
	var doc targetDocument
	err := section.Decode(&doc)
	b.wrong.Add("", err)
	named := b.define(section, "Target", doc.Name)
	kind := b.ownSection(section, "a target", doc.Rest, slices.Collect(maps.Keys(b.kinds.Targets)), []string{"kind", "name", "client"})
	if named {
		b.kindOf[doc.Name] = kind
	}
	if kind == "" {
		return
	}
	target := Target{Name: doc.Name, Kind: kind, Place: section.PlaceOf("name")}
	settings := doc.Rest[kind]
	_, target.Settings = b.interpret(settings, b.kinds.Targets[kind].Settings)
	if !doc.Client.IsZero() {
		if b.kinds.Targets[kind].Client == nil {
			b.reporter(section)("client", fmt.Sprintf("targets of kind %s have no client section", kind), "remove it")
			return
		}
		_, target.Client = b.interpret(doc.Client, b.kinds.Targets[kind].Client)
	}
	if named && err == nil {
		b.config.Targets[doc.Name] = target
	}
}

// ownSection returns the one key of rest that is one of kinds, and reports every other.
func (b *builder) ownSection(section *source.Section, what string, rest map[string]source.Section, kinds, fields []string) string {
	report := b.reporter(section)
	slices.Sort(kinds)
	found := ""
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		switch {
		case !slices.Contains(kinds, key):
			report(key, fmt.Sprintf("unknown field %q", key), source.Suggest(key, "fields", slices.Concat(fields, kinds)))
		case found != "":
			report(key, fmt.Sprintf("%s is of one kind, this has %s and %s", what, found, key), "keep one")
		default:
			found = key
		}
	}
	if found == "" && len(rest) == 0 {
		report("", "the target has no section of its kind", "add one: kinds are "+strings.Join(kinds, ", "))
	}
	return found
}

// unknownKeys reports every key of rest. Sections of other kinds than the one that is there are among them.
func (b *builder) unknownKeys(section *source.Section, rest map[string]source.Section, known []string) {
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		if _, other := b.kinds.Issuers[key]; other {
			b.reporter(section)(key, fmt.Sprintf("an issuer is of one kind, this has %s and %s", KindOIDC, key), "keep one")
			continue
		}
		b.reporter(section)(key, fmt.Sprintf("unknown field %q", key), source.Suggest(key, "fields", known))
	}
}

// interpret has a kind read its section, and places what it says is wrong. The text is nil when something is.
func (b *builder) interpret(section source.Section, read func(Section) (any, error)) (value any, text json.RawMessage) {
	value, err := read(section)
	if validator, ok := value.(interface{ Validate() error }); ok && err == nil {
		err = validator.Validate()
	}
	if err == nil {
		text, err = canonical(value)
	}
	if err != nil {
		b.placed(section, err)
		return nil, nil
	}
	return value, text
}

// placed reports an error of a kind: as it is where it has a place, at its field where it names one.
func (b *builder) placed(section source.Section, err error) {
	if e, ok := errors.AsType[*source.Error](err); ok {
		b.wrong = append(b.wrong, e)
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			b.placed(section, one)
		}
		return
	}
	var at interface{ Field() string }
	field, hint := "", ""
	if errors.As(err, &at) {
		field = at.Field()
	}
	var helps interface{ Hint() string }
	if errors.As(err, &helps) {
		hint = helps.Hint()
	}
	b.wrong = append(b.wrong, section.Error(field, err.Error(), hint))
}

// canonical returns value as JSON with sorted keys and no white space, so that equal values are equal bytes.
func canonical(value any) (json.RawMessage, error) {
	first, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var plain any
	decoder := json.NewDecoder(bytes.NewReader(first))
	decoder.UseNumber()
	if err := decoder.Decode(&plain); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(plain); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func (b *builder) role(section *source.Section) {
	var doc roleDocument
	err := section.Decode(&doc)
	b.wrong.Add("", err)
	if b.define(section, "Role", doc.Name) || err == nil {
		b.pending = append(b.pending, pendingRole{doc, section, err != nil})
	}
}

// roles finishes the roles, when all targets are known.
func (b *builder) roles() {
	for _, p := range b.pending {
		report := b.reporter(p.section)
		if p.broken { // a value that could not be read is no value that is wrong
			report = func(string, string, string) {}
		}
		role := Role{
			Name: p.doc.Name, Target: p.doc.Target, Labels: p.doc.Labels, Place: p.section.PlaceOf("name"),
			TTL: ttl(p.doc.TTL, report), Limits: limits(p.doc.Limits, report), Renew: renew(p.doc.Renew, report),
			Share: share(p.doc.Share, report),
		}
		checkLabels(p.doc.Labels, report)
		report = b.reporter(p.section)
		if kind, ok := b.targetKind(p.doc, report); ok {
			role.Rights = b.rights(p, kind)
		} else {
			b.unknownFields(p, slices.Collect(maps.Keys(b.kinds.Targets)))
		}
		b.config.Roles[role.Name] = role
	}
}

// targetKind returns the kind of the role's target. It is not there when the target is unknown or has mistakes.
func (b *builder) targetKind(doc roleDocument, report func(field, message, hint string)) (string, bool) {
	if doc.Target == "" {
		report("", "the role has no target", "add `target:` with the name of one")
		return "", false
	}
	kind, ok := b.kindOf[doc.Target]
	if !ok {
		report("target", fmt.Sprintf("there is no target %q", doc.Target), source.Suggest(doc.Target, "targets", slices.Collect(maps.Keys(b.kindOf))))
	}
	return kind, ok && kind != ""
}

// rights reads the section that says what the role gives at its target.
func (b *builder) rights(p pendingRole, kind string) json.RawMessage {
	report := b.reporter(p.section)
	b.unknownFields(p, []string{kind})
	section, ok := p.doc.Rest[kind]
	read := b.kinds.Targets[kind].Rights
	switch {
	case ok && read == nil:
		report(kind, fmt.Sprintf("roles at targets of kind %s have no section of their own", kind), "remove it")
	case ok:
		_, rights := b.interpret(section, read)
		return rights
	case read != nil && len(p.doc.Rest) == 0:
		report("", "the role says nothing of its rights", fmt.Sprintf("add a section `%s:`, since target %q is of that kind", kind, p.doc.Target))
	}
	return nil
}

// unknownFields reports fields of a role that are neither its own nor sections of one of kinds.
func (b *builder) unknownFields(p pendingRole, kinds []string) {
	report := b.reporter(p.section)
	known := append([]string{"kind", "name", "target", "ttl", "limits", "labels", "renew", "share"}, kinds...)
	for _, key := range slices.Sorted(maps.Keys(p.doc.Rest)) {
		if slices.Contains(kinds, key) {
			continue
		}
		if _, other := b.kinds.Targets[key]; other {
			report(key, fmt.Sprintf("section %s does not fit target %q, which is of kind %s", key, p.doc.Target, kinds[0]), "write a section `"+kinds[0]+":`")
		} else {
			report(key, fmt.Sprintf("unknown field %q", key), source.Suggest(key, "fields", known))
		}
	}
}

// What a role gets that says nothing.
const (
	usualTTL = 15 * time.Minute
	usualMax = time.Hour
)

func ttl(doc ttlDocument, report func(field, message, hint string)) TTL {
	t := TTL{Default: usualTTL, Max: usualMax, Over: Over(doc.Over)}
	switch {
	case doc.Default != nil && doc.Max != nil:
		t.Default, t.Max = time.Duration(*doc.Default), time.Duration(*doc.Max)
	case doc.Default != nil:
		t.Default = time.Duration(*doc.Default)
		t.Max = max(usualMax, t.Default)
	case doc.Max != nil:
		t.Max = time.Duration(*doc.Max)
		t.Default = min(usualTTL, t.Max)
	}
	if t.Default <= 0 {
		report("ttl.default", "a lease of no time is of no use", "write a duration such as 15m")
	}
	if t.Max <= 0 {
		report("ttl.max", "a lease of no time is of no use", "write a duration such as 1h")
	}
	if t.Default > t.Max {
		report("ttl.default", fmt.Sprintf("the default of %s is more than the maximum of %s", api.Duration(t.Default), api.Duration(t.Max)), "raise `max` or lower `default`")
	}
	switch t.Over {
	case "":
		t.Over = Clamp
	case Clamp, Refuse:
	default:
		report("ttl.over", fmt.Sprintf("over cannot be %q", doc.Over), "write clamp or refuse")
	}
	return t
}

func limits(doc limitsDocument, report func(field, message, hint string)) Limits {
	read := func(field string, value *int) int {
		if value == nil {
			return 0
		}
		if *value < 1 || *value > 10_000_000 {
			report("limits."+field, fmt.Sprintf("a limit of %d", *value), "write 1 to 10000000, or leave it out; a lock stops a role")
			return 0
		}
		return *value
	}
	return Limits{Live: read("live", doc.Live), PerPrincipal: read("per_principal", doc.PerPrincipal)}
}

func renew(word string, report func(field, message, hint string)) Renew {
	switch r := Renew(word); r {
	case "":
		return Evidence
	case Evidence, Handle:
		return r
	}
	report("renew", fmt.Sprintf("renew cannot be %q", word), "write evidence or handle")
	return Evidence
}

func share(word string, report func(field, message, hint string)) Share {
	switch s := Share(word); s {
	case ShareNone, ShareRun:
		return s
	}
	report("share", fmt.Sprintf("share cannot be %q", word), "write run, or leave it out")
	return ShareNone
}

func checkLabels(labels map[string]string, report func(field, message, hint string)) {
	if len(labels) > 64 {
		report("labels", fmt.Sprintf("the role has %d labels", len(labels)), "at most 64")
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if message := refuseAttribute(name, 63); message != "" {
			report("labels", fmt.Sprintf("label %q: %s", name, message), "")
		}
		if value := labels[name]; len(value) > 255 || strings.ContainsFunc(value, unicode.IsControl) {
			report("labels."+name, fmt.Sprintf("the value of label %q is longer than 255 bytes or has control characters", name), "")
		}
	}
}
