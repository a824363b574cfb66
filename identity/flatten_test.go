package identity_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/daypass/daypass/identity"
)

func TestNestedClaimsAreLiftedByName(t *testing.T) {
	paths := [][]string{{"google", "compute_engine", "zone"}, {"kubernetes.io", "pod", "name"}, {"tags", identity.AnyKey}, {"access", identity.AnyKey, "roles"}}
	claims := map[string]any{
		"sub":           "s",
		"google":        map[string]any{"compute_engine": map[string]any{"zone": "us-west1-a", "other": "x"}},
		"kubernetes.io": map[string]any{"pod": map[string]any{"name": "p"}},
		"tags":          map[string]any{"team": "data", "a.b": "c"},
		"access":        map[string]any{"app": map[string]any{"roles": []any{"r"}}, "none": "x"},
	}
	flat, err := identity.Flatten(claims, paths)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"sub": "s", "google.compute_engine.zone": "us-west1-a", "kubernetes.io.pod.name": "p",
		"tags.team": "data", "tags.a.b": "c", "access.app.roles": []any{"r"},
	} {
		if !reflect.DeepEqual(flat[name], want) {
			t.Errorf("%s is %v, want %v", name, flat[name], want)
		}
	}
	if len(flat) != len(claims)+5 || len(claims) != 5 {
		t.Errorf("%d claims of %d: %v", len(flat), len(claims), flat)
	}
}

func TestNoClaimCanTakeTheNameOfANestedOne(t *testing.T) {
	paths := [][]string{{"google", "zone"}, {"tags", identity.AnyKey}, {"access", identity.AnyKey, "roles"}, {"x", "y.z"}, {"x.y", "z"}}
	for name, claims := range map[string]map[string]any{
		"a name of its own":             {"google.zone": "z"},
		"beside the nested one":         {"google.zone": "z", "google": map[string]any{"zone": "z"}},
		"a name under any key":          {"tags.team": "t"},
		"a name with any key within":    {"access.app.roles": "r"},
		"two paths that meet":           {"x": map[string]any{"y.z": "1"}, "x.y": map[string]any{"z": "2"}},
		"a key that holds dots as well": {"access.a.b.roles": "r"},
	} {
		if flat, err := identity.Flatten(claims, paths); !errors.Is(err, identity.ErrRejected) {
			t.Errorf("%s: %v, %v", name, flat, err)
		}
	}
	for name, claims := range map[string]map[string]any{
		"a name that is longer":        {"google.zone.x": "z"},
		"a name that ends elsewhere":   {"access.app.role": "r"},
		"an object that is a string":   {"google": "zone", "tags": "team"},
		"an object that is an array":   {"google": []any{map[string]any{"zone": "z"}}},
		"an empty key, and empty tags": {"tags": map[string]any{"": "x"}},
		"nothing":                      {},
	} {
		if flat, err := identity.Flatten(claims, paths); err != nil || len(flat) != len(claims) {
			t.Errorf("%s: %v, %v", name, flat, err)
		}
	}
}
