package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// maxPeers bounds the flows of protocols without ports, and of SCTP. The kernel
// takes memory for those that there are.
const maxPeers = 65536

// peerKey is a dataplane.Peer as the programs make it from a packet: 16 bytes of
// address, slot, protocol, the host's port and the other in network order, and
// two zeros.
type peerKey [24]byte

const (
	peerSlot  = 16
	peerProto = 17
	peerPort  = 18
	peerOther = 20
)

func newPeerKey(p dataplane.Peer) (k peerKey) {
	copy(k[:], p.Addr[:])
	k[peerSlot], k[peerProto] = p.Slot, p.Proto
	binary.BigEndian.PutUint16(k[peerPort:], p.Port)
	binary.BigEndian.PutUint16(k[peerOther:], p.PeerPort)
	return k
}

// ClaimPeer makes the packets of a peer ours.
func (k *Kernel) ClaimPeer(p dataplane.Peer) error {
	if err := k.planes.peers.Put(newPeerKey(p), uint8(1)); err != nil {
		return fmt.Errorf("claim peer %s protocol %d: %w", p.Addr, p.Proto, err)
	}
	return nil
}

// DropPeer gives the packets of a peer back to the host; one that is not claimed
// is no error.
func (k *Kernel) DropPeer(p dataplane.Peer) {
	if err := k.planes.peers.Delete(newPeerKey(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		panic(fmt.Sprintf("drop peer: %v", err)) // never: the key has its size
	}
}

func peerSpec() ebpf.MapSpec {
	return ebpf.MapSpec{
		Name: "vsw_peers", Type: ebpf.Hash, KeySize: uint32(len(peerKey{})), ValueSize: 1,
		MaxEntries: maxPeers, Flags: unix.BPF_F_NO_PREALLOC,
	}
}

// peer jumps to ours when the packet is a claimed peer's. The remote address
// stands at offset remote of the header at, the protocol is in R8. Of SCTP the
// host's port is at offset port of the transport header and the other at offset
// other; when no such peer is claimed R7 is that port and R8 its index in a
// plane, and it jumps to claimed. Anything else jumps to missing.
func (c *code) peer(p *planes, f family, at, remote, port, other int16, ours, missing string) {
	sctp := c.fresh("sctp")
	if f.version == 4 {
		c.emit(
			asm.StoreImm(asm.R10, stackPeer, 0, asm.Word),
			asm.StoreImm(asm.R10, stackPeer+4, 0, asm.Word),
			asm.StoreImm(asm.R10, stackPeer+8, 0, asm.Half),
			asm.StoreImm(asm.R10, stackPeer+10, 0xffff, asm.Half),
			asm.LoadMem(asm.R0, asm.R10, at+remote, asm.Word),
			asm.StoreMem(asm.R10, stackPeer+12, asm.R0, asm.Word),
		)
	} else {
		for i := int16(0); i < 16; i += 4 {
			c.emit(
				asm.LoadMem(asm.R0, asm.R10, at+remote+i, asm.Word),
				asm.StoreMem(asm.R10, stackPeer+i, asm.R0, asm.Word),
			)
		}
	}
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, stackSlot, asm.Word),
		asm.StoreMem(asm.R10, stackPeer+peerSlot, asm.R0, asm.Byte),
		asm.StoreMem(asm.R10, stackPeer+peerProto, asm.R8, asm.Byte),
		asm.StoreImm(asm.R10, stackPeer+peerPort, 0, asm.Half),
		asm.StoreImm(asm.R10, stackPeer+peerOther, 0, asm.Word),
		asm.JEq.Imm(asm.R8, int32(header.ProtoSCTP), sctp),
	)
	c.lookup(p.peers.FD(), stackPeer, missing)
	c.emit(asm.Ja.Label(ours))

	c.at(sctp)
	c.load(stackL4, 4, missing)
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, stackL4+port, asm.Half),
		asm.StoreMem(asm.R10, stackPeer+peerPort, asm.R0, asm.Half),
		asm.LoadMem(asm.R0, asm.R10, stackL4+other, asm.Half),
		asm.StoreMem(asm.R10, stackPeer+peerOther, asm.R0, asm.Half),
	)
	c.field(asm.R7, stackL4+port, asm.Half)
	c.emit(asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoSCTP))))
	c.lookup(p.peers.FD(), stackPeer, "claimed")
	c.emit(asm.Ja.Label(ours))
}
