package access

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/daypass/daypass/internal/source"
)

// Preset is what is known of a kind of issuer, so that nobody has to declare it: a row of the table of presets. What it
// says of a platform is what the platform's own documentation says, at Docs.
type Preset struct {
	Name  string // in `preset:`
	Kind  string // the kind of issuer whose vocabulary it is; empty for OpenID Connect, where `preset:` names it
	Title string // the platform, as people call it
	Docs  string // where its vendor describes its tokens
	Type  string // Cedar type of its principals

	URL    string   // its issuer where there is one for everybody; empty: the file has to say
	Forms  []Form   // what the issuer's URL may look like; none: any
	Shared []string // of its URLs, those that sign for all customers of the platform, strangers included

	Known   []Claim              // what its tokens carry
	Claims  map[string]ClaimType // the same as types, by name
	Flatten [][]string           // nested claims that are lifted to the top: see [identity.Flatten]
	Run     []string             // claims that together name the run that a token belongs to
	Subject string               // how `sub` is put together, such as "repo:<tenant>/<project>:<guard>"; see [Pins]
	Partner string               // the claim to compare beside `sub`, where that is put together from names that can change
	Pull    Pull

	Audience   Audience
	Algorithms []string      // that its tokens are signed with; none: any
	Types      []string      // `typ` of its tokens; none: JWT, or nothing
	Age        time.Duration // how long its tokens live, unless somebody changes that
	MaxAge     time.Duration // how long they may live at most; zero: a day
}

// Form is what an issuer's URL may look like.
type Form struct {
	Like    string // for people: https://HOST/_services/token
	Pattern string // the whole URL, as a regular expression
}

// Audience is who a platform's tokens are for.
type Audience struct {
	Usual string // what they carry when a workload asks for nothing
	Ours  bool   // a workload can ask for one that is for us; else the file has to say which one they have
	How   string // how a workload asks for it, or where the audience of its tokens is to be found
}

// Pull is what who proposes a change can get a token for before anybody has agreed to the change.
type Pull struct {
	Can    string              // what gets a token, in a sentence without its full stop; empty: nothing
	Guard  string              // the condition to add, as it stands in a policy
	Events map[string][]string // values of claims that strangers can bring about
	Event  string              // the claim that says what started the run, where branches alone do not tell
}

// Claim is one claim of a platform's tokens.
type Claim struct {
	Name     string
	Kind     ClaimKind // String unless given
	Optional bool      // not each token has it
	Means    string    // in a line
	Nature   Nature
	Pins     Pins
	Partner  string // the claim that names the same thing and never changes, where this one does
}

// Nature says who can change what a claim holds, which decides what a policy may rest on.
type Nature string

// The natures of claims.
const (
	Fixed   Nature = "immutable" // names one thing for ever
	Mutable Nature = "mutable"   // a name: its owner can change it, and somebody else can take it then
	OfRun   Nature = "run"       // belongs to one run alone
	State   Nature = "state"     // says how something is at this moment
	Chosen  Nature = "chosen"    // whoever starts the run chooses it, strangers included where they can start one
)

// Pins says what a comparison with a claim holds a permit to.
type Pins string

// What a comparison can hold a permit to.
const (
	Nothing Pins = ""
	Tenant  Pins = "tenant"  // one customer of the platform
	Project Pins = "project" // one repository, workspace, account or identity, and so one customer
	Within  Pins = "within"  // one project by a name that only its customer's own things have
	Guard   Pins = "guard"   // a branch, event or environment: what a stranger's pull request does not have
	Runner  Pins = "runner"  // where the run takes place
)

// GenericType is the Cedar type of principals of issuers without a preset.
const GenericType = "Workload"

// PresetOf returns the preset called name.
func PresetOf(name string) (Preset, bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}

// VocabularyOf returns the preset of an issuer, of whatever kind it is. A generic issuer has none.
func VocabularyOf(issuer Issuer) (Preset, bool) {
	if issuer.Preset != "" || issuer.Kind == KindOIDC {
		return PresetOf(issuer.Preset)
	}
	all := Presets()
	at := slices.IndexFunc(all, func(p Preset) bool { return p.Kind == issuer.Kind && p.Type == issuer.Type })
	if at < 0 {
		return Preset{}, false
	}
	return all[at], true
}

// PresetNames returns the names that `preset:` may have, sorted.
func PresetNames() []string {
	var names []string
	for _, p := range Presets() {
		if p.Kind == "" {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// suggestPreset says which preset a word may stand for. What begins like it comes first: "github" is nearer to "gitlab"
// by letters than to "github-actions".
func suggestPreset(word string) string {
	names := PresetNames()
	if at := slices.IndexFunc(names, func(name string) bool { return word != "" && strings.HasPrefix(name, word) }); at >= 0 {
		return fmt.Sprintf("did you mean %q?", names[at])
	}
	return source.Suggest(word, "presets", names)
}

// Presets returns the table of presets. It is a function because a package variable could change.
func Presets() []Preset {
	all := slices.Concat(codePresets(), buildPresets(), cloudPresets(), providerPresets(), kubernetesPresets(), evidencePresets())
	for i := range all {
		all[i].Claims = map[string]ClaimType{}
		for j, c := range all[i].Known {
			if c.Kind == "" {
				all[i].Known[j].Kind = String
			}
			all[i].Claims[c.Name] = ClaimType{Kind: all[i].Known[j].Kind, Optional: c.Optional}
		}
	}
	return all
}

// Claim returns what is known of the claim called name.
func (p Preset) Claim(name string) (Claim, bool) {
	at := slices.IndexFunc(p.Known, func(c Claim) bool { return c.Name == name })
	if at < 0 {
		return Claim{}, false
	}
	return p.Known[at], true
}

// IsShared reports whether an issuer of this preset signs for customers of the platform that nobody here knows. Issuers
// on loopback stand for the platform's own.
func (p Preset) IsShared(issuer string) bool {
	return slices.Contains(p.Shared, issuer) || len(p.Shared) > 0 && onLoopback(issuer)
}

// Meanings returns a line on each claim of the principals of a Cedar type.
func Meanings(cedarType string) map[string]string {
	meanings := map[string]string{}
	for _, p := range Presets() {
		if p.Type != cedarType {
			continue
		}
		for _, c := range p.Known {
			meanings[c.Name] = c.Remark()
		}
	}
	return meanings
}

// Remark returns what a policy's author should know of the claim, in a line.
func (c Claim) Remark() string {
	remark := c.Means
	switch c.Nature {
	case Mutable:
		remark += "; can be renamed"
		if c.Partner != "" {
			remark += ": compare " + c.Partner + " too"
		}
	case Chosen:
		remark += "; whoever starts the run chooses it"
	}
	return remark
}

// apply makes issuer one of this preset. Claims are what its file declares besides: what its administrators add.
func (p Preset) apply(issuer *Issuer, claims map[string]ClaimType, report func(field, message, hint string)) {
	issuer.Type, issuer.Claims, issuer.Run = p.Type, maps.Clone(p.Claims), p.Run
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if _, known := p.Claims[name]; known {
			report("claims."+name, fmt.Sprintf("preset %s declares claim %q already", p.Name, name), "remove it")
		}
		issuer.Claims[name] = claims[name]
	}
	if issuer.OIDC.URL == "" {
		issuer.OIDC.URL = p.URL
	}
}

// check reports what is wrong with an issuer of this preset. Issuers on loopback stand for any in tests.
func (p Preset) check(issuer OIDC, report func(field, message, hint string)) {
	if message, hint := p.refuseURL(issuer.URL); message != "" {
		report("oidc.url", message, hint)
	}
	if issuer.Audience == "" && !p.Audience.Ours && !onLoopback(issuer.URL) {
		report("oidc", fmt.Sprintf("no token of %s is for this server: `audience` is missing", p.Title),
			"add `audience:` with what the tokens have: "+p.Audience.How)
	}
}

// Habits returns the `alg` and `typ` that tokens of an issuer of this preset have; none where any may be. Issuers on
// loopback stand for any in tests, and sign with what the test needs.
func (p Preset) Habits(issuer string) (algorithms, types []string) {
	if onLoopback(issuer) {
		return nil, nil
	}
	return p.Algorithms, p.Types
}

// refuseURL says why no token of the platform can come from an issuer of this URL.
func (p Preset) refuseURL(text string) (message, hint string) {
	if len(p.Forms) == 0 || onLoopback(text) {
		return "", ""
	}
	var like []string
	for _, form := range p.Forms {
		if regexp.MustCompile(`\A(?:` + form.Pattern + `)\z`).MatchString(text) {
			return "", ""
		}
		like = append(like, form.Like)
	}
	return fmt.Sprintf("%q is no issuer of %s", text, p.Title), "write " + strings.Join(like, ", or ")
}

func onLoopback(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isLoopback(u.Hostname())
}

// patterns of parts of URLs.
const (
	hostPattern = `[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?`
	uuidPattern = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	slugPattern = `[A-Za-z0-9][A-Za-z0-9_.-]*`
)
