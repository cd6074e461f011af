package flowmap

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/header"
)

// MaxPeers is the room for peers where nothing else is asked for. The kernel takes
// memory for those that there are.
const MaxPeers = 262144

// The programs remember so many datagrams in pieces, and so many peers of protocols without
// ports whose packets were the host's. The oldest go.
const (
	MaxFragments = 8192
	MaxStrangers = 4096
)

// Peer is the other end of one flow: it names exactly the packets that come from it to
// one of the host's addresses.
type Peer struct {
	Addr header.Addr // remote
	Slot uint8       // of the host's address
	// Proto is the IP protocol, Port the host's side and PeerPort the other's. Of an
	// ICMP query Port is the identifier; protocols without ports have none.
	Proto          uint8
	Port, PeerPort uint16
}

// What the programs know of a peer: the switch claims it, and they have asked whether a socket of
// the host has a connection of its tuple.
const (
	PeerClaimed uint8 = iota + 1
	PeerAsked
)

// PeerKey is a Peer as the programs make it from a packet: ports in network order.
type PeerKey struct {
	Addr           header.Addr
	Slot, Proto    uint8
	Port, PeerPort [2]byte
	_              [2]byte
}

// Key is the key of p.
func (p Peer) Key() PeerKey {
	k := PeerKey{Addr: p.Addr, Slot: p.Slot, Proto: p.Proto}
	binary.BigEndian.PutUint16(k.Port[:], p.Port)
	binary.BigEndian.PutUint16(k.PeerPort[:], p.PeerPort)
	return k
}

// Peer is the peer of a key.
func (k PeerKey) Peer() Peer {
	return Peer{
		Addr: k.Addr, Slot: k.Slot, Proto: k.Proto,
		Port: binary.BigEndian.Uint16(k.Port[:]), PeerPort: binary.BigEndian.Uint16(k.PeerPort[:]),
	}
}
