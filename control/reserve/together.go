package reserve

import "github.com/vswitch/vswitch/control/host"

// Together lists the host's sockets once for all that is taken until Apart is called, unless
// one of them is in the way. A program that binds a port meanwhile is found by the bind alone.
func (p *Ports) Together() error {
	list, err := p.host.Sockets()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed = byPort(list)
	return nil
}

// Apart ends it.
func (p *Ports) Apart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed = nil
}

// byPort lets a hold look at the sockets of its own ports.
func byPort(list []host.Socket) map[uint16][]host.Socket {
	at := make(map[uint16][]host.Socket, len(list))
	for _, s := range list {
		at[s.Port] = append(at[s.Port], s)
	}
	return at
}

// listedLocked are the listed sockets of the ports of a hold.
func (p *Ports) listedLocked(h *Hold) (list []host.Socket) {
	for port := int(h.first); port <= int(h.last); port++ {
		list = append(list, p.listed[uint16(port)]...)
	}
	return list
}
