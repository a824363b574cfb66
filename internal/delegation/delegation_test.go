package delegation_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/delegation"
)

const ci = "https://ci.example"

func TestAChainOfActorsIsBounded(t *testing.T) {
	claims := map[string]any{"team": "payments"}
	for n := range delegation.Most + 1 {
		actor := delegation.Actor{IssuerURL: ci, Subject: fmt.Sprint("actor-", n)}
		claims["may_act"] = map[string]any{"iss": actor.IssuerURL, "sub": actor.Subject}
		next, err := delegation.Grow(claims, actor)
		if n == delegation.Most {
			if !errors.Is(err, delegation.ErrTooMany) || delegation.Check(next) == nil {
				t.Errorf("actor %d: %v", n, err)
			}
			break
		}
		if err != nil || delegation.Check(next) != nil {
			t.Fatalf("actor %d: %v", n, err)
		}
		if _, grown := claims["act"]; grown && n == 0 {
			t.Error("the claims that it was given were changed")
		}
		claims = next
		if chain := delegation.Chain(claims, ci); len(chain) != n+1 || chain[0] != actor || chain[n].Subject != "actor-0" {
			t.Fatalf("actor %d: %v", n, chain)
		}
	}
}

func TestLongNamesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		issuer, subject int
		want            error
	}{
		"as long as may be": {512, 255, nil},
		"a longer subject":  {512, 256, delegation.ErrTooLong},
		"a longer issuer":   {513, 255, delegation.ErrTooLong},
	} {
		act := map[string]any{"sub": "a", "act": map[string]any{"iss": strings.Repeat("i", c.issuer), "sub": strings.Repeat("s", c.subject)}}
		if err := delegation.Check(map[string]any{"act": act}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnActorWhomNobodyCouldLockIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		act  any
		want error
	}{
		"none":                    {nil, nil},
		"a name":                  {map[string]any{"sub": "a"}, nil},
		"an issuer alone":         {map[string]any{"iss": ci}, nil},
		"one behind another":      {map[string]any{"sub": "a", "act": map[string]any{"sub": "b"}}, nil},
		"a text":                  {"gateway", delegation.ErrNobody},
		"a list":                  {[]any{map[string]any{"sub": "a"}}, delegation.ErrNobody},
		"an empty object":         {map[string]any{}, delegation.ErrNobody},
		"an empty name":           {map[string]any{"sub": ""}, delegation.ErrNobody},
		"a name of no text":       {map[string]any{"sub": 7}, delegation.ErrNobody},
		"an issuer of no text":    {map[string]any{"iss": 7, "sub": "a"}, delegation.ErrNobody},
		"nonsense behind another": {map[string]any{"sub": "a", "act": "b"}, delegation.ErrNobody},
		"one behind one unnamed":  {map[string]any{"act": map[string]any{"sub": "b"}}, delegation.ErrNobody},
	} {
		if err := delegation.Check(map[string]any{"act": c.act}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyWhomTheTokenNamesActs(t *testing.T) {
	named := map[string]any{"iss": ci, "sub": "gateway"}
	for name, c := range map[string]struct {
		may   any
		actor delegation.Actor
	}{
		"nobody is named":           {nil, delegation.Actor{IssuerURL: ci, Subject: "gateway"}},
		"another is named":          {named, delegation.Actor{IssuerURL: ci, Subject: "other"}},
		"one of another issuer":     {named, delegation.Actor{IssuerURL: "https://other.example", Subject: "gateway"}},
		"the name is no object":     {"gateway", delegation.Actor{IssuerURL: ci, Subject: "gateway"}},
		"an empty subject":          {map[string]any{"iss": ci, "sub": ""}, delegation.Actor{IssuerURL: ci}},
		"a subject of another type": {map[string]any{"iss": ci, "sub": 7}, delegation.Actor{IssuerURL: ci, Subject: "7"}},
	} {
		if _, err := delegation.Grow(map[string]any{"may_act": c.may}, c.actor); !errors.Is(err, delegation.ErrMayNot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryActorIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		act  any
		want []delegation.Actor
	}{
		"none":                    {nil, nil},
		"a text":                  {"gateway", nil},
		"a list":                  {[]any{}, nil},
		"one of another issuer":   {map[string]any{"iss": "https://other.example", "sub": "a"}, []delegation.Actor{{"https://other.example", "a"}}},
		"one of the token's own":  {map[string]any{"sub": "a"}, []delegation.Actor{{ci, "a"}}},
		"an issuer alone":         {map[string]any{"iss": "https://other.example"}, []delegation.Actor{{"https://other.example", ""}}},
		"an issuer of no text":    {map[string]any{"iss": 7, "sub": "a"}, []delegation.Actor{{ci, "a"}}},
		"one behind one unnamed":  {map[string]any{"act": map[string]any{"sub": "b"}}, []delegation.Actor{{ci, ""}, {ci, "b"}}},
		"one behind another":      {map[string]any{"sub": "a", "act": map[string]any{"iss": "https://other.example", "sub": "b"}}, []delegation.Actor{{ci, "a"}, {"https://other.example", "b"}}},
		"nonsense behind another": {map[string]any{"sub": "a", "act": "b"}, []delegation.Actor{{ci, "a"}}},
	} {
		if got := delegation.Chain(map[string]any{"act": c.act}, ci); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
