package kubernetes

import "time"

// KeepTombs says how long records of ended leases stay.
func (k *Kubernetes) KeepTombs(d time.Duration) { k.keep = d }
