package switchtest

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// PeerSet are the peers that a switch has claimed. It tells of claims that are
// made twice, and of those that were not made and are dropped. The zero value is
// empty; its methods are safe for concurrent use, as workers call them.
type PeerSet struct {
	mu   sync.Mutex
	set  map[flowmap.Peer]bool
	left map[flowmap.Peer]bool // of them, by a switch before
}

// Leave hands the claims to the next switch, which may claim them again.
func (s *PeerSet) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = maps.Clone(s.set)
}

// MaxPeers is the room in a PeerSet for peers without a port, and of SCTP.
const MaxPeers = 64

// Claim implements bpfmap.Peers.
func (s *PeerSet) Claim(p flowmap.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set[p] && !s.left[p] {
		panic("switchtest: a peer is claimed twice")
	}
	delete(s.left, p)
	if !many(p) && s.bareLocked() == MaxPeers {
		return errors.New("no room")
	}
	if s.set == nil {
		s.set = make(map[flowmap.Peer]bool)
	}
	s.set[p] = true
	return nil
}

// Drop implements bpfmap.Peers.
func (s *PeerSet) Drop(p flowmap.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.set[p] {
		panic("switchtest: a peer is dropped that was not claimed")
	}
	delete(s.set, p)
	delete(s.left, p)
}

// Claimed implements bpfmap.Peers.
func (s *PeerSet) Claimed() ([]flowmap.Peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.set)), nil
}

// Strange implements bpfmap.Peers: nobody is.
func (s *PeerSet) Strange(flowmap.Peer) (time.Duration, bool) { return 0, false }

// Settle implements bpfmap.Peers.
func (s *PeerSet) Settle() {}

// Close implements bpfmap.Peers.
func (s *PeerSet) Close() error { return nil }

// Len counts all peers.
func (s *PeerSet) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.set)
}

// bareLocked counts the peers without a port, and of SCTP.
func (s *PeerSet) bareLocked() (n int) {
	for p := range s.set {
		if !many(p) {
			n++
		}
	}
	return n
}

func many(p flowmap.Peer) bool {
	return slices.Contains([]uint8{header.ProtoTCP, header.ProtoUDP, header.ProtoICMP, header.ProtoICMPv6}, p.Proto)
}
