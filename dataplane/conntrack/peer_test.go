package conntrack

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// peerSet are claimed peers in memory.
type peerSet struct {
	mu      sync.Mutex
	claimed map[flowmap.Peer]bool
	strange map[flowmap.Peer]time.Duration
	full    bool
}

func (s *peerSet) Claim(p flowmap.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("argument list too long")
	}
	if s.claimed == nil {
		s.claimed = make(map[flowmap.Peer]bool)
	}
	s.claimed[p] = true
	return nil
}

func (s *peerSet) Drop(p flowmap.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claimed, p)
}

func (s *peerSet) Strange(p flowmap.Peer) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ago, ok := s.strange[p]
	return ago, ok
}

func (s *peerSet) Claimed() ([]flowmap.Peer, error) { return slices.Collect(maps.Keys(s.claimed)), nil }
func (s *peerSet) Settle()                          {}
func (s *peerSet) Close() error                     { return nil }

// newPeers is a table that claims in set, at a clock of the test.
func newPeers(set *peerSet, now *int64) *Table {
	return New(func() int64 { return *now }, Config{Max: 64, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords), Peers: set})
}

const gre, esp, ospf = 47, 50, 89

var far = netip.MustParseAddr("198.51.100.9")

func peerOf(proto uint8) flowmap.Peer {
	return flowmap.Peer{Addr: header.AddrFrom(far), Slot: 1, Proto: proto}
}

// TestHostKeepsItsPeers: a claim goes by what SetHostPeers last said, which names the claim that
// came too early.
func TestHostKeepsItsPeers(t *testing.T) {
	var now int64
	set := &peerSet{}
	ct := newPeers(set, &now)
	p, raw := peerOf(ospf), NewHostPeers([]HostPeer{{Proto: ospf}})
	ct.SetHostPeers(raw)
	if err := ct.peers.claim(p, Began(1)); !errors.Is(err, errPeerTaken) || len(set.claimed) != 0 {
		t.Errorf("what the host used before: %v", err)
	}
	if lost := ct.SetHostPeers(nil); len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
	if err := ct.peers.claim(p, Began(1)); err != nil || !set.claimed[p] {
		t.Errorf("what nobody uses: %v", err)
	}
	if lost := ct.SetHostPeers(raw); !slices.Equal(lost, []flowmap.Peer{p}) {
		t.Errorf("lost %v", lost)
	}
	if ct.peers.drop(p); len(set.claimed) != 0 {
		t.Error("it is claimed still")
	}
	if lost := ct.SetHostPeers(raw); len(lost) != 0 {
		t.Errorf("lost %v after it was dropped", lost)
	}
	// A peer with a port is nobody's but the flow's.
	udp := flowmap.Peer{Addr: header.AddrFrom(far), Slot: 1, Proto: header.ProtoUDP, Port: 1, PeerPort: 2}
	ct.SetHostPeers(NewHostPeers([]HostPeer{{Proto: header.ProtoUDP}}))
	if err := ct.peers.claim(udp, Began(1)); err != nil {
		t.Errorf("a UDP peer: %v", err)
	}
	// What has no room leaves nothing that the host could lose.
	set.full = true
	if err := ct.peers.claim(p, Began(1)); err == nil || errors.Is(err, errPeerTaken) {
		t.Errorf("a full map: %v", err)
	}
	if lost := ct.SetHostPeers(raw); len(lost) != 0 {
		t.Errorf("lost %v, which found no room", lost)
	}
}

// TestPeersTogether: workers claim and drop while control says what the host uses.
func TestPeersTogether(t *testing.T) {
	var now int64
	ct := newPeers(&peerSet{}, &now)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			own := peerOf(ospf)
			own.Slot += uint8(i)
			for range 200 {
				if err := ct.peers.claim(own, Began(1)); err != nil {
					t.Error(err)
				}
				ct.peers.drop(own)
			}
		})
	}
	for range 50 {
		ct.SetHostPeers(NewHostPeers([]HostPeer{{Proto: esp}}))
	}
	wg.Wait()
}

// TestHostPeers: the host takes its protocol and port, from a remote address or from all.
func TestHostPeers(t *testing.T) {
	far6 := netip.MustParseAddr("2001:db8::9")
	u := NewHostPeers([]HostPeer{{Proto: gre, Remote: far}, {Proto: esp, Remote: far6}, {Proto: ospf}, {Proto: header.ProtoSCTP, Port: 7000}})
	for _, tc := range []struct {
		proto uint8
		addr  netip.Addr
		port  uint16
		want  bool
	}{
		{gre, far, 0, true}, {gre, far6, 0, false}, {esp, far6, 0, true}, {esp, far, 0, false}, {ospf, far, 0, true}, {ospf, far6, 0, true}, {4, far, 0, false},
		{header.ProtoSCTP, far, 7000, true}, {header.ProtoSCTP, far, 7001, false},
	} {
		if got := u.takes(flowmap.Peer{Addr: header.AddrFrom(tc.addr), Proto: tc.proto, Port: tc.port, PeerPort: 80}); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	if raw := NewHostPeers([]HostPeer{{Proto: header.ProtoSCTP}}); !raw.takes(flowmap.Peer{Addr: header.AddrFrom(far), Proto: header.ProtoSCTP, Port: 7001, PeerPort: 80}) {
		t.Error("a raw socket of SCTP takes no port")
	}
	if HostPeers(nil).takes(peerOf(ospf)) {
		t.Error("what nobody has said takes a peer")
	}
}

// TestRefusals: a container waits a minute for a peer whose packets are nobody's, counted
// from when the host had a use for it last.
func TestRefusals(t *testing.T) {
	p := peerOf(esp)
	of := func(i int) flowmap.Peer {
		o := p
		o.Port, o.PeerPort = uint16(i), 1
		return o
	}
	at := func(d time.Duration) int64 { return int64(time.Hour + d) }
	s := new(peers)
	none, some := NewHostPeers(nil), NewHostPeers([]HostPeer{{Proto: esp}})
	for _, tc := range []struct {
		at   time.Duration
		used HostPeers
		want bool
	}{
		{0, none, true}, {59 * time.Second, none, true}, {60 * time.Second, none, false}, // it asked for a minute
		{70 * time.Second, some, true}, {100 * time.Second, none, true}, // the host used it meanwhile
		{129 * time.Second, none, true}, {130 * time.Second, none, false},
		{30 * time.Minute, none, true}, // it had not asked for long
		{30*time.Minute + 59*time.Second, none, true}, {31 * time.Minute, none, false},
	} {
		s.forgetLocked(tc.used, at(tc.at))
		if got := s.refuseLocked(p, Began(1), at(tc.at)); got != tc.want {
			t.Errorf("after %v: refused %v, want %v", tc.at, got, tc.want)
		}
	}

	s = new(peers)
	s.refuseLocked(p, Began(1), at(0))
	for i := range 2 * maxRefused {
		if !s.refuseLocked(of(i), Began(1), at(0)) {
			t.Fatalf("peer %d was given at once", i)
		}
	}
	if n := len(s.refused[Began(1)]); n > maxRefused {
		t.Errorf("%d refusals are kept", n)
	}
	if s.refuseLocked(p, Began(1), at(strangeTime)) {
		t.Error("other peers made a container wait longer")
	}
	// Another container has its own time and its own room, whoever asked before.
	if !s.refuseLocked(p, Began(2), at(strangeTime)) {
		t.Error("a container that has not asked before is given a peer that somebody else waited for")
	}
	if s.refuseLocked(p, Began(2), at(2*strangeTime)) {
		t.Error("a container waits for room that another has taken")
	}

	// A table that is full forgets early, whoever goes on asking: there is room for another.
	s.refuseLocked(of(1), Began(1), at(2*strangeTime-time.Second))
	s.forgetLocked(none, at(2*strangeTime-time.Second))
	if n := len(s.refused[Began(1)]); n != maxRefused {
		t.Errorf("%d refusals are left before their time", n)
	}
	s.forgetLocked(none, at(2*strangeTime))
	if s.refuseLocked(of(2*maxRefused), Began(1), at(2*strangeTime)); len(s.refused[Began(1)]) != 1 {
		t.Errorf("%d peers wait, want the new one", len(s.refused[Began(1)]))
	}

	s.forgetLocked(none, at(2*strangeTime+refusalAge))
	if n := len(s.refused[Began(1)]); n != 0 {
		t.Errorf("%d refusals are left", n)
	}
}

// TestStrangeWaits: a peer that sent to the host a moment ago is refused for a minute, and one
// that has been silent is not.
func TestStrangeWaits(t *testing.T) {
	now := int64(time.Hour)
	set := &peerSet{strange: map[flowmap.Peer]time.Duration{peerOf(esp): time.Second, peerOf(gre): strangeTime}}
	ct := newPeers(set, &now)
	if err := ct.peers.claim(peerOf(gre), Began(1)); err != nil {
		t.Errorf("one that was silent for a minute: %v", err)
	}
	if err := ct.peers.claim(peerOf(esp), Began(1)); !errors.Is(err, errPeerTaken) {
		t.Errorf("one that sends: %v", err)
	}
	now += int64(strangeTime)
	ct.Forget(2)
	if err := ct.peers.claim(peerOf(esp), Began(1)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	// The next container with a number waits for itself.
	ct.peers.drop(peerOf(esp))
	for _, by := range []Tenant{Began(3), Received(3)} {
		if err := ct.peers.claim(peerOf(esp), by); !errors.Is(err, errPeerTaken) {
			t.Errorf("one that sends, to another: %v", err)
		}
	}
	ct.Forget(3)
	if n := len(ct.peers.refused[Began(3)]) + len(ct.peers.refused[Received(3)]); n != 0 {
		t.Errorf("%d refusals outlive their container", n)
	}
}
