package deploy_test

import (
	"strings"
	"testing"

	"github.com/daypass/daypass/internal/testbed"
)

// A real API server takes the manifests as they are, field by field, and once more without a change. It has no nodes:
// that a pod of them runs is not shown here.
func TestARealAPIServerTakesTheManifests(t *testing.T) {
	k := testbed.OwnKubernetes(t)
	config := k.AdminConfig(t)
	first, err := k.Kubectl(t.Context(), config, "", "apply", "--validate=strict", "-f", "kubernetes/daypass.yaml")
	if err != nil || strings.Count(first, " created\n") != 6 || strings.Contains(first, "Warning") {
		t.Fatalf("%v\n%s", err, first)
	}
	again, err := k.Kubectl(t.Context(), config, "", "apply", "--validate=strict", "-f", "kubernetes/daypass.yaml")
	if err != nil || strings.Count(again, " unchanged\n") != 6 {
		t.Errorf("%v\n%s", err, again)
	}
}
