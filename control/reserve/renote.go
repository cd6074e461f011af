package reserve

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

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

// noteLocked notes the ports of a hold: who had one before may have connections. Nobody else
// can bind them any more, so that unnote has to look once. Of a large range who binds one
// all the same is noted by the hooks, or by renote.
func (h *Hold) noteLocked() {
	if h.ports.cfg.Note == nil || h.proto != header.ProtoTCP {
		return
	}
	for port := int(h.first); port <= int(h.last); port++ {
		h.ports.cfg.Note(uint16(port))
	}
	h.ports.fresh = append(h.ports.fresh, h)
}

// unnote takes the notes away that noteLocked has made in vain.
func (p *Ports) unnote() error {
	p.mu.Lock()
	fresh := p.fresh
	p.fresh = nil
	p.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	first, last := fresh[0].first, fresh[0].last
	for _, h := range fresh {
		first, last = min(first, h.first), max(last, h.last)
	}
	conns, err := p.host.ConnectionsFrom(first, last)
	if err != nil {
		return err // renote takes them away
	}
	ours, has := p.inodes(), make(map[uint16]bool)
	for _, s := range conns {
		has[s.Port] = has[s.Port] || !s.Listens && !ours[s.Inode]
	}
	for _, h := range fresh {
		for port := int(h.first); port <= int(h.last); port++ {
			if !has[uint16(port)] {
				p.cfg.Unnote(uint16(port))
			}
		}
	}
	return nil
}
