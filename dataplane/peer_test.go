package dataplane_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// noPeers takes peers only while it has room, and tells of drops without a claim.
type noPeers struct {
	PeerSet
	full bool
}

func (p *noPeers) Claim(peer flowmap.Peer) error {
	if p.full && flowmap.ClaimProto(peer.Proto) != flowmap.ClaimProto(header.ProtoUDP) {
		return errors.New("argument list too long") // E2BIG: what a full BPF hash says
	}
	return p.PeerSet.Claim(peer)
}

// A peer that cannot be claimed costs the flow that wants it and nothing else.
func TestPeerClaimFails(t *testing.T) {
	peers := &noPeers{full: true}
	l := NewSized(t, 4096, func(c *dataplane.Config) { c.Peers = flowtest.DescribePeers(peers) })
	esp := Bytes(From("c1", World, Packet{Src: Stations["c1"], Proto: 50, Payload: []byte("esp")}))
	sctp := sctpFrom("c1", 5000, World+":3868", "init")
	for i, f := range [][]byte{esp, sctp, esp, sctp} {
		l.Send("c1", f)
		if got := l.Got("c1"); len(got) > 1 { // the sender is told, within a rate
			t.Errorf("%d frames came back, want an ICMP error at most", len(got))
		}
		l.ExpectDrop("c1", dataplane.DropTableFull, uint64(i+1))
	}
	if n := len(l.Switch.Conns()); n != 0 {
		t.Errorf("%d flows, want none", n)
	}
	// One whose tuple is taken is another thing, also when there is no room.
	peers.full = false
	l.Send("c1", esp)
	l.Expect("up")
	peers.full = true
	l.Send("c2", Bytes(From("c2", World, Packet{Src: Stations["c2"], Proto: 50, Payload: []byte("esp")})))
	l.ExpectDrop("c2", dataplane.DropTupleConflict, 1)
	l.Send("c1", UDP("c1", 1000, World+":53", "others go on"))
	l.Expect("up")
	l.Advance(time.Hour)
	if n := len(l.Switch.Conns()); n != 0 || peers.Len() != 0 {
		t.Errorf("%d flows, %d peers, want none", n, peers.Len())
	}
	peers.full = false
	l.Send("c1", sctp)
	l.Expect("up")
}

// TestHostTakesItsPeers: when the host itself begins to use a protocol, or a port of SCTP, the
// flows that have such a peer end and no new one begins; others go on, also of protocols whose
// answers it sees in a raw socket, as masquerade gives each flow a port. Explain says so.
func TestHostTakesItsPeers(t *testing.T) {
	l := New(t)
	bare := func(from string, proto uint8) []byte {
		return Bytes(From(from, World, Packet{Src: Stations[from], Proto: proto, Payload: []byte("x")}))
	}
	const gre, esp = 47, 50
	frames := map[string][]byte{"c1": bare("c1", esp), "c2": bare("c2", gre), "c3": sctpFrom("c3", 5000, World+":3868", "init")}
	for from, f := range frames {
		l.Send(from, f)
		l.Expect("up")
	}
	echo := Bytes(From("c2", World, Packet{Src: Stations["c2"], Proto: header.ProtoICMP, Type: 8, ID: 1}))
	for _, f := range [][]byte{TCP("c2", 2000, World+":80", SYN, ""), UDP("c2", 2001, World+":53", "ask"), echo} {
		l.Send("c2", f)
		l.Expect("up")
	}
	before := len(l.Switch.Conns())
	lost, flows := l.Switch.SetHostPeers([]conntrack.HostPeer{
		{Proto: header.ProtoTCP}, {Proto: header.ProtoUDP, Remote: netip.MustParseAddr(World)}, {Proto: header.ProtoICMP},
		{Proto: esp, Remote: netip.MustParseAddr(World)}, {Proto: header.ProtoSCTP, Port: 5000}, {Proto: gre, Remote: netip.MustParseAddr("203.0.113.77")},
	})
	if len(lost) != 2 || flows != 2 || l.Peers.Len() != 4 {
		t.Fatalf("lost %v, %d flows ended, %d peers are claimed; want 2, 2 and 4", lost, flows, l.Peers.Len())
	}
	if n := len(l.Switch.Conns()); n != before-2 {
		t.Errorf("%d flows of %d are left, want all but ESP and SCTP", n, before)
	}
	for _, from := range []string{"c1", "c3"} {
		l.Send(from, frames[from])
		l.ExpectDrop(from, dataplane.DropTupleConflict, 1)
		if x, err := l.Switch.Explain(l.Port(from), frames[from]); err != nil || x.Reason != dataplane.DropTupleConflict {
			t.Errorf("%s: explained as %v, %v", from, x.Reason, err)
		}
	}
	l.Send("c2", frames["c2"])
	l.Expect("up")
	if lost, flows := l.Switch.SetHostPeers(nil); len(lost) != 0 || flows != 0 {
		t.Errorf("lost %v, %d flows ended by what the host gave back", lost, flows)
	}
	l.Send("c1", frames["c1"])
	l.Expect("up")
}
