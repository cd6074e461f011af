package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// publishedAt finds the port that a container's UDP port is published at on a source
// address. One at that address wins over one at every address.
func (s *Snapshot) publishedAt(a *header.Addr, port uint16, source header.Addr) (uint16, bool) {
	for _, at := range [...]header.Addr{source, everyAddr(source)} {
		for _, iv := range s.outside[*a] {
			if past := port - iv.ContainerFirst; iv.Proto == header.ProtoUDP && iv.HostAddr == at && iv.ContainerFirst <= port && past <= iv.HostLast-iv.HostFirst {
				return iv.HostFirst + past, true
			}
		}
	}
	return 0, false
}

// leavesAs reports whether a masqueraded flow has the source port that a new one would
// have: that of its published port, if it has one, and of no other.
func (s *Snapshot) leavesAs(c *conntrack.Conn) bool {
	if c.Orig.Proto != header.ProtoUDP {
		return true
	}
	port, ok := s.publishedAt(&c.Orig.Src, c.Orig.SrcPort, c.Reply.Dst)
	return ok != c.HoldsPort() && (!ok || port == c.Reply.DstPort)
}
