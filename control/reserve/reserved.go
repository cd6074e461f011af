package reserve

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Ports that the kernel does not hand out by chance, in the network namespace of
// the process, for both families and all protocols.
const (
	reservedPath = "/proc/sys/net/ipv4/ip_local_reserved_ports"
	rangePath    = "/proc/sys/net/ipv4/ip_local_port_range"
)

func readReserved() (*portSet, error) {
	b, err := os.ReadFile(reservedPath)
	if err != nil {
		return nil, err
	}
	s, err := parsePortSet(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reservedPath, err)
	}
	return s, nil
}

func writeReserved(s *portSet) error {
	// A list longer than a page is written in parts, which the kernel joins as
	// long as they come from one open file.
	f, err := os.OpenFile(reservedPath, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%w: the daemon needs a writable /proc/sys/net", err)
	}
	_, err = f.WriteString(s.String() + "\n")
	return errors.Join(err, f.Close())
}

// reserveLocked enters the ports of a large range, those that the administrator
// has not entered already.
func (p *Ports) reserveLocked(h *Hold) error {
	now, err := readReserved()
	if err != nil {
		return err
	}
	added := &portSet{}
	added.add(h.first, h.last)
	added.subtract(now)
	ours := p.reserved
	ours.union(added)
	if p.cfg.Reserved != nil {
		if err := p.cfg.Reserved(ours.ranges()); err != nil {
			return err
		}
	}
	now.union(added)
	if err := writeReserved(now); err != nil {
		return err
	}
	p.reserved = ours
	return nil
}

// unreserveLocked takes out what we entered and no remaining range needs.
func (p *Ports) unreserveLocked() error {
	needed := &portSet{}
	for _, h := range p.holds {
		if h.large {
			needed.add(h.first, h.last)
		}
	}
	gone := p.reserved
	gone.subtract(needed)
	if gone == (portSet{}) {
		return nil
	}
	now, err := readReserved()
	if err != nil {
		return err
	}
	now.subtract(&gone)
	if err := writeReserved(now); err != nil {
		return err
	}
	p.reserved.intersect(needed)
	if p.cfg.Reserved != nil {
		return p.cfg.Reserved(p.reserved.ranges())
	}
	return nil
}

// RestoreReserved takes ranges out of net.ipv4.ip_local_reserved_ports that a
// daemon entered and could not take out again because it was killed.
func RestoreReserved(ranges []Range) error {
	now, err := readReserved()
	if err != nil {
		return err
	}
	before := *now
	for _, r := range ranges {
		if r.First <= r.Last {
			now.remove(r.First, r.Last)
		}
	}
	if *now == before {
		return nil
	}
	return writeReserved(now)
}

// FormatRanges writes ranges as ip_local_reserved_ports has them, and ParseRanges reads that.
func FormatRanges(list []Range) string {
	s := &portSet{}
	for _, r := range list {
		s.add(r.First, r.Last)
	}
	return s.String()
}

// ParseRanges is the inverse of FormatRanges.
func ParseRanges(text string) ([]Range, error) {
	s, err := parsePortSet(text)
	if err != nil {
		return nil, err
	}
	return s.ranges(), nil
}

// FreePort returns the first of n ports in a row that nobody holds, at a random
// place in net.ipv4.ip_local_port_range. Take may still lose a race for them: ask
// again on ErrTaken.
func (p *Ports) FreePort(proto uint8, addr netip.Addr, n int) (uint16, error) {
	low, high, err := localRange()
	if err != nil {
		return 0, err
	}
	busy, err := p.busy(proto, addr)
	if err != nil {
		return 0, err
	}
	if places := high - low + 2 - n; n > 0 && places > 0 {
		start := p.cfg.Rand(places)
		for _, from := range []int{low + start, low} {
			for from+n-1 <= high {
				taken := busy.next(from, true)
				if taken >= from+n {
					return uint16(from), nil
				}
				from = taken + 1
			}
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row in net.ipv4.ip_local_port_range %d-%d: name the host's port", n, low, high)
}

// busy returns the ports of one protocol that cannot be taken at addr, and those
// that are reserved for somebody.
func (p *Ports) busy(proto uint8, addr netip.Addr) (*portSet, error) {
	busy, err := readReserved()
	if err != nil {
		return nil, err
	}
	all := &Hold{proto: proto, addr: addr.Unmap(), first: 1, last: 65535}
	sockets, err := p.host.Sockets()
	if err != nil {
		return nil, err
	}
	if proto == header.ProtoTCP {
		connections, err := p.host.Connections()
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, connections...)
	}
	for _, s := range sockets {
		if all.conflicts(s) {
			busy.add(s.Port, s.Port)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.holds {
		if h.proto == proto && meet(h.addr, all.addr) {
			busy.add(h.first, h.last)
		}
	}
	return busy, nil
}

func localRange() (low, high int, err error) {
	b, err := os.ReadFile(rangePath)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &low, &high); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", rangePath, err)
	}
	return low, high, nil
}
