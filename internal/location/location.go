// Package location says in which country and subdivision an address is, by a file in MaxMind's format.
//
// It owns the file: its place on disk, what was last read of it, and what is wrong with a newer one. It promises that
// a lookup sees one file, whole; that a file which is broken never replaces one that was not; and that it says nothing
// where the file says nothing, or something that is no code of ISO 3166. It must not import anything of ours.
package location

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxFile bounds the file: it is held in memory, so that whoever writes into it cannot reach a process that reads it.
const maxFile = 512 << 20

// Place is where an address is, as far as it is known.
type Place struct {
	Country     string // ISO 3166-1 alpha-2, such as "DE"; empty where it is not known
	Subdivision string // ISO 3166-2, such as "DE-BE"; empty where it is not known
}

// Status is how a file is doing.
type Status struct {
	Built   time.Time // when the file that serves was made, as it says; zero: none serves
	Kind    string    // what it calls itself, such as "GeoLite2-City"
	Problem string    // why the file on disk does not serve; empty: it does
}

// File is a file of locations that is read again when it is replaced. A nil File knows no place. Its methods may be
// called concurrently.
type File struct {
	path    string
	current atomic.Pointer[maxminddb.Reader] // nil until a file was good

	mu      sync.Mutex // guards the fields below; held while a file is read
	seen    stamp
	problem string
}

// stamp tells one file in a place from the next.
type stamp struct {
	modified time.Time
	size     int64
	file     os.FileInfo // for the inode
}

func (s stamp) same(other stamp) bool {
	return s.file != nil && other.file != nil && os.SameFile(s.file, other.file) && s.size == other.size && s.modified.Equal(other.modified)
}

// New returns the file at a path, not yet read: [File.Reload] does that. A file that is not there or is broken is told by
// [File.Reload] and [File.Status]; until there is a good one, no place is known.
func New(path string) *File { return &File{path: path} }

// Reload reads the file when it is another than before, or always, and reports whether a new one serves. What is broken
// is reported once, and replaces nothing.
func (f *File) Reload(always bool) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return false, f.refuse(stamp{}, pathless(err), always)
	}
	now := stamp{info.ModTime(), info.Size(), info}
	if !always && now.same(f.seen) {
		return false, nil
	}
	reader, err := read(f.path)
	if err != nil {
		return false, f.refuse(now, err, true)
	}
	f.seen, f.problem = now, ""
	f.current.Store(reader)
	return true, nil
}

// refuse notes what is wrong with the file on disk, and returns it where it is news.
func (f *File) refuse(seen stamp, err error, always bool) error {
	news := always || f.problem != err.Error()
	f.seen, f.problem = seen, err.Error()
	if !news {
		return nil
	}
	return fmt.Errorf("read the location file %s: %w", f.path, err)
}

// pathless is an error of the file system without its path, which stands around it already.
func pathless(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// read reads a file whole and looks at every part of it.
func read(path string) (*maxminddb.Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, pathless(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, pathless(err)
	}
	return parse(data)
}

// parse looks at data as a whole: a file that is cut off, or half written over, is refused.
func parse(data []byte) (_ *maxminddb.Reader, err error) {
	defer func() { // the library reads what anybody may have written
		if cause := recover(); cause != nil {
			err = errors.New("it cannot be read")
		}
	}()
	if len(data) > maxFile {
		return nil, fmt.Errorf("it has more than %d MiB", maxFile>>20)
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("it is not in MaxMind's format, or broken: %w", err)
	}
	return reader, walk(reader)
}

// walk reads every network and every record once. The library's own check wants more of the metadata than files in
// use have.
func walk(reader *maxminddb.Reader) error {
	seen := map[uintptr]bool{}
	for network := range reader.Networks() {
		if err := network.Err(); err != nil {
			return fmt.Errorf("it is broken: %w", err)
		}
		if offset := network.Offset(); !seen[offset] {
			seen[offset] = true
			var whatever any
			if err := network.Decode(&whatever); err != nil {
				return fmt.Errorf("it is broken: %w", err)
			}
		}
	}
	if len(seen) == 0 {
		return errors.New("it has no networks")
	}
	return nil
}

// record is what files say of a network: MaxMind's own nest their codes, plainer ones do not.
type record struct {
	CountryCode string `maxminddb:"country_code"`
	Country     struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
}

// Lookup returns where an address is. Addresses that no single network of the world has, such as private ones, are
// nowhere, whatever the file says.
func (f *File) Lookup(address netip.Addr) (place Place) {
	address = address.Unmap().WithZone("")
	if f == nil || !isPublic(address) {
		return Place{}
	}
	reader := f.current.Load()
	if reader == nil {
		return Place{}
	}
	defer func() {
		if cause := recover(); cause != nil {
			place = Place{}
		}
	}()
	var found record
	if err := reader.Lookup(address).Decode(&found); err != nil {
		return Place{}
	}
	return found.place()
}

// place returns what a record says, where it is said in codes of ISO 3166. A subdivision is that of the first level, and
// belongs to its country.
func (r record) place() Place {
	country := r.Country.Code
	if country == "" {
		country = r.CountryCode
	}
	if !isCountry(country) {
		return Place{}
	}
	place := Place{Country: country}
	if len(r.Subdivisions) > 0 {
		code := strings.TrimPrefix(r.Subdivisions[0].Code, country+"-")
		if isSubdivision(code) {
			place.Subdivision = country + "-" + code
		}
	}
	return place
}

var (
	countries    = regexp.MustCompile(`^[A-Z]{2}$`)
	subdivisions = regexp.MustCompile(`^[A-Z0-9]{1,3}$`)
)

func isCountry(code string) bool     { return countries.MatchString(code) }
func isSubdivision(code string) bool { return subdivisions.MatchString(code) }

// carrier is the network that providers share among their customers (RFC 6598).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

func isPublic(address netip.Addr) bool {
	return address.IsValid() && address.IsGlobalUnicast() && !address.IsPrivate() && !carrier.Contains(address)
}

// Status tells how the file is doing.
func (f *File) Status() Status {
	f.mu.Lock()
	status := Status{Problem: f.problem}
	f.mu.Unlock()
	if reader := f.current.Load(); reader != nil {
		status.Built, status.Kind = reader.Metadata.BuildTime().UTC(), reader.Metadata.DatabaseType
	}
	return status
}

// Run looks for a new file from time to time until ctx ends, and tells of each that serves now or does not.
func (f *File) Run(ctx context.Context, every time.Duration, tell func(changed bool, err error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if changed, err := f.Reload(false); changed || err != nil {
				tell(changed, err)
			}
		}
	}
}
