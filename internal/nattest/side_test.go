package nattest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// stations are the places where frames go in and come out.
var stations = []string{"c1", "c2", "up"}

// uplinkMTU is smaller than that of the network, so that packets have to be cut.
const uplinkMTU = 1400

// world carries frames.
type world interface {
	// exchange puts frames in at a station and returns what came out, by station.
	exchange(from string, frames [][]byte) map[string][][]byte
}

// endpoint is an address and port inside, as in "c1:5000/17".
type endpoint struct {
	station string
	port    uint16
	proto   uint8
}

func (e endpoint) String() string { return fmt.Sprintf("%s:%d/%d", e.station, e.port, e.proto) }

// side is one of the two worlds with what its NAT has chosen.
type side struct {
	t testing.TB
	world
	outside map[towards]netip.AddrPort // mappings; without a remote, an endpoint's first
	names   map[mapped]string
	owners  map[mapped]endpoint // without a remote
	inside  endpoint            // that the frames of this step belong to
}

// towards is an endpoint that speaks with a remote one.
type towards struct {
	endpoint
	remote netip.AddrPort
}

// mapped is an outside address, as a remote sees it.
type mapped struct {
	proto        uint8
	addr, remote netip.AddrPort
}

func newSide(t testing.TB, w world) *side {
	return &side{t: t, world: w, outside: map[towards]netip.AddrPort{}, names: map[mapped]string{}, owners: map[mapped]endpoint{}}
}

// ext is the outside address of an endpoint, as a remote knows it or else as the
// first remote does; before it has one, a port that nobody has.
func (s *side) ext(e endpoint, remote string) netip.AddrPort {
	for _, r := range []netip.AddrPort{parse(remote), {}} {
		if a, ok := s.outside[towards{e, r}]; ok {
			return a
		}
	}
	return netip.MustParseAddrPort(switchtest.HostAddr + ":9")
}

func parse(s string) netip.AddrPort {
	a, _ := netip.ParseAddrPort(s) // "" is nobody
	return a
}

// run sends the frames of a step and says what came out, sorted: fragments put
// together, names in place of what the NAT chose.
func (s *side) run(st step) []string {
	s.inside = st.inside
	var out []string
	for at, frames := range s.exchange(st.from, st.frames(s)) {
		for _, p := range assemble(frames) {
			out = append(out, at+" gets "+s.describe(at, p))
		}
	}
	slices.Sort(out)
	return out
}

// name is the text for one end of a packet; peer is the other.
func (s *side) name(proto uint8, addr header.Addr, port uint16, peer netip.AddrPort) string {
	a := addr.NetIP()
	ap := netip.AddrPortFrom(a, port)
	for station, text := range switchtest.Stations {
		if text == a.String() && station[0] == 'c' {
			return fmt.Sprintf("%s:%d", station, port)
		}
	}
	host := a.String() == switchtest.HostAddr
	if !host && a.String() != switchtest.Stations["host1"] {
		return ap.String()
	}
	text := "host"
	if !host {
		text = "gateway"
	}
	if n, ok := s.names[mapped{proto, ap, peer}]; ok {
		return text + "'s " + n
	}
	if e, ok := s.owners[mapped{proto, ap, netip.AddrPort{}}]; ok {
		return text + "'s " + e.String()
	}
	return fmt.Sprintf("%s:%d", text, port)
}

// learn notes the mapping of the endpoint that this step speaks for, and whether
// the endpoint has another one already, or the port another owner.
func (s *side) learn(t *header.Tuple) {
	a, peer := netip.AddrPortFrom(t.Src.NetIP(), t.SrcPort), netip.AddrPortFrom(t.Dst.NetIP(), t.DstPort)
	if t.Proto == header.ProtoICMP {
		peer = netip.AddrPortFrom(peer.Addr(), 0)
	}
	if text := a.Addr().String(); t.Proto != s.inside.proto || s.inside.station == "" || t.SrcPort == 0 ||
		text != switchtest.HostAddr && text != switchtest.Stations["host1"] {
		return
	}
	m := mapped{t.Proto, a, peer}
	if _, ok := s.names[m]; ok {
		return
	}
	text := s.inside.String()
	first := towards{s.inside, netip.AddrPort{}}
	switch was, ok := s.outside[first]; {
	case !ok:
		s.outside[first] = a
	case was != a:
		text += " by another port"
	}
	everybody := mapped{t.Proto, a, netip.AddrPort{}}
	if o, ok := s.owners[everybody]; !ok {
		s.owners[everybody] = s.inside
	} else if o != s.inside {
		text += " by the port of another"
	}
	s.names[m] = text
	s.outside[towards{s.inside, peer}] = a
}

// describe is a packet in one line.
func (s *side) describe(at string, f []byte) string {
	var l header.Layers
	if !header.Parse(f, &l) {
		return "a malformed packet " + switchtest.Describe(f)
	}
	var b strings.Builder
	t := &l.Tuple
	payload := f[l.L4:l.End]
	if l.L4 == 0 {
		payload = nil
	}
	if l.Flags&header.FlagICMPError == 0 {
		s.learn(t)
	}
	fmt.Fprintf(&b, "%d %s ttl %d", t.Proto, s.ends(t), l.TTL)
	if l.Flags&(header.FlagFragment|header.FlagFirstFragment) != 0 {
		fmt.Fprintf(&b, " a piece of a packet at %d", binary.BigEndian.Uint16(f[l.L3+6:])&0x1fff*8)
		return b.String()
	}
	switch t.Proto {
	case header.ProtoTCP:
		fmt.Fprintf(&b, " flags %#x seq %d ack %d win %d", l.TCPFlags, binary.BigEndian.Uint32(payload[4:]), binary.BigEndian.Uint32(payload[8:]), binary.BigEndian.Uint16(payload[14:]))
		payload = payload[payload[12]>>4*4:]
	case header.ProtoUDP:
		payload = payload[8:]
	case header.ProtoICMP:
		typ, code := payload[0], payload[1]
		fmt.Fprintf(&b, " type %d code %d", typ, code)
		var q header.Layers
		if l.Flags&header.FlagICMPError != 0 {
			if !header.ParseQuoted(f, &l, &q) {
				return b.String() + " quoting rubbish"
			}
			if typ == 3 && code == 4 {
				fmt.Fprintf(&b, " mtu %d", binary.BigEndian.Uint16(payload[6:]))
			}
			fmt.Fprintf(&b, " quoting %d %s", q.Tuple.Proto, s.ends(&q.Tuple))
			return b.String()
		}
		payload = payload[8:]
	}
	if !sumsRight(f, &l) {
		b.WriteString(" WRONG CHECKSUM")
	}
	fmt.Fprintf(&b, " %d bytes %08x", len(payload), crc32.ChecksumIEEE(payload))
	return b.String()
}

func (s *side) ends(t *header.Tuple) string {
	src, dst := netip.AddrPortFrom(t.Src.NetIP(), t.SrcPort), netip.AddrPortFrom(t.Dst.NetIP(), t.DstPort)
	if t.Proto == header.ProtoICMP {
		src, dst = netip.AddrPortFrom(src.Addr(), 0), netip.AddrPortFrom(dst.Addr(), 0)
	}
	return s.name(t.Proto, t.Src, t.SrcPort, dst) + " > " + s.name(t.Proto, t.Dst, t.DstPort, src)
}

// sumsRight checks the header's checksum and that of the transport.
func sumsRight(f []byte, l *header.Layers) bool {
	ip := f[l.L3:l.End]
	fold := func(sum uint32, b []byte) uint16 {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)&1 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
		return uint16(sum)
	}
	if fold(0, ip[:20]) != 0xffff {
		return false
	}
	l4 := f[l.L4:l.End]
	switch l.Tuple.Proto {
	case header.ProtoICMP:
		return fold(0, l4) == 0xffff
	case header.ProtoUDP, header.ProtoTCP:
		return fold(uint32(l.Tuple.Proto)+uint32(len(l4)+int(fold(0, ip[12:20]))), l4) == 0xffff
	}
	return true
}

// assemble puts the fragments of a packet together. What is incomplete stays in
// pieces.
func assemble(frames [][]byte) [][]byte {
	var out [][]byte
	type key struct {
		src, dst header.Addr
		proto    uint8
		id       uint32
	}
	groups := map[key][][]byte{}
	var order []key
	for _, f := range frames {
		var l header.Layers
		if !header.Parse(f, &l) || l.Flags&(header.FlagFragment|header.FlagFirstFragment) == 0 {
			out = append(out, f)
			continue
		}
		k := key{l.Tuple.Src, l.Tuple.Dst, l.Tuple.Proto, l.FragID}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], f[:l.End])
	}
	for _, k := range order {
		if whole := join(groups[k]); whole != nil {
			out = append(out, whole)
		} else {
			out = append(out, groups[k]...)
		}
	}
	return out
}

func join(pieces [][]byte) []byte {
	const at = header.EthernetLen + 20
	offset := func(f []byte) int { return int(binary.BigEndian.Uint16(f[header.EthernetLen+6:])&0x1fff) * 8 }
	slices.SortStableFunc(pieces, func(a, b []byte) int { return offset(a) - offset(b) })
	whole := slices.Clone(pieces[0][:at])
	last := false
	for _, p := range pieces {
		switch off := offset(p); {
		case off < len(whole)-at:
			continue // a copy
		case off > len(whole)-at:
			return nil
		}
		whole = append(whole, p[at:]...)
		last = binary.BigEndian.Uint16(p[header.EthernetLen+6:])&0x2000 == 0
	}
	if !last {
		return nil
	}
	binary.BigEndian.PutUint16(whole[header.EthernetLen+2:], uint16(len(whole)-header.EthernetLen))
	binary.BigEndian.PutUint16(whole[header.EthernetLen+6:], 0)
	switchtest.SumIPv4(whole)
	return whole
}
