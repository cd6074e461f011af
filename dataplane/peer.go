package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

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
	if t := &r.f.Layers.Tuple; r.kind == conntrack.KindMasquerade && t.Proto == header.ProtoSCTP && s.pool.Published(t.Proto, t.SrcPort) {
		return DropTupleConflict
	}
	return NotDropped
}
