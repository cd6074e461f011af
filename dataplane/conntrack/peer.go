package conntrack

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// errPeerTaken says that the host itself uses a peer.
var errPeerTaken = errors.New("the host uses it")

// claims reports whether a flow's packets are claimed from its peer: it left by an uplink
// with an address of the host, or a stranger began it and was believed (claimStranger). What
// else comes to a published port or an open mapping is claimed by that.
func (c *Conn) claims() bool {
	return c.Kind == KindMasquerade && !c.Turned || c.state.Load()&peered != 0
}

func (c *Conn) peer() flowmap.Peer {
	out := &c.Reply
	if c.Kind == KindInbound {
		out = &c.Orig
	}
	return flowmap.Peer{Addr: out.Src, Slot: c.Slot, Proto: out.Proto, Port: out.DstPort, PeerPort: out.SrcPort}
}

// claimStranger claims the packets of a stranger who has come in by an open mapping, has been
// answered and has acknowledged that: from then on the flow is the container's, also when a
// program of the host binds the port. A flood that is forged or refused costs no claim. Of UDP
// the port is the host's at once, and there is nothing to claim. A shard of the flow and
// Table.lock are locked.
func (c *Conn) claimStranger(t *Table) {
	if c.Kind != KindInbound || c.Turned || c.Orig.Proto != header.ProtoTCP || c.nat == natNone || c.state.Load()&peered != 0 {
		return
	}
	if t.peers.claim(c.peer(), c.Tenant) == nil { // without room the mapping alone lets it in
		c.state.Or(peered)
	}
}

const (
	// strangeTime is how long a packet that nobody claimed keeps its peer for the host, and
	// how long a container asks in vain for one that goes on sending to a host that has
	// nothing to receive it.
	strangeTime = time.Minute
	// maxRefused is how many peers a container may wait for at a time.
	maxRefused = 64
	// refusalAge is how long a refusal counts that nobody asked about again.
	refusalAge = 10 * time.Minute
	// fullAge is how long one counts at most, asked about or not, when there is no more room:
	// whoever waits has asked again after strangeTime.
	fullAge = 2 * strangeTime
)

// peers gives away the peers of flows that claim their answers. Of SCTP and of protocols
// without ports one container at most or the host can have a peer: the host keeps one that
// it uses (HostPeers), or whose packets came lately when nobody had claimed them. Workers
// ask while a flow begins or ends, with its shards locked: once for each, not for each frame.
type peers struct {
	maps bpfmap.Peers // nil: nobody reads them
	now  func() int64 // ns
	used atomic.Pointer[HostPeers]

	mu      sync.Mutex                      // guards what follows, of protocols without ports and of SCTP
	claimed map[uint8]map[flowmap.Peer]bool // by protocol
	refused map[Tenant]refusals             // for strange packets, by who asks
}

// refusals are of a container that asks for peers whose packets are nobody's. Those of others
// neither take its room nor make its time pass.
type refusals map[flowmap.Peer]refusal

type refusal struct{ since, last int64 } // ns

// HostPeer is a remote end whose packets of one protocol the host itself takes.
type HostPeer struct {
	Proto  uint8
	Remote netip.Addr // invalid: everybody
	Port   uint16     // of the host, of SCTP; otherwise 0
}

// HostPeers are all of them, by protocol. They do not change.
type HostPeers map[uint8]map[HostPeer]bool

// NewHostPeers makes them of a list. A raw socket of another protocol gets copies of the
// packets that it sees, and needs no peer: masquerade keeps the flows apart by their ports.
func NewHostPeers(list []HostPeer) HostPeers {
	u := make(HostPeers)
	for _, h := range list {
		if !portless(h.Proto) {
			continue
		}
		if u[h.Proto] == nil {
			u[h.Proto] = make(map[HostPeer]bool)
		}
		u[h.Proto][h] = true
	}
	return u
}

// takes reports whether the host gets the packets of a peer.
func (u HostPeers) takes(p flowmap.Peer) bool {
	of := u[p.Proto]
	if of == nil {
		return false
	}
	for _, port := range []uint16{0, p.Port} { // of SCTP a raw socket takes every port
		if of[HostPeer{Proto: p.Proto, Port: port}] || of[HostPeer{Proto: p.Proto, Remote: p.Addr.NetIP(), Port: port}] {
			return true
		}
	}
	return false
}

// portless reports whether masquerade cannot give flows of a protocol another port.
func portless(proto uint8) bool {
	return !slices.Contains([]uint8{header.ProtoTCP, header.ProtoUDP, header.ProtoICMP, header.ProtoICMPv6}, proto)
}

func (s *peers) hostPeers() HostPeers {
	if u := s.used.Load(); u != nil {
		return *u
	}
	return nil
}

// claim makes the packets of a peer the switch's. The error is errPeerTaken when the host
// keeps it, another when there is no room.
func (s *peers) claim(p flowmap.Peer, by Tenant) error {
	if !portless(p.Proto) {
		if s.maps == nil {
			return nil
		}
		return s.maps.Claim(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hostPeers().takes(p) {
		delete(s.refused[by], p)
		return errPeerTaken
	}
	if s.maps == nil {
		return nil
	}
	if ago, ok := s.maps.Strange(p); ok && ago < strangeTime && s.refuseLocked(p, by, s.now()) {
		return errPeerTaken
	}
	delete(s.refused[by], p)
	if err := s.maps.Claim(p); err != nil {
		return err
	}
	if s.claimed == nil {
		s.claimed = make(map[uint8]map[flowmap.Peer]bool)
	}
	if s.claimed[p.Proto] == nil {
		s.claimed[p.Proto] = make(map[flowmap.Peer]bool)
	}
	s.claimed[p.Proto][p] = true
	return nil
}

// drop gives the packets of a peer back to the host.
func (s *peers) drop(p flowmap.Peer) {
	if s.maps == nil {
		return
	}
	if portless(p.Proto) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.claimed[p.Proto], p)
		defer s.maps.Settle() // the host may wait for it
	}
	s.maps.Drop(p)
}

// settle ends what is still claimed of flows that have ended.
func (s *peers) settle() {
	if s.maps != nil {
		s.maps.Settle()
	}
}

// refuseLocked reports whether a container still has to wait for a peer that sends to the
// host and that the host has no use for. While it waits for very many it begins with no other.
func (s *peers) refuseLocked(p flowmap.Peer, by Tenant, now int64) bool {
	waits := s.refused[by]
	r, ok := waits[p]
	switch {
	case ok && now-r.since >= int64(strangeTime):
		return false
	case !ok && len(waits) >= maxRefused:
		return true
	case s.refused == nil:
		s.refused = make(map[Tenant]refusals)
	}
	if waits == nil {
		waits = make(refusals)
		s.refused[by] = waits
	}
	if !ok {
		r.since = now
	}
	r.last = now
	waits[p] = r
	return true
}

// forgetLocked ends refusals that are of no use any more: nobody asked again, or the host
// itself uses the peer by now, from whose end the time counts. While a container has no room
// to begin with another, none of its own counts for longer than it must.
func (s *peers) forgetLocked(used HostPeers, now int64) {
	for by, waits := range s.refused {
		full := len(waits) >= maxRefused
		for p, r := range waits {
			if now-r.last >= int64(refusalAge) || full && now-r.since >= int64(fullAge) || used.takes(p) {
				delete(waits, p)
			}
		}
		if len(waits) == 0 {
			delete(s.refused, by)
		}
	}
}

// SetHostPeers says which peers the host itself uses, from now on, and returns those that a
// flow has by now (Selector.HostUses).
func (t *Table) SetHostPeers(used HostPeers) (lost []flowmap.Peer) {
	s := &t.peers
	s.used.Store(&used)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(used, s.now())
	for proto := range used {
		for p := range s.claimed[proto] {
			if used.takes(p) {
				lost = append(lost, p)
			}
		}
	}
	return lost
}
