package kernel

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// The network of the tests has a gateway, a container that asks, and others.
const testNetwork = 7

var (
	askerMAC = header.MAC{2, 0, 0, 0, 7, 2}
	otherMAC = header.MAC{2, 0, 0, 0, 7, 3}
	gwMAC    = header.MAC{2, 0, 0, 0, 7, 1}

	stations = func() map[flowmap.StationKey]flowmap.Station {
		all := make(map[flowmap.StationKey]flowmap.Station)
		for addr, s := range map[string]flowmap.Station{
			"10.7.0.1":  {Port: 99, MAC: gwMAC, Flags: flowmap.StationGateway, Class: 3},
			"10.7.0.2":  {Port: testIfindex, MAC: askerMAC},
			"10.7.0.3":  {Port: 5, MAC: otherMAC},
			"10.7.0.4":  {Port: 6, MAC: otherMAC, Class: 3},
			"10.7.0.5":  {Port: 8, MAC: otherMAC, Class: 63},
			"fd00:7::1": {Port: 99, MAC: gwMAC, Flags: flowmap.StationGateway, Class: 3},
			"fd00:7::2": {Port: testIfindex, MAC: askerMAC},
			"fd00:7::3": {Port: 5, MAC: otherMAC},
			"fd00:7::4": {Port: 6, MAC: otherMAC, Class: 3},
			"fe80::7:2": {Port: testIfindex, MAC: askerMAC},
		} {
			all[flowmap.StationKey{Network: testNetwork, Addr: header.AddrFrom(netip.MustParseAddr(addr))}] = s
		}
		return all
	}()
)

// question makes the frame one for the MAC address of a station, and its sender one that may
// ask, for the most part.
func (s source) question(g *given) {
	a := flowmap.Asker{
		Network: testNetwork, MAC: askerMAC, Flags: flowmap.AskerIP4 | flowmap.AskerIP6, Hidden: pick(s, 0, uint64(1<<3), 1<<63, s.Uint64()),
	}
	if g.program == programsProgVswHost {
		g.nobody = s.often(6)
		a.Flags |= flowmap.AskerHost
	}
	switch s.IntN(16) {
	case 0:
		a.Network++
	case 1:
		a.Flags = pick(s, uint16(0), flowmap.AskerIP4, flowmap.AskerIP6)
	case 2:
		a.MAC = otherMAC
	}
	if g.asker = &a; s.IntN(16) == 0 {
		g.asker = nil
	}
	n := pick(s, 1, 1, 2, 3, 3, 4, 5, 9)
	if s.often(2) {
		g.frame = askARP(netip.AddrFrom4([4]byte{10, 7, 0, pick(s, byte(2), 2, 2, 2, 3)}), netip.AddrFrom4([4]byte{10, 7, 0, byte(n)}))
	} else {
		g.frame = askND(netip.MustParseAddr(pick(s, "fd00:7::2", "fd00:7::2", "fe80::7:2", "fd00:7::3", "::")), netip.AddrFrom16([16]byte{0: 0xfd, 3: 7, 15: byte(n)}), s.often(3))
	}
	if s.IntN(3) == 0 { // a probe
		mac := pick(s, gwMAC, otherMAC, otherMAC, askerMAC)
		copy(g.frame, mac[:])
	}
	if s.IntN(6) == 0 {
		g.frame = append(g.frame, make([]byte, 20)...)
	}
}

func askARP(from, target netip.Addr) []byte {
	return slices.Concat([]byte("\xff\xff\xff\xff\xff\xff"), askerMAC[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, askerMAC[:], from.AsSlice(), make([]byte, 6), target.AsSlice())
}

// askND leaves the checksum out, at which nobody looks.
func askND(from, target netip.Addr, option bool) []byte {
	body := slices.Concat([]byte{header.ICMP6NeighborSolicit, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice())
	if option {
		body = append(append(body, 1, 1), askerMAC[:]...)
	}
	b := slices.Concat([]byte("\x33\x33\xff\x00\x00\x01"), askerMAC[:], []byte{0x86, 0xdd}, ip6(from.String(), target.String(), segment{header.ProtoICMPv6, body}))
	b[14+7] = 255
	return b
}
