package dataplane

import (
	"math/bits"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// NATPorts says how many ports of one host address masquerade has left for one
// protocol; of ICMP they are identifiers of queries.
type NATPorts struct {
	Used int // of live mappings, and of such that rest before they are another's
	Free int // a new mapping may take
}

// NATPortStats are the NATPorts of a host address.
type NATPortStats struct{ TCP, UDP, ICMP NATPorts }

// NATPorts counts the masquerade ports of a claim slot. It takes no lock that a
// worker waits for; the numbers are those of about one moment.
func (s *Switch) NATPorts(slot int) NATPortStats {
	sn := s.snapshot.Load()
	count := func(proto uint8) NATPorts { return s.masq.count(slot, proto, sn, s.busy.Load()) }
	return NATPortStats{TCP: count(header.ProtoTCP), UDP: count(header.ProtoUDP), ICMP: count(header.ProtoICMP)}
}

func (m *masquerade) count(slot int, proto uint8, s *Snapshot, busy *BusyPorts) (n NATPorts) {
	var may, published [1024]uint64
	for class := range s.masqPort {
		ranges := s.masqPort[class]
		if ClaimProto(proto) == 2 {
			ranges = icmpIDs
		}
		for _, r := range ranges {
			setPorts(&may, r.First, r.Last)
		}
	}
	for k, list := range s.publish {
		for _, iv := range list {
			if k.proto == proto {
				setPorts(&published, iv.first, iv.last)
			}
		}
	}
	for i := range may {
		claimed := atomic.LoadUint64(&m.plane[ClaimWord(slot, proto, 0)+i])
		n.Used += bits.OnesCount64(claimed)
		n.Free += bits.OnesCount64(may[i] &^ (claimed | busy.word(proto, i) | published[i]))
	}
	return n
}

// setPorts sets the bits of the ports from first to last.
func setPorts(set *[1024]uint64, first, last uint16) {
	for i := int(first >> 6); i <= int(last>>6); i++ {
		word := ^uint64(0)
		if i == int(first>>6) {
			word &= ^uint64(0) << (first & 63)
		}
		if i == int(last>>6) {
			word &= ^uint64(0) >> (63 - last&63)
		}
		set[i] |= word
	}
}
