package access

// kubernetesPresets are the vocabularies of Kubernetes.
func kubernetesPresets() []Preset { return nil }
