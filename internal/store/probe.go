package store

// Probe writes something that means nothing: who commits it knows that the store can be written.
func (tx *Tx) Probe() error { return tx.setMeta("probe", "") }
