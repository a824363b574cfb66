// Package access owns the access configuration: issuers, targets, roles and the texts of policies, as an
// immutable revision.
//
// It promises that a [Config] is whole: names are valid and unique, references lead somewhere, every section was
// read strictly by the kind it belongs to, and its hash is a function of paths and texts alone. [Parse] finds all
// mistakes of a directory at once.
//
// It does no I/O. It must not import targets or the policy engine: kinds of target are given to it, and policies
// are texts.
package access

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/daypass/daypass/internal/source"
)

// Bounds of a directory.
const (
	maxFiles = 2000
	maxBytes = 8 << 20
)

// Parse reads an access configuration. It returns every mistake at once, as [source.Errors].
func Parse(files Files, kinds Kinds) (*Config, error) {
	b := builder{
		kinds: kinds,
		config: &Config{
			Hash: Hash(files), Issuers: map[string]Issuer{}, Targets: map[string]Target{}, Roles: map[string]Role{},
			Postures: map[string]Posture{},
		},
		defined: map[string]source.Place{}, kindOf: map[string]string{},
	}
	if err := checkSize(files); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b.file(name, files[name])
	}
	b.roles()
	b.issuers()
	b.postures()
	if err := b.wrong.Err(); err != nil {
		return nil, err
	}
	return b.config, nil
}

// Hash returns the revision of files: a hash of their paths and texts, each with its length, sorted by path.
func Hash(files Files) string {
	h := sha256.New()
	part := func(text string) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	part("daypass/access/v1")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		part(name)
		part(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func checkSize(files Files) error {
	total := 0
	for name, text := range files {
		total += len(name) + len(text)
	}
	switch {
	case len(files) > maxFiles:
		return source.Errors{{Message: fmt.Sprintf("the access configuration has %d files", len(files)), Hint: fmt.Sprintf("at most %d", maxFiles)}}
	case total > maxBytes:
		return source.Errors{{Message: fmt.Sprintf("the access configuration has %d bytes", total), Hint: fmt.Sprintf("at most %d", maxBytes)}}
	}
	return nil
}

// builder collects what files say and what is wrong with it.
type builder struct {
	kinds   Kinds
	config  *Config
	defined map[string]source.Place // kind and name, to where it was first defined, with or without mistakes
	kindOf  map[string]string       // target name to kind, also of targets with mistakes
	pending []pendingRole           // roles wait until all targets are known
	wrong   source.Errors

	postured []pendingPosture // sources of posture wait until all issuers are known
}

type pendingRole struct {
	doc     roleDocument
	section *source.Section
	broken  bool // some of its values could not be read
}

// file reads one file.
func (b *builder) file(name, text string) {
	if message := refusePath(name); message != "" {
		b.wrong = append(b.wrong, &source.Error{File: fmt.Sprintf("%q", name), Message: message,
			Hint: "paths are relative to the access directory and written with forward slashes"})
		return
	}
	switch path.Ext(name) {
	case ".cedar":
		_, err := source.NewFile(name, text)
		b.wrong.Add(name, err)
		b.config.Policies = append(b.config.Policies, PolicyFile{Path: name, Text: text})
	case ".yaml":
		sections, err := source.Documents(name, text)
		b.wrong.Add(name, err)
		for _, section := range sections {
			b.document(section)
		}
	default:
		b.wrong = append(b.wrong, &source.Error{File: name, Message: "the file is neither *.yaml nor *.cedar", Hint: "rename it, or keep it elsewhere"})
	}
}

// refusePath says why a path cannot be one of an access directory.
func refusePath(name string) string {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return "the path is absolute, empty or leads out of the access directory"
	case len(name) > 255:
		return "the path is longer than 255 bytes"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == ':' || source.Reorders(r) }):
		return "the path has a backslash, a colon or a control character"
	}
	return ""
}

// document reads one document: its kind first, since that says which fields it may have.
func (b *builder) document(section *source.Section) {
	var head struct {
		Kind string                    `yaml:"kind"`
		Rest map[string]source.Section `yaml:"*"`
	}
	if err := section.Decode(&head); err != nil {
		b.wrong.Add("", err)
		return
	}
	switch head.Kind {
	case "":
		b.wrong = append(b.wrong, section.Error("", "the document has no kind", "start it with `kind: Issuer`, `kind: Target`, `kind: Role` or `kind: Posture`"))
	case "Issuer":
		b.issuer(section)
	case "Target":
		b.target(section)
	case "Role":
		b.role(section)
	case "Posture":
		b.posture(section)
	default:
		b.wrong = append(b.wrong, section.Error("kind", fmt.Sprintf("there is no kind %q", head.Kind),
			source.Suggest(head.Kind, "kinds", []string{"Issuer", "Posture", "Role", "Target"})))
	}
}

// define checks a name and that nothing else of its kind has it.
func (b *builder) define(section *source.Section, kind, name string) bool {
	if name == "" {
		b.wrong = append(b.wrong, section.Error("", fmt.Sprintf("the %s has no name", strings.ToLower(kind)), "add `name:`"))
		return false
	}
	if !ValidName(name) {
		b.wrong = append(b.wrong, section.Error("name", fmt.Sprintf("%q cannot be a name", name), "names have 1 to 40 of a-z, 0-9 and -"))
		return false
	}
	here := section.PlaceOf("name")
	if first, again := b.defined[kind+" "+name]; again {
		b.wrong = append(b.wrong, section.Error("name", fmt.Sprintf("%s %q is defined twice", strings.ToLower(kind), name),
			fmt.Sprintf("the other one is at %s: rename or remove one", first)))
		return false
	}
	b.defined[kind+" "+name] = here
	return true
}

// ValidName reports whether name can be the name of an issuer, target or role.
func ValidName(name string) bool {
	return name != "" && len(name) <= 40 &&
		!strings.ContainsFunc(name, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') })
}

// issuers refuses two issuers of one URL: which of them a token belongs to could not be told.
func (b *builder) issuers() {
	byURL := map[string]Issuer{}
	for _, issuer := range slices.SortedFunc(maps.Values(b.config.Issuers), func(a, c Issuer) int {
		return cmp.Or(cmp.Compare(a.Place.File, c.Place.File), cmp.Compare(a.Place.Line, c.Place.Line))
	}) {
		first, again := byURL[issuer.URL]
		if !again {
			byURL[issuer.URL] = issuer
			continue
		}
		b.wrong = append(b.wrong, &source.Error{File: issuer.Place.File, Line: issuer.Place.Line, Column: issuer.Place.Column,
			Message: fmt.Sprintf("issuers %q and %q have the same URL", first.Name, issuer.Name),
			Hint:    fmt.Sprintf("the other one is at %s: keep one", first.Place)})
	}
}
