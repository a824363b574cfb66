package deploy_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/daypass/daypass/internal/config"
)

// cluster is everything in the manifest.
type cluster struct {
	namespace namespace
	account   serviceAccount
	config    configMap
	set       statefulSet
	service   service
	policy    networkPolicy
}

// kinds are the objects of the manifest by apiVersion and kind.
func (c *cluster) kinds() map[string]any {
	return map[string]any{
		"v1 Namespace": &c.namespace, "v1 ServiceAccount": &c.account, "v1 ConfigMap": &c.config, "apps/v1 StatefulSet": &c.set,
		"v1 Service": &c.service, "networking.k8s.io/v1 NetworkPolicy": &c.policy,
	}
}

// manifest reads the manifest strictly: each kind once, and no field that the API does not have.
func manifest(t *testing.T) *cluster {
	t.Helper()
	t.Log("no cluster is asked: the fields are those of deploy/kubernetes_types_test.go")
	text, err := os.ReadFile("kubernetes/daypass.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	left := c.kinds()
	for part := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var o Object
		if err := yaml.Unmarshal(part, &o); err != nil {
			t.Fatal(err)
		}
		kind := o.APIVersion + " " + o.Kind
		into, ok := left[kind]
		if !ok {
			t.Fatalf("%s is not known here, or there twice", kind)
		}
		if err := yaml.NewDecoder(bytes.NewReader(part), yaml.Strict()).Decode(into); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		delete(left, kind)
		if o.Metadata.Name != "daypass" || o.Kind != "Namespace" && o.Metadata.Namespace != "daypass" {
			t.Errorf("%s is %s in %s", kind, o.Metadata.Name, o.Metadata.Namespace)
		}
	}
	if len(left) > 0 {
		t.Errorf("the manifest lacks %v", slices.Collect(maps.Keys(left)))
	}
	return c
}

func TestThePodKeepsToTheRestrictedStandard(t *testing.T) {
	c := manifest(t)
	if c.namespace.Metadata.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Error("the namespace does not enforce it")
	}
	pod := c.set.Spec.Template.Spec
	if s := pod.SecurityContext; !s.RunAsNonRoot || s.RunAsUser != 65532 || s.FSGroup != s.RunAsUser || s.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("the pod runs as %+v", s)
	}
	if pod.SecurityContext.FSGroupChangePolicy != "OnRootMismatch" {
		t.Error("each start would give the group rights to the master key, which the server then refuses")
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || pod.ServiceAccountName != c.account.Metadata.Name {
		t.Error("the pod has a token of the cluster that it does not need")
	}
	for _, container := range append(pod.InitContainers, pod.Containers...) {
		s := container.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("container %s may too much: %+v", container.Name, s)
		}
		if container.Resources.Requests["memory"] == "" || container.Resources.Limits["memory"] == "" {
			t.Errorf("container %s has no bounds of memory", container.Name)
		}
	}
}

func TestThePartsOfTheManifestFitTogether(t *testing.T) {
	c := manifest(t)
	pod := c.set.Spec.Template
	if c.set.Spec.Replicas == nil || *c.set.Spec.Replicas != 1 {
		t.Error("a store in a file has one owner: one replica")
	}
	for what, labels := range map[string]map[string]string{
		"the set": c.set.Spec.Selector.MatchLabels, "the service": c.service.Spec.Selector, "the policy": c.policy.Spec.PodSelector.MatchLabels,
	} {
		if len(labels) == 0 || !maps.Equal(labels, pod.Metadata.Labels) {
			t.Errorf("%s selects %v, and the pod has %v", what, labels, pod.Metadata.Labels)
		}
	}
	if c.set.Spec.ServiceName != c.service.Metadata.Name {
		t.Errorf("the set's service is %s", c.set.Spec.ServiceName)
	}
	volumes := []string{}
	for _, v := range pod.Spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap != nil && !v.ConfigMap.Optional && v.ConfigMap.Name != c.config.Metadata.Name {
			t.Errorf("volume %s needs %s, which nobody makes", v.Name, v.ConfigMap.Name)
		}
	}
	for _, claim := range c.set.Spec.VolumeClaimTemplates {
		volumes = append(volumes, claim.Metadata.Name)
	}
	containers := append(pod.Spec.InitContainers, pod.Spec.Containers...)
	for _, container := range containers {
		for _, mount := range container.VolumeMounts {
			if !slices.Contains(volumes, mount.Name) {
				t.Errorf("container %s mounts %s, which is not there", container.Name, mount.Name)
			}
		}
		if container.Image != containers[0].Image {
			t.Errorf("container %s runs another image", container.Name)
		}
	}
	main := pod.Spec.Containers[0]
	if len(main.Ports) != 1 || main.Ports[0].ContainerPort != 8420 || c.service.Spec.Ports[0].TargetPort != main.Ports[0].Name {
		t.Errorf("ports: %+v, %+v", main.Ports, c.service.Spec.Ports)
	}
	for path, probes := range map[string][]*containerProbe{"/healthz": {main.StartupProbe, main.LivenessProbe}, "/readyz": {main.ReadinessProbe}} {
		for _, p := range probes {
			if p == nil || p.HTTPGet.Path != path || p.HTTPGet.Port != main.Ports[0].Name || p.HTTPGet.Scheme != "HTTPS" {
				t.Errorf("the probe of %s is %+v", path, p)
			}
		}
	}
	if port := c.policy.Spec.Ingress[0].Ports[0].Port; port != main.Ports[0].Name || len(c.policy.Spec.Egress) == 0 || len(c.policy.Spec.PolicyTypes) != 2 {
		t.Errorf("the policy lets %v in", port)
	}
}

// The server takes the configuration of the manifest, and everything it names is mounted.
func TestTheServerTakesTheConfigurationOfTheManifest(t *testing.T) {
	c := manifest(t)
	path := filepath.Join(t.TempDir(), "daypass.yaml")
	if err := os.WriteFile(path, []byte(c.config.Data["daypass.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	main := c.set.Spec.Template.Spec.Containers[0]
	mounted := func(file string, writable bool) bool {
		for _, m := range main.VolumeMounts {
			if (file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")) && m.ReadOnly != writable {
				return true
			}
		}
		return false
	}
	for _, file := range []string{cfg.TLS.Certificate, cfg.TLS.Key, cfg.SecretsDir, cfg.Access, "/etc/daypass/daypass.yaml"} {
		if !mounted(file, false) {
			t.Errorf("%s is not mounted to be read", file)
		}
	}
	for _, file := range []string{strings.TrimPrefix(cfg.Store, "sqlite://"), strings.TrimPrefix(cfg.MasterKey, "file://"), cfg.Socket} {
		if !mounted(file, true) {
			t.Errorf("%s is not mounted to be written", file)
		}
	}
	if !strings.HasSuffix(cfg.Listen, ":8420") || !slices.Contains(main.Args, "/etc/daypass/daypass.yaml") {
		t.Errorf("it listens on %s with %v", cfg.Listen, main.Args)
	}
}
