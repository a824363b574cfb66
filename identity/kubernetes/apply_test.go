package kubernetes_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// apply has kubectl apply a page of the documentation, with the names of this test for the page's.
func (c *cluster) apply(t testing.TB, page string) {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	// What is of the whole cluster is shared by the tests of this process.
	named := strings.NewReplacer("namespace: daypass", "namespace: "+c.space, "name: daypass-reviews", "name: daypass-reviews-"+c.space).Replace(string(text))
	if out, err := c.Kubectl(context.WithoutCancel(t.Context()), c.AdminConfig(t), named, "apply", "-f", "-"); err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}
