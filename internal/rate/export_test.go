package rate

// Known is how many are remembered.
func (l *Limit) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.limiters)
}
