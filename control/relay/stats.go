package relay

// Stats counts what the relay carries now, what it may at most, of one user half of it, and
// how many connections and sessions have given their places to others so far.
type Stats struct {
	TCP, UDP, MaxTCP, MaxUDP int
	GaveTCP, GaveUDP         uint64
	Dropped                  uint64 // datagrams of users who had too many waiting, here or in a session's socket
}

// Stats is safe for concurrent use.
func (r *Relay) Stats() Stats {
	st := Stats{MaxTCP: r.cfg.MaxConns, MaxUDP: r.cfg.MaxSessions, Dropped: r.backlog.dropped() + r.full.Load()}
	r.sessions.mu.Lock()
	st.UDP, st.GaveUDP = r.sessions.places.Len(), r.sessions.places.Gave()
	r.sessions.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	st.TCP, st.GaveTCP = r.conns.Len(), r.conns.Gave()
	return st
}
