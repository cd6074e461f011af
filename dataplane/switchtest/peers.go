package switchtest

import (
	"errors"

	"github.com/vswitch/vswitch/dataplane"
)

// PeerSet are the peers that a switch has claimed. It tells of claims that are
// made twice, and of those that were not made and are dropped.
type PeerSet map[dataplane.Peer]bool

// MaxPeers is the room in a PeerSet.
const MaxPeers = 64

// ClaimPeer is dataplane.PeerClaims.
func (s PeerSet) ClaimPeer(p dataplane.Peer) error {
	if s[p] {
		panic("switchtest: a peer is claimed twice")
	}
	if len(s) == MaxPeers {
		return errors.New("no room")
	}
	s[p] = true
	return nil
}

// DropPeer is dataplane.PeerClaims.
func (s PeerSet) DropPeer(p dataplane.Peer) {
	if !s[p] {
		panic("switchtest: a peer is dropped that was not claimed")
	}
	delete(s, p)
}
