package inspection_test

import (
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go/x/exp/schema"

	"github.com/daypass/daypass/internal/access"
	"github.com/daypass/daypass/internal/inspection"
)

func TestEachPresetHasASchemaOfItsOwn(t *testing.T) {
	for _, p := range access.Presets() {
		text, err := inspection.SchemaOf(p.Name)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if err := new(schema.Schema).UnmarshalCedar([]byte(text)); err != nil {
			t.Errorf("%s is not Cedar: %v", p.Name, err)
		}
		for name := range p.Claims {
			if !strings.Contains(text, `"`+name+`"`) {
				t.Errorf("%s lacks %s", p.Name, name)
			}
		}
	}
	if _, err := inspection.SchemaOf("github"); err == nil || !strings.Contains(err.Error(), "github-actions") {
		t.Errorf("an unknown one: %v", err)
	}
}
