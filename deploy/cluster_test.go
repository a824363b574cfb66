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
	if again, err := k.Kubectl(t.Context(), config, "", "apply", "--validate=strict", "-f", "kubernetes/daypass.yaml"); err != nil {
		t.Fatalf("%v\n%s", err, again)
	}
	generation, err := k.Kubectl(t.Context(), config, "", "get", "statefulset", "daypass", "-n", "daypass", "-o", "jsonpath={.metadata.generation}")
	if err != nil || generation != "1" {
		t.Errorf("applied again it is another: %v, generation %s", err, generation)
	}
}
