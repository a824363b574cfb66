package location_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass/daypass/internal/location"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// replace puts data in a path as careful people do: beside it, and then by a rename.
func replace(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func opened(t testing.TB, name string) (*location.File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "places.mmdb")
	replace(t, path, fixture(t, name))
	f := location.New(path)
	if changed, err := f.Reload(false); !changed || err != nil {
		t.Fatalf("changed %v, %v", changed, err)
	}
	return f, path
}

func TestAnAddressIsWhereTheFileSays(t *testing.T) {
	country, _ := opened(t, "country.mmdb")
	city, _ := opened(t, "city.mmdb")
	for _, c := range []struct {
		says    string
		file    *location.File
		address string
		want    location.Place
	}{
		{"a plain file names the country", country, "1.1.2.3", location.Place{Country: "DE"}},
		{"an address of IPv6 has one too", country, "2a00:1::5", location.Place{Country: "DE"}},
		{"IPv4 written as IPv6 is IPv4", country, "::ffff:2.2.2.2", location.Place{Country: "FR"}},
		{"an address that the file does not have is nowhere", country, "9.9.9.9", location.Place{}},
		{"a country that is no code is none", country, "3.3.3.3", location.Place{}},
		{"a private address is nowhere, whatever the file says", country, "10.1.2.3", location.Place{}},
		{"a provider's shared address is nowhere, whatever the file says", country, "100.64.1.2", location.Place{}},
		{"loopback is nowhere", country, "127.0.0.1", location.Place{}},
		{"a link's own address is nowhere", country, "fe80::1%eth0", location.Place{}},
		{"MaxMind's own files nest their codes", city, "1.1.2.3", location.Place{Country: "DE", Subdivision: "DE-BE"}},
		{"of several subdivisions the first level counts", city, "2.2.2.2", location.Place{Country: "GB", Subdivision: "GB-ENG"}},
		{"a subdivision may be missing", city, "1.2.3.4", location.Place{Country: "DE"}},
		{"a subdivision may carry its country already", city, "2a00:1::5", location.Place{Country: "DE", Subdivision: "DE-BY"}},
		{"a subdivision that is no code is none", city, "3.3.3.3", location.Place{Country: "DE"}},
		{"a record that is no record says nothing", city, "4.4.4.4", location.Place{}},
		{"no address is nowhere", city, "", location.Place{}},
		{"no file knows no place", nil, "1.1.2.3", location.Place{}},
	} {
		address, _ := netip.ParseAddr(c.address)
		if got := c.file.Lookup(address); got != c.want {
			t.Errorf("%s: %s is in %+v", c.says, c.address, got)
		}
	}
}

func TestAFileThatIsReplacedServes(t *testing.T) {
	f, path := opened(t, "country.mmdb")
	if changed, err := f.Reload(false); changed || err != nil {
		t.Errorf("the same file was read again: %v, %v", changed, err)
	}
	replace(t, path, fixture(t, "moved.mmdb"))
	if changed, err := f.Reload(false); !changed || err != nil {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if got := f.Lookup(netip.MustParseAddr("1.1.2.3")).Country; got != "CH" {
		t.Errorf("the address is in %q", got)
	}
	if s := f.Status(); s.Problem != "" || s.Kind != "Made-Country" || s.Built.Year() != 2026 {
		t.Errorf("status: %+v", s)
	}
}

func TestABrokenFileReplacesNothing(t *testing.T) {
	whole := fixture(t, "moved.mmdb")
	scribbled := append([]byte{}, whole...)
	for i := 40; i < 400; i++ {
		scribbled[i] ^= 0x5a
	}
	for says, data := range map[string][]byte{
		"an empty file":                  {},
		"a file that is cut off":         whole[:len(whole)-80],
		"only its metadata":              whole[len(whole)-300:],
		"a file that was scribbled over": scribbled,
		"a page that says not found":     []byte("<html>404 Not Found</html>"),
	} {
		f, path := opened(t, "country.mmdb")
		replace(t, path, data)
		if changed, err := f.Reload(false); changed || err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: changed %v, %v", says, changed, err)
		}
		if changed, err := f.Reload(false); changed || err != nil {
			t.Errorf("%s is told twice: %v, %v", says, changed, err)
		}
		if got := f.Lookup(netip.MustParseAddr("1.1.2.3")).Country; got != "DE" {
			t.Errorf("%s: the address is in %q", says, got)
		}
		if s := f.Status(); s.Problem == "" || s.Built.IsZero() {
			t.Errorf("%s: status %+v", says, s)
		}
		replace(t, path, whole)
		if changed, err := f.Reload(false); !changed || err != nil || f.Status().Problem != "" {
			t.Errorf("after %s a good file: changed %v, %v, %+v", says, changed, err, f.Status())
		}
	}
}

func TestAFileThatGoesAwayServesOn(t *testing.T) {
	f, path := opened(t, "country.mmdb")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Reload(false); err == nil {
		t.Error("nobody was told")
	}
	if _, err := f.Reload(false); err != nil {
		t.Errorf("it is told twice: %v", err)
	}
	if f.Lookup(netip.MustParseAddr("1.1.2.3")).Country != "DE" {
		t.Error("the places are forgotten")
	}
}

func TestWithoutAGoodFileNoPlaceIsKnown(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none.mmdb"), dir} {
		f := location.New(path)
		if _, err := f.Reload(false); err == nil {
			t.Errorf("%s was read", path)
		}
		if got := f.Lookup(netip.MustParseAddr("1.1.2.3")); got != (location.Place{}) {
			t.Errorf("a place from nowhere: %+v", got)
		}
		if s := f.Status(); s.Problem == "" || !s.Built.IsZero() {
			t.Errorf("status: %+v", s)
		}
	}
}

func TestLookupsGoOnWhileTheFileIsReplaced(t *testing.T) {
	f, path := opened(t, "country.mmdb")
	var group sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := f.Lookup(netip.MustParseAddr("1.1.2.3")).Country; got != "DE" && got != "CH" {
					t.Errorf("the address is in %q", got)
				}
			}
		})
	}
	for i := range 50 {
		replace(t, path, fixture(t, []string{"moved.mmdb", "country.mmdb"}[i%2]))
		if _, err := f.Reload(true); err != nil {
			t.Error(err)
		}
	}
	close(done)
	group.Wait()
}

func TestANewFileIsFoundByItself(t *testing.T) {
	f, path := opened(t, "country.mmdb")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told []error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = f.Run(ctx, time.Minute, func(changed bool, err error) { told = append(told, err) })
		}()
		replace(t, path, fixture(t, "moved.mmdb"))
		time.Sleep(90 * time.Second) //nolint:forbidigo // in a bubble
		cancel()
		<-ended
		if len(told) != 1 || told[0] != nil {
			t.Errorf("told: %v", told)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"country.mmdb", "city.mmdb", "moved.mmdb"} {
		f.Add(fixture(f, name), []byte{1, 1, 2, 3})
	}
	f.Add([]byte("\xab\xcd\xefMaxMind.com"), []byte{})
	path := filepath.Join(f.TempDir(), "fuzzed.mmdb")
	f.Fuzz(func(t *testing.T, data, address []byte) {
		replace(t, path, data)
		file := location.New(path)
		changed, err := file.Reload(true)
		if changed == (err != nil) {
			t.Fatalf("changed %v, %v", changed, err)
		}
		from, _ := netip.AddrFromSlice(address)
		if place := file.Lookup(from); place.Country == "" && place.Subdivision != "" || len(place.Country) > 2 || len(place.Subdivision) > 6 {
			t.Errorf("a place that cannot be: %+v", place)
		}
	})
}
