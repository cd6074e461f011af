package reserve

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
)

// HoldMax is the largest range of ports that is held by sockets.
const HoldMax = 64

// ErrTaken: the port is held by a program, or published already.
var ErrTaken = errors.New("port is taken")

// Range is an interval of ports, both ends included.
type Range struct{ First, Last uint16 }

// Config of a Ports; the zero value works.
type Config struct {
	// Left is what a daemon before has entered in net.ipv4.ip_local_reserved_ports: of it
	// stays what is taken again until Settle.
	Left []Range
	// Holder keeps the sockets that hold ports for the next daemon; nil: they end with the
	// process.
	Holder Holder
	// Reserved, if set, stores for Left what stands in
	// net.ipv4.ip_local_reserved_ports because of us. It is called with the new
	// whole before ports are entered, where an error refuses the change, and
	// after some were taken out: what is stored is never too little.
	Reserved func([]Range) error
	// Kept are the inodes of sockets of this process that keep their ports, at every
	// address: to a browser localhost:9595 is one site, whichever address answers.
	// What is not named is the relay's, see ours.
	Kept []uint32
	// Own, if set, is told of each socket that will hold a port, before it is bound.
	Own func(fd int) error
	// Recount, if set, compares the list of UDP sockets without our holds with what the
	// programs know of bound ports, and returns the ports that they keep for the host and that
	// are not listed.
	Recount func(list func() ([]netip.AddrPort, error)) (held []netip.AddrPort, err error)
	// Renote, if set, is told each minute by whom TCP ports are held: see kernel.Renote.
	Renote func(ports func() ([]uint16, error)) error
	// Note, if set, says that a connection of the host may have a TCP port, and Unnote that
	// none has.
	Note, Unnote func(port uint16)
	// Rand returns a number in [0, n); nil is math/rand/v2.
	Rand func(n int) int
}

// Ports are the ports of the host that the switch has taken. Safe for
// concurrent use.
type Ports struct {
	host *host.Host
	cfg  Config

	mu       sync.Mutex               // guards what follows
	listed   map[uint16][]host.Socket // of Together, until Apart; otherwise nil
	holds    holdList
	reserved portSet   // entered in ip_local_reserved_ports by us
	noted    time.Time // when Renote was called last
	fresh    []*Hold   // of TCP, whose ports are noted
}

// New returns an empty Ports.
func New(h *host.Host, cfg Config) *Ports {
	if cfg.Rand == nil {
		cfg.Rand = rand.IntN
	}
	p := &Ports{host: h, cfg: cfg}
	for _, r := range cfg.Left {
		if r.First <= r.Last {
			p.reserved.add(r.First, r.Last)
		}
	}
	return p
}

// Hold is a range of ports that was taken.
type Hold struct {
	ports       *Ports
	proto       uint8
	addr        netip.Addr
	first, last uint16
	large       bool   // in ip_local_reserved_ports, not held by sockets
	sockets     []held // of a range that is not large
	keeper      Keeper
	relayed     map[uint16]bool // ports that a socket of this process or of a holder holds already
	released    bool
}

// held is a port with the socket that holds it.
type held struct {
	port  uint16
	fd    int
	inode uint32
}

// Take takes the ports first to last of an address of the host, or of all its
// addresses (both families) when addr is invalid; all or nothing. proto is
// header.ProtoTCP, ProtoUDP or ProtoSCTP. When a program holds one of them the error wraps
// ErrTaken and names both:
//
//	port 8080/tcp is held by nginx (pid 123): stop it or publish another port
//
// A port of one address and the same port of all of them are two things, which
// can both be taken, in any order.
func (p *Ports) Take(proto uint8, addr netip.Addr, first, last uint16, keeper Keeper) (*Hold, error) {
	h := &Hold{ports: p, proto: proto, addr: addr.Unmap(), first: first, last: last, keeper: keeper}
	switch {
	case proto != header.ProtoTCP && proto != header.ProtoUDP && proto != header.ProtoSCTP:
		return nil, fmt.Errorf("protocol %d has no ports to publish: choose tcp, udp or sctp", proto)
	case first == 0 || first > last:
		return nil, fmt.Errorf("ports %d-%d are no range: choose from 1 to 65535", first, last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.holds {
		if o.proto == proto && o.first <= last && first <= o.last && meet(h.addr, o.addr) && wide(h.addr) == wide(o.addr) {
			return nil, &takenError{text: fmt.Sprintf("port %s is published already: publish another port", h.name(max(first, o.first)))}
		}
	}
	h.takeLeft()
	if p.listed == nil || h.check(p.listedLocked(h)) != nil {
		if err := h.checkNow(); err != nil {
			h.closeSockets()
			return nil, err
		}
	}
	if err := h.take(); err != nil {
		return nil, err
	}
	p.holds = append(p.holds, h)
	h.noteLocked()
	return h, nil
}

// Release gives the ports back. It may be called more than once.
func (h *Hold) Release() error {
	p := h.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.releaseLocked()
}

func (h *Hold) releaseLocked() error {
	if h.released {
		return nil
	}
	h.released = true
	p := h.ports
	p.holds = slices.DeleteFunc(p.holds, func(o *Hold) bool { return o == h })
	if h.large {
		return p.unreserveLocked()
	}
	h.closeSockets()
	return nil
}

// Close releases everything that is still taken.
func (p *Ports) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, h := range slices.Clone(p.holds) {
		err = errors.Join(err, h.releaseLocked())
	}
	return err
}

func (h *Hold) take() error {
	if h.proto == header.ProtoSCTP {
		return nil // a socket would load the kernel's SCTP into every host
	}
	if int(h.last)-int(h.first) >= HoldMax {
		h.large = true
		return h.ports.reserveLocked(h)
	}
	for port := int(h.first); port <= int(h.last); port++ {
		if h.relayed[uint16(port)] || slices.ContainsFunc(h.sockets, func(s held) bool { return int(s.port) == port }) {
			continue
		}
		s, err := h.hold(uint16(port))
		if err != nil {
			h.closeSockets()
			return err
		}
		h.sockets = append(h.sockets, s)
		if k := h.ports.cfg.Holder; k != nil {
			if err := k.Put(h.heldAs(s.port), s.fd, ""); err != nil {
				h.closeSockets()
				return fmt.Errorf("port %s: %w", h.name(s.port), err)
			}
		}
	}
	return nil
}

// checkNow is check with the sockets of now.
func (h *Hold) checkNow() error {
	sockets, err := h.ports.host.Sockets()
	if err != nil {
		return err
	}
	return h.check(sockets)
}

// check looks for sockets in the way. A bind would find most of them
// too, but not the one whose owner, like us, asked for SO_REUSEADDR and does not
// listen yet; and it would not name the owner.
func (h *Hold) check(sockets []host.Socket) error {
	h.relayed = nil
	for _, s := range sockets {
		if h.covers(s) && slices.Contains(h.ports.cfg.Kept, s.Inode) {
			return h.heldBy(s)
		}
		if !h.conflicts(s) || h.ports.holds.has(s.Inode) || (holdList{h}).has(s.Inode) {
			continue
		}
		if !ours(s.Inode) && !h.keeps(s) {
			return h.heldBy(s)
		}
		if h.relayed == nil {
			h.relayed = make(map[uint16]bool)
		}
		h.relayed[s.Port] = true
	}
	return nil
}

// ours reports whether this process has the socket: the relay's are in nobody's
// way, since what goes to a published port is steered to them anyhow.
func ours(inode uint32) bool { return has("/proc/self", inode) }

func (h *Hold) conflicts(s host.Socket) bool {
	return h.covers(s) && (s.DualStack || meet(h.addr, s.Addr))
}

// covers reports whether s has one of the ports, at whatever address.
func (h *Hold) covers(s host.Socket) bool {
	return s.Proto == h.proto && s.Port >= h.first && s.Port <= h.last
}

// meet reports whether a socket bound to a keeps another from b. The invalid
// address stands for every address of both families.
func meet(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() {
		return true
	}
	return a.WithZone("") == b.WithZone("") || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// wide reports whether an address of a hold stands for more than itself.
func wide(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

func (h *Hold) name(port uint16) string {
	switch h.proto {
	case header.ProtoUDP:
		return fmt.Sprintf("%d/udp", port)
	case header.ProtoSCTP:
		return fmt.Sprintf("%d/sctp", port)
	}
	return fmt.Sprintf("%d/tcp", port)
}

func (h *Hold) heldBy(s host.Socket) error {
	owner := Owner(s.Inode)
	if owner == "" {
		owner = "a program that cannot be seen from here"
	}
	return &takenError{text: fmt.Sprintf("port %s is held by %s: stop it or publish another port", h.name(s.Port), owner)}
}

// takenError is ErrTaken with a text of its own.
type takenError struct{ text string }

func (e *takenError) Error() string { return e.text }
func (e *takenError) Unwrap() error { return ErrTaken }

// Busy returns the sockets of the host whose ports masquerade must not use.
// Connections are not among them: their ports are their listener's, or come from
// ip_local_port_range.
func (p *Ports) Busy() (list []host.Socket, err error) {
	if p.cfg.Recount == nil {
		return p.host.Sockets()
	}
	if err := errors.Join(p.unnote(), p.renote()); err != nil {
		return nil, err
	}
	held, err := p.cfg.Recount(func() (udp []netip.AddrPort, err error) {
		list, err = p.host.Sockets()
		ours := p.inodes() // after the list, so that a hold in it is known
		for _, s := range list {
			if s.Proto == header.ProtoUDP && !ours[s.Inode] {
				udp = append(udp, netip.AddrPortFrom(s.Addr, s.Port))
			}
		}
		return udp, err
	})
	for _, h := range held {
		list = append(list, host.Socket{Proto: header.ProtoUDP, Addr: h.Addr(), Port: h.Port()})
	}
	return list, err
}

// inodes are the sockets of all holds.
func (p *Ports) inodes() map[uint32]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := make(map[uint32]bool)
	for _, h := range p.holds {
		for _, s := range h.sockets {
			set[s.inode] = true
		}
	}
	return set
}

// Intruders returns the sockets that programs have bound inside large ranges
// since those were taken. The switch serves such a port all the same: packets
// from outside never reach the program.
func (p *Ports) Intruders() ([]host.Socket, error) {
	p.mu.Lock()
	holds := slices.DeleteFunc(slices.Clone(p.holds), func(h *Hold) bool { return !h.large })
	p.mu.Unlock()
	if len(holds) == 0 {
		return nil, nil
	}
	sockets, err := p.host.Sockets()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sockets, func(s host.Socket) bool {
		return ours(s.Inode) || !slices.ContainsFunc(holds, func(h *Hold) bool { return h.conflicts(s) && !slices.Contains(h.keeper.Known, s.Cookie) })
	}), nil
}
