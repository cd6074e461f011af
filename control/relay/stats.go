package relay

// Stats counts what the relay carries now, and what it may at most.
type Stats struct{ TCP, UDP, MaxTCP, MaxUDP int }

// Stats is safe for concurrent use.
func (r *Relay) Stats() Stats {
	st := Stats{MaxTCP: r.cfg.MaxConns, MaxUDP: r.cfg.MaxSessions, UDP: r.sessions.len()}
	r.mu.Lock()
	defer r.mu.Unlock()
	st.TCP = r.active
	return st
}
