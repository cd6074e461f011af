package flowtest

import (
	"slices"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Whose says who may have a packet that came in by an uplink.
type Whose int

const (
	Unknown  Whose = iota // nobody has said
	Theirs                // the host alone
	Ours                  // the switch alone
	Fragment              // both: a later fragment bears no port
	Nobodys               // neither
	Carried               // the kernel carries it
	Echo                  // both: a program of the host may have asked with the same identifier, or it is for all

	Station Whose = 11 // the kernel carries it, by the rows of two stations
)

// ip is an IP header and what follows it behind extension headers.
type ip struct {
	v4       bool
	src, dst header.Addr
	proto    uint8
	later    bool
	first    bool // later fragments follow
	id       uint32
	rest     []byte
}

// datagram is what its fragments have in common.
type datagram struct {
	src, dst header.Addr
	id       uint32
	proto    uint8 // of IPv4 only
}

// extensions is how many extension headers a packet of ours may have.
const extensions = 4

// readIP takes no notice of the lengths in the header.
func readIP(b []byte, v4 bool) (p ip, ok bool) {
	p.v4 = v4
	if v4 {
		if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 {
			return p, false
		}
		p.src, p.dst = mapped(b[12:]), mapped(b[16:])
		p.proto, p.later = b[9], be16(b[6:])&0x1fff != 0
		p.first, p.id = !p.later && be16(b[6:])&0x2000 != 0, uint32(be16(b[4:]))
		p.rest = behind(b, int(b[0]&15)*4)
		return p, true
	}
	if len(b) < 40 || b[0]>>4 != 6 {
		return p, false
	}
	p.src, p.dst = header.Addr(b[8:24]), header.Addr(b[24:40])
	p.proto, p.rest = b[6], b[40:]
	for range extensions {
		if !slices.Contains([]uint8{0, 43, 44, 60}, p.proto) {
			break
		}
		if len(p.rest) < 8 {
			return p, false
		}
		h := p.rest
		if p.proto == 44 {
			p.later = be16(h[2:])&0xfff8 != 0
			p.first, p.id = !p.later && be16(h[2:])&1 != 0, be32(h[4:])
			p.rest = h[8:]
		} else {
			p.rest = behind(h, 8+int(h[1])*8)
		}
		p.proto = h[0]
		if p.later {
			break
		}
	}
	return p, true
}

func behind(b []byte, n int) []byte { return b[min(n, len(b)):] }

// Classify says whose a frame is by its claims. It bears no tag.
func (k *Kernel) Classify(f *Frame) Whose {
	if !f.ToHost && !f.ToGroup || len(f.Data) < header.EthernetLen {
		return Theirs
	}
	if header.MAC(f.Data[:6]) == header.Broadcast && k.everyones(f) {
		return Echo
	}
	whose := k.classify(f)
	switch {
	case f.ToHost:
		return whose
	case whose == Ours || whose == Echo:
		return Nobodys
	}
	return Theirs
}

// everyones reports whether a broadcast is for a port that is published at every address.
func (k *Kernel) everyones(f *Frame) bool {
	if etherType(f.Data) != header.TypeIPv4 {
		return false
	}
	p, ok := readIP(f.Data[header.EthernetLen:], true)
	if !ok || p.proto != header.ProtoUDP || p.first || p.later || len(p.rest) < 4 || p.dst[12] == 127 {
		return false
	}
	_, uplink := k.Addrs[p.dst]
	return !uplink && k.Published.Test(flowmap.WildcardSlot, p.proto, uint16(be16(p.rest[2:])))
}

func (k *Kernel) classify(f *Frame) Whose {
	v4 := etherType(f.Data) == header.TypeIPv4
	if !v4 && etherType(f.Data) != header.TypeIPv6 {
		return Theirs
	}
	p, ok := readIP(f.Data[header.EthernetLen:], v4)
	if !ok || v4 && p.dst[12] == 127 || !v4 && [8]byte(p.dst[:8]) == [8]byte{} {
		return Theirs
	}
	slot, ok := k.Addrs[p.dst]
	if !ok {
		_, uplink := k.Addrs[p.src]
		if is := k.subnet(p.dst); is == flowmap.SubnetRouted || is != 0 && (uplink || k.subnet(p.src) != 0) {
			return Ours
		}
		return Theirs
	}
	d := datagram{p.src, p.dst, p.id, 0}
	if v4 {
		d.proto = p.proto
	}
	if p.later {
		if whose, ok := k.fragments[d]; ok {
			return whose
		}
		return Fragment
	}
	whose := k.whole(p, slot)
	if p.first {
		if k.fragments == nil {
			k.fragments = make(map[datagram]Whose)
		}
		k.fragments[d] = whose
	}
	return whose
}

// subnet is what an address lies in, 0 for no network's.
func (k *Kernel) subnet(a header.Addr) flowmap.Subnet {
	for p, is := range k.Subnets {
		if p.Contains(a.NetIP()) {
			return is
		}
	}
	return 0
}

// whole judges a packet that has its transport header.
func (k *Kernel) whole(p ip, slot int) Whose {
	if k.claimed(p, slot, true) {
		return p.ours()
	}
	if b := p.rest; p.isICMP() && len(b) >= 8 && quotes(p.v4, b[0]) {
		q, ok := readIP(b[8:], p.v4)
		if ok && !q.later && q.src == p.dst && k.claimed(q, slot, false) {
			return q.ours()
		}
	}
	return Theirs
}

// ours is whose a packet is that is claimed.
func (p *ip) ours() Whose {
	if p.isICMP() {
		return Echo
	}
	return Ours
}

func (p *ip) isICMP() bool {
	return p.v4 && p.proto == header.ProtoICMP || !p.v4 && p.proto == header.ProtoICMPv6
}

func quotes(v4 bool, typ uint8) bool {
	if v4 {
		return typ == 3 || typ == 11 || typ == 12
	}
	return typ >= 1 && typ <= 4
}

// claimed looks up a packet that came to the host, or one that it sent.
func (k *Kernel) claimed(p ip, slot int, came bool) bool {
	b, remote, at, other := p.rest, p.dst, 0, 2
	query := map[bool]uint8{true: 8, false: 128}[p.v4]
	if came {
		remote, at, other = p.src, 2, 0
		query = map[bool]uint8{true: 0, false: 129}[p.v4]
	}
	peer := flowmap.Peer{Addr: remote, Slot: uint8(slot), Proto: p.proto}
	ported := p.proto == header.ProtoTCP || p.proto == header.ProtoUDP || p.proto == header.ProtoSCTP
	switch {
	case ported && len(b) < 4:
		return false
	case ported:
		peer.Port, peer.PeerPort = uint16(be16(b[at:])), uint16(be16(b[other:]))
	case p.isICMP() && (len(b) < 8 || b[0] != query):
		return false
	case p.isICMP():
		peer.Port = uint16(be16(b[4:]))
	}
	if ported && k.port(p.v4, slot, p.proto, b[at:]) {
		return true
	}
	return k.Peers[peer.Key()] && !(p.proto == header.ProtoUDP && k.bound(p.v4, peer.Port))
}

func (k *Kernel) bound(v4 bool, port uint16) bool {
	if v4 {
		return k.Bound[0][port]
	}
	return k.Bound[1][port]
}

func (k *Kernel) port(v4 bool, slot int, proto uint8, b []byte) bool {
	n := uint16(be16(b))
	opened := k.Opened.Test(slot, proto, n) && !(proto == header.ProtoUDP && k.bound(v4, n))
	return opened || k.published(v4, slot, proto, n)
}

func (k *Kernel) published(v4 bool, slot int, proto uint8, n uint16) bool {
	every := flowmap.WildcardSlot
	if !v4 {
		every = flowmap.WildcardSlot6
	}
	return k.Published.Test(slot, proto, n) || k.Published.Test(every, proto, n)
}
