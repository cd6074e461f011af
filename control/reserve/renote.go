package reserve

import "time"

// renotePeriod is how often the host's connections are read, of which there may be very many.
const renotePeriod = time.Minute

// renote says which TCP ports connections of the host and bound sockets have. The first call
// of a process does not: flows wait for the list of UDP's sockets then.
func (p *Ports) renote() error {
	p.mu.Lock()
	first := p.noted.IsZero()
	due := p.cfg.Renote != nil && time.Since(p.noted) >= renotePeriod && !first
	switch {
	case first:
		p.noted = time.Now().Add(-renotePeriod)
	case due:
		p.noted = time.Now()
	}
	p.mu.Unlock()
	if !due {
		return nil
	}
	return p.cfg.Renote(func() (ports []uint16, err error) {
		conns, err := p.host.Connections()
		ours := p.inodes() // after the list, so that a hold in it is known
		for _, s := range conns {
			if !ours[s.Inode] && !s.Listens {
				ports = append(ports, s.Port)
			}
		}
		return ports, err
	})
}
