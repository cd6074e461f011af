package reserve

import "golang.org/x/sys/unix"

// Holder keeps descriptors by name (control/holder).
type Holder interface {
	Take(name string) (fd int, value string, ok bool)
	Put(name string, fd int, value string) error
	Drop(name string)
}

// Settle takes out of net.ipv4.ip_local_reserved_ports what a daemon before has entered and
// nobody has taken again.
func (p *Ports) Settle() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unreserveLocked()
}

// Keep closes the sockets of all holds, and leaves the ports taken as far as there is a holder.
func (p *Ports) Keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.holds {
		h.released = true
		for _, s := range h.sockets {
			unix.Close(s.fd)
		}
	}
	p.holds = nil
}

// heldAs is the name of a socket with the holder.
func (h *Hold) heldAs(port uint16) string { return "port " + h.name(port) + " " + h.addr.String() }

// takeLeft takes the sockets that a daemon before has left.
func (h *Hold) takeLeft() {
	k := h.ports.cfg.Holder
	if k == nil || int(h.last)-int(h.first) >= HoldMax {
		return
	}
	for port := int(h.first); port <= int(h.last); port++ {
		fd, _, ok := k.Take(h.heldAs(uint16(port)))
		if !ok {
			continue
		}
		s, err := h.socket(uint16(port), fd)
		if own := h.ports.cfg.Own; own != nil && err == nil {
			err = own(fd)
		}
		if err != nil {
			unix.Close(fd)
			k.Drop(h.heldAs(uint16(port)))
			continue
		}
		h.sockets = append(h.sockets, s)
	}
}
