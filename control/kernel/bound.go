package kernel

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// boundPorts is struct bound_ports in claim.h.
type boundPorts struct {
	sockets [2][1 << 16]int32 // of IPv4 and IPv6
	tcp     [1 << 16]uint32   // how often a port was bound, 0 where nobody has it
	listed  uint32            // tcp has all connections, but those that began since
}

// udpPort is a port of one family.
type udpPort struct {
	ipv6 bool
	port uint16
}

// recount is how many sockets are counted and listed at a port.
type recount struct{ counted, listed int32 }

// Recount compares the counts of bound UDP ports with the list of the host's sockets, and
// makes them what it says where twice in a row they differ in the same way and did not change
// while it was read. A socket from before the hooks is counted so, and one is taken out that
// has left its port without a release (connect(2) with AF_UNSPEC). held are the ports that
// count though nobody is listed there.
func (k *Kernel) Recount(list func() ([]netip.AddrPort, error)) (held []netip.AddrPort, err error) {
	k.recounting.Lock()
	defer k.recounting.Unlock()
	ports := make(map[udpPort]recount)
	for f := range k.bound.sockets {
		for port := range k.bound.sockets[f] {
			if n := atomic.LoadInt32(&k.bound.sockets[f][port]); n != 0 {
				ports[udpPort{f == 1, uint16(port)}] = recount{counted: n}
			}
		}
	}
	sockets, err := list()
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		for _, v6 := range reachedBy(s.Addr()) {
			p := udpPort{v6, s.Port()}
			r := ports[p]
			r.listed++
			ports[p] = r
		}
	}
	differ := make(map[udpPort]recount)
	for p, r := range ports {
		switch {
		case r.counted == r.listed:
			continue
		case k.differ[p] == r && atomic.CompareAndSwapInt32(k.bound.at(p), r.counted, r.listed):
			continue
		case r.counted > 0 && r.listed == 0:
			held = append(held, p.everywhere())
		}
		differ[p] = r
	}
	k.differ = differ
	return held, nil
}

// Renote compares the notes of TCP ports that programs of the host have bound with the host's
// connections, and those bound that the kernel lists: a port where there is one is noted, also
// from before the hooks, and a note goes when nothing was there twice in a row and nobody
// bound the port meanwhile.
func (k *Kernel) Renote(list func() ([]uint16, error)) error {
	k.recounting.Lock()
	defer k.recounting.Unlock()
	ports, err := list()
	if err != nil {
		return err
	}
	has := make(map[uint16]bool, len(ports))
	for _, port := range ports {
		has[port] = true
		atomic.CompareAndSwapUint32(&k.bound.tcp[port], 0, 1)
	}
	unused := make(map[uint16]uint32)
	for i := range k.bound.tcp {
		port, n := uint16(i), atomic.LoadUint32(&k.bound.tcp[i])
		if n == 0 || has[port] || k.unused[port] == n && atomic.CompareAndSwapUint32(&k.bound.tcp[port], n, 0) {
			continue
		}
		unused[port] = n
	}
	k.unused = unused
	atomic.StoreUint32(&k.bound.listed, 1)
	return nil
}

// NotePort notes that a connection of the host may have a TCP port.
func (k *Kernel) NotePort(port uint16) { atomic.AddUint32(&k.bound.tcp[port], 1) }

// UnnotePort takes a note away again, unless there was another one, too.
func (k *Kernel) UnnotePort(port uint16) { atomic.CompareAndSwapUint32(&k.bound.tcp[port], 1, 0) }

// everywhere is the port at all addresses of the host.
func (p udpPort) everywhere() netip.AddrPort {
	if p.ipv6 {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), p.port)
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), p.port)
}

func (b *boundPorts) at(p udpPort) *int32 {
	if p.ipv6 {
		return &b.sockets[1][p.port]
	}
	return &b.sockets[0][p.port]
}

// reachedBy are the families, by whether they are IPv6, from which packets from outside
// reach a socket, as bind.h has them.
func reachedBy(a netip.Addr) []bool {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return nil
	case a == netip.IPv6Unspecified():
		return []bool{false, true}
	}
	return []bool{a.Is6()}
}

// mapBound maps the counts into memory.
func (k *Kernel) mapBound() error {
	mem, err := unix.Mmap(k.planes.bound.FD(), 0, int(unsafe.Sizeof(boundPorts{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	k.memory = append(k.memory, mem)
	k.bound = (*boundPorts)(unsafe.Pointer(unsafe.SliceData(mem)))
	if k.adopted { // nobody has noted what began meanwhile; the rest is compared with the lists
		atomic.StoreUint32(&k.bound.listed, 0)
	}
	return nil
}
