package flowmap

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Claims say which ports of the host's addresses belong to the switch, whoever sends
// there. They are two planes of bits, one for published ports (written by control) and
// one for masquerade mappings that are open to strangers (written by workers), laid out
// so that a BPF program can look a packet up in the same memory: array map, key
// ClaimWord, value one 64-bit word, bit port%64. A packet is ours when its bit is set
// in either plane, or its flow is (Peer).
const (
	// ClaimSlots is the number of host addresses that can hold claims. Slot
	// WildcardSlot stands for every IPv4 address of the host, WildcardSlot6 for
	// every IPv6 address.
	ClaimSlots    = 32
	WildcardSlot  = 0
	WildcardSlot6 = ClaimSlots - 1

	ClaimProtos = 4
	// ClaimWords is the length of a plane in 64-bit words.
	ClaimWords = ClaimSlots * ClaimProtos * 1024
)

// ClaimPlane is one plane, ClaimWords long: memory of a BPF map, or plain
// memory in tests. All methods are safe for concurrent use.
type ClaimPlane []uint64

// ClaimProto is the index of a protocol in a plane: TCP 0, UDP 1, 2 for the
// identifiers of ICMP and ICMPv6 queries, and SCTP 3, which has published ports
// only.
func ClaimProto(proto uint8) int {
	switch proto {
	case header.ProtoTCP:
		return 0
	case header.ProtoUDP:
		return 1
	case header.ProtoSCTP:
		return 3
	}
	return 2
}

// ClaimWord is the index of the word that holds the bit of a port.
func ClaimWord(slot int, proto uint8, port uint16) int {
	return (slot*ClaimProtos+ClaimProto(proto))*1024 + int(port>>6)
}

// Set claims a port.
func (p ClaimPlane) Set(slot int, proto uint8, port uint16) {
	atomic.OrUint64(&p[ClaimWord(slot, proto, port)], 1<<(port&63))
}

// Clear gives a port back.
func (p ClaimPlane) Clear(slot int, proto uint8, port uint16) {
	atomic.AndUint64(&p[ClaimWord(slot, proto, port)], ^(uint64(1) << (port & 63)))
}

// Test reports whether a port is claimed.
func (p ClaimPlane) Test(slot int, proto uint8, port uint16) bool {
	return atomic.LoadUint64(&p[ClaimWord(slot, proto, port)])&(1<<(port&63)) != 0
}

// Keep gives all ports back that are not in another plane.
func (p ClaimPlane) Keep(want ClaimPlane) {
	for i := range p {
		if atomic.LoadUint64(&p[i])&^want[i] != 0 {
			atomic.AndUint64(&p[i], want[i])
		}
	}
}
