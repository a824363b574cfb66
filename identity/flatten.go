package identity

import (
	"fmt"
	"maps"
	"strings"
)

// AnyKey is the step of a path that leads through every key of an object.
const AnyKey = "*"

// Flatten returns claims with nested ones lifted to the top, where policies can see them. Each path is the keys that
// lead to a claim; at most one of them, and not the first, may be [AnyKey]. A lifted claim has these keys, joined by
// dots, as its name: {"google", "compute_engine", "zone"} gives "google.compute_engine.zone". What a path does not lead
// to is not lifted; the objects themselves stay.
//
// No two claims ever share a name: a token that has a claim of its own under a name that a path can give, and one in
// which two paths meet, is [ErrRejected]. Without that, whoever chooses the name of one claim could speak for another.
func Flatten(claims map[string]any, paths [][]string) (map[string]any, error) {
	if len(paths) == 0 {
		return claims, nil
	}
	for name := range claims {
		for _, path := range paths {
			if leadsTo(path, name) {
				return nil, fmt.Errorf("claim %q has the name of one that is nested: %w", name, ErrRejected)
			}
		}
	}
	flat := maps.Clone(claims)
	for _, path := range paths {
		for name, value := range lifted(claims, path) {
			if _, taken := flat[name]; taken {
				return nil, fmt.Errorf("two claims have the name %q: %w", name, ErrRejected)
			}
			flat[name] = value
		}
	}
	return flat, nil
}

// leadsTo reports whether path can give a claim this name.
func leadsTo(path []string, name string) bool {
	before, after, wild := cutPath(path)
	if !wild {
		return name == before
	}
	key, ok := strings.CutPrefix(name, before+".")
	if ok && after != "" {
		key, ok = strings.CutSuffix(key, "."+after)
	}
	return ok && key != ""
}

// cutPath returns the names before and after AnyKey.
func cutPath(path []string) (before, after string, wild bool) {
	for i, key := range path {
		if key == AnyKey && i > 0 {
			return strings.Join(path[:i], "."), strings.Join(path[i+1:], "."), true
		}
	}
	return strings.Join(path, "."), "", false
}

// lifted returns what a path leads to, by the names it gets.
func lifted(claims map[string]any, path []string) map[string]any {
	found := map[string]any{"": claims}
	for i, key := range path {
		next := map[string]any{}
		for name, value := range found {
			object, ok := value.(map[string]any)
			if !ok {
				continue
			}
			for k, v := range object {
				if k == key || key == AnyKey && i > 0 && k != "" {
					next[strings.TrimPrefix(name+"."+k, ".")] = v
				}
			}
		}
		found = next
	}
	return found
}
