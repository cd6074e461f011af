package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// Peer names the packets that come from one remote address to one of the
// host's, in a protocol of which masquerade changes no port: it has none that is
// known, or is SCTP.
type Peer struct {
	Addr header.Addr // remote
	Slot uint8       // of the host's address
	// Proto is the IP protocol, Port the host's side and PeerPort the other's of
	// SCTP, 0 for the rest.
	Proto          uint8
	Port, PeerPort uint16
}

// PeerClaims are told which peers' packets are the switch's, as the plane of
// claims says it of ports. They are called while a flow begins or ends, with its
// shards locked: once for each, not for each frame.
type PeerClaims interface {
	// ClaimPeer returns an error when there is no room; the flow does not begin.
	ClaimPeer(Peer) error
	DropPeer(Peer)
}

// translatePeer lets a container out with nothing but its address changed. Then
// the remote address must tell whose the answers are: of a protocol without
// ports they are one container's, of SCTP one container's for each pair of
// ports. SCTP keeps its ports because it may go on by another path, with other
// addresses and the same ports (RFC 9260 section 6.4); its checksum covers no
// addresses.
//
// Another container's flow to the same peer is refused when it is entered in
// conntrack, and so is one from a published port, whose new clients would
// otherwise be taken for it (CVE-2021-3773).
func translatePeer(r *routed, s *Snapshot) DropReason {
	if t := &r.f.Layers.Tuple; r.kind == ConnMasquerade && t.Proto == header.ProtoSCTP && s.publish.holds(t.Proto, t.SrcPort) {
		return DropTupleConflict
	}
	return NotDropped
}

// isPeer reports whether a flow came to be by translatePeer, out through an
// uplink.
func (c *conn) isPeer() bool {
	return c.kind == ConnMasquerade && !c.hasNAT
}

func (c *conn) peer() Peer {
	return Peer{Addr: c.reply.Src, Slot: c.slot, Proto: c.reply.Proto, Port: c.reply.DstPort, PeerPort: c.reply.SrcPort}
}
