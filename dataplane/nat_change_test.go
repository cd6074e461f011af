package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// publishTo makes the published port 8080 lead to another container and port.
func publishTo(l *Lab, c string, port uint16) {
	l.Config.Publish = nil
	l.Publish(8080, c, port)
}

// moby#8795, #44688, #53384: a client that never pauses reaches the container
// that took the published port over with its next packet, though the host's port
// is not the container's; all other flows go on.
func TestN86StaleFlowsFollowThePublishedPort(t *testing.T) {
	l := New(t)
	publishTo(l, "c1", 80)
	q := outPort(l, header.ProtoUDP, "c3", 5000, web)
	in := Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, "x")
	for i, tc := range []struct {
		c    string
		port uint16
	}{{"c1", 80}, {"c2", 80}, {"c2", 81}, {"c1", 80}} {
		publishTo(l, tc.c, tc.port)
		for range 3 {
			l.Send("up", in)
			want := fmt.Sprintf("%s:%d", Stations[tc.c], tc.port)
			if got := See(t, l.Expect(tc.c)); got.To() != want {
				t.Fatalf("step %d: arrived at %s, want %s", i, got.To(), want)
			}
			l.Send(tc.c, UDP(tc.c, tc.port, World+":4000", "y"))
			if got := See(t, l.Expect("up")); got.From() != HostAddr+":8080" {
				t.Errorf("step %d: answered from %s", i, got.From())
			}
			l.Advance(time.Second)
		}
		if p := outPort(l, header.ProtoUDP, "c3", 5000, web); p != q {
			t.Errorf("step %d: another flow moved from %d to %d", i, q, p)
		}
	}
	if n := len(l.Switch.Conns()); n != 2 {
		t.Errorf("%d flows, want 2", n)
	}
}

// The same for TCP, for hairpinned flows, and for what is no longer published.
func TestN86FlowsThatAreNoLongerAllowed(t *testing.T) {
	l := New(t)
	publishTo(l, "c1", 80)
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
	l.Expect("c1")
	l.Send("c4", UDP("c4", 5000, HostAddr+":8080", "x"))
	l.Expect("c1")
	publishTo(l, "c2", 80)
	l.Send("c4", UDP("c4", 5000, HostAddr+":8080", "x"))
	l.Expect("c2")
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", ACK, "data"))
	l.Expect("c2") // which refuses it, and the client knows
	l.Config.Publish = nil
	l.Install()
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", ACK, "data"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 1)

	// A container that is gone takes its flows with it, and its network's fate
	// is theirs.
	l.Send("c1", UDP("c1", 5000, web, "x"))
	e := See(t, l.Expect("up")).From()
	l.Policy[0].Internal = true
	l.Install()
	l.Send("c1", UDP("c1", 5000, web, "x"))
	if n := l.Dropped("c1", dataplane.DropInternal); n != 1 {
		t.Errorf("the flow went on in an internal network; %s", l.Drops())
	}
	l.Got("c1")
	l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "x"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 2)
}

// moby#44742: packets before the port is published do not stand in its way.
func TestN87PacketsBeforePublish(t *testing.T) {
	l := New(t)
	in := Inbound(header.ProtoUDP, World+":4000", HostAddr+":5000", 0, "x")
	for range 3 {
		l.Send("up", in)
	}
	l.ExpectDrop("up", dataplane.DropUnclaimed, 3)
	l.Publish(5000, "c1", 80)
	l.Send("up", in)
	l.Expect("c1")
}

// RFC 6888 REQ-6: exempt destinations see the container's own address.
func TestN75ExemptDestinations(t *testing.T) {
	l := New(t)
	eachPolicy(l, func(n *policy.Network) { n.Exempt = []netip.Prefix{netip.MustParsePrefix("203.0.113.64/26")} })
	for _, proto := range portProtos {
		l.Send("c1", firstPacket(proto, "c1", 5000, "203.0.113.70:80"))
		if got := See(t, l.Expect("up")); got.From() != "10.1.0.11:5000" || got.TTL != 63 {
			t.Errorf("left as %+v", got)
		}
		l.Send("up", Inbound(proto, "203.0.113.70:80", "10.1.0.11:5000", SYN|ACK, ""))
		l.Expect("c1")
		l.Send("up", Inbound(proto, "203.0.113.70:81", "10.1.0.11:5000", SYN, ""))
		l.ExpectNothing() // who was not asked
		l.Send("c1", firstPacket(proto, "c1", 5000, web))
		if got := See(t, l.Expect("up")); got.Src.String() != HostAddr {
			t.Errorf("to others left from %s", got.Src)
		}
	}
}

// RFC 5382 REQ-4: a SYN that nobody asked for is met with silence, and when the
// container opens the same flow three seconds later, both meet.
func TestN23UnsolicitedSYN(t *testing.T) {
	f := newFlow(t, false)
	f.e = fmt.Sprintf("%s:%d", HostAddr, outPort(f.Lab, header.ProtoTCP, "c1", 5000, World+":99"))
	for range 3 {
		f.stopped(false, SYN, 2000, 0)
		f.Advance(time.Second)
	}
	f.pass(true, SYN, 1000, 0, "")
	f.pass(false, SYN, 2000, 0, "") // again
	f.pass(true, SYN|ACK, 1000, 2001, "")
	f.pass(false, SYN|ACK, 2000, 1001, "")
	f.Advance(3 * time.Second)
	f.ExpectNothing()
	for _, c := range f.Switch.Conns() {
		if c.Orig.DstPort == 80 && c.State != "established" {
			t.Errorf("state %s", c.State)
		}
	}
	if n := f.Dropped("up", dataplane.DropUnclaimed); n != 3 {
		t.Errorf("%d drops, want 3", n)
	}
}

// RFC 5382 REQ-8: a whole TCP flow by the host's address, also to itself.
func TestN27HairpinnedTCPFlow(t *testing.T) {
	for _, client := range []string{"c2", "c1", "c4"} {
		l := New(t)
		l.Publish(8080, "c1", 80)
		pass := func(from, src, dst, to string, flags uint8, seq, ack uint32) Seen {
			t.Helper()
			l.Send(from, Bytes(From(from, dst, Packet{Src: src, Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack})))
			return See(t, l.Expect(to))
		}
		own := Stations[client] + ":5000"
		e := pass(client, own, HostAddr+":8080", "c1", SYN, 1000, 0).From()
		for _, s := range []struct {
			client   bool
			flags    uint8
			seq, ack uint32
		}{
			{false, SYN | ACK, 2000, 1001}, {true, ACK, 1001, 2001}, {false, FIN | ACK, 2001, 1001},
			{true, FIN | ACK, 1001, 2002}, {false, ACK, 2002, 1002},
		} {
			if s.client {
				pass(client, own, HostAddr+":8080", "c1", s.flags, s.seq, s.ack)
			} else if got := pass("c1", "10.1.0.11:80", e, client, s.flags, s.seq, s.ack); got.From() != HostAddr+":8080" || got.To() != own {
				t.Errorf("%s saw %s -> %s", client, got.From(), got.To())
			}
		}
		if c := l.Switch.Conns(); len(c) != 1 || c[0].State != "closing" || c[0].Kind != conntrack.KindHairpin {
			t.Errorf("flows %+v", c)
		}
	}
}

// After the switch has lost its memory, flows that go on are picked up in the
// middle, whoever speaks first at published ports, and the container at others,
// by the port that it had; a stranger's segments are not.
func TestN60MidStreamPickup(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	for i := range uint16(100) {
		client := fmt.Sprintf("%s:%d", World, 10000+i)
		l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: client, Dst: HostAddr + ":8080", Proto: header.ProtoTCP, Flags: ACK, Seq: 7000, Ack: 9000, Payload: []byte("data")}))
		l.Expect("c1")
		l.Send("c1", Bytes(From("c1", client, Packet{Src: "10.1.0.11:80", Proto: header.ProtoTCP, Flags: ACK, Seq: 9000, Ack: 7004, Payload: []byte("answer")})))
		if got := See(t, l.Expect("up")); got.From() != HostAddr+":8080" {
			t.Errorf("answered from %s", got.From())
		}
	}

	// A port is lost when another endpoint, whose own it is too, comes first.
	survived := 0
	for run := range byte(10) {
		key := func(c *dataplane.Config) { c.PortKey = [16]byte{1, run} }
		before, after := NewSized(t, 4096, key), NewSized(t, 4096, key)
		for i := range uint16(100) {
			f := &tcpFlow{Lab: before, port: 5000 + i}
			f.open()
			// The last speaks first again.
			g := &tcpFlow{Lab: after, port: 5099 - i}
			g.pass(true, ACK, 1001, 3001, "data")
			g.pass(false, ACK, 3001, 1005, "answer")
			g.pass(true, ACK, 1005, 3007, "")
		}
		ports := map[uint16]uint16{}
		for _, c := range before.Switch.Conns() {
			ports[c.Orig.SrcPort] = c.Reply.DstPort
		}
		for _, c := range after.Switch.Conns() {
			if c.State == "established" && ports[c.Orig.SrcPort] == c.Reply.DstPort {
				survived++
			}
		}
		after.Send("up", Inbound(header.ProtoTCP, World+":99", fmt.Sprintf("%s:%d", HostAddr, ports[5000]), ACK, "x"))
		after.ExpectDrop("up", dataplane.DropUnclaimed, 1)
	}
	t.Logf("%d of 1000 flows survived", survived)
	if survived < 990 {
		t.Errorf("%d of 1000 flows survived, want 990", survived)
	}
}

// A protocol without ports is translated by addresses alone: one container for
// each protocol and remote address, checksums untouched; what cannot be
// translated is refused (RFC 5597 for DCCP).
func TestN70N84ProtocolsWithoutPorts(t *testing.T) {
	raw := func(c, dst string, proto uint8, payload string) []byte {
		return Bytes(From(c, dst, Packet{Src: Stations[c], Proto: proto, Payload: []byte(payload)}))
	}
	const body = "\x13\x88\x00\x50\x00\x00\x00\x01\xde\xad\xbe\xef a CRC that covers no addresses"
	for _, proto := range []uint8{47, 50, 97, 253} {
		l := New(t)
		l.Send("c1", raw("c1", World, proto, body))
		out := l.Expect("up")
		if got := See(t, out); got.Src.String() != HostAddr || got.Proto != proto || string(out[header.EthernetLen+20:]) != body {
			t.Errorf("protocol %d left as %s", proto, Describe(out))
		}
		l.Send("c2", raw("c2", World, proto, body))
		l.ExpectDrop("c2", dataplane.DropTupleConflict, 1)
		l.Send("c2", raw("c2", "203.0.113.10", proto, body))
		l.Expect("up")
		in := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr, Proto: proto, Payload: []byte(body)})
		l.Send("up", in)
		if got := See(t, l.Expect("c1")); got.Dst.String() != "10.1.0.11" {
			t.Errorf("protocol %d came back to %s", proto, got.Dst)
		}
		l.Send("up", fromRouter(3, 2, out))
		if got := See(t, l.Expect("c1")); got.Dst.String() != "10.1.0.11" {
			t.Errorf("an error went to %s", got.Dst)
		}
		l.Advance(601 * time.Second)
		l.Send("up", in)
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
		l.Send("c2", raw("c2", World, proto, body))
		l.Expect("up")
	}
	l := New(t)
	for i, proto := range []uint8{2, 33, 51, 136} {
		l.Send("c1", raw("c1", World, proto, body))
		l.ExpectDrop("c1", dataplane.DropUnsupportedProto, uint64(i+1))
	}
}

// RFC 1812 5.3.7, RFC 2827: sources and destinations that cannot be.
func TestN85Martians(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		l.Publish(8080, "c1", 80)
		n, dropped := uint64(0), func(at string) (sum uint64) {
			for r := range dataplane.NumDropReasons {
				sum += l.Dropped(at, r)
			}
			return sum
		}
		for _, src := range []string{"127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", HostAddr, "10.1.0.1", "10.2.0.11", "192.0.2.1", "169.254.1.1"} {
			for _, dst := range []string{web, HostAddr + ":8080", "10.1.0.1:53"} {
				l.Send("c1", Bytes(From("c1", dst, Packet{Src: src + ":5000", Proto: proto, Flags: SYN})))
				n++
				if l.ExpectNothing(); dropped("c1") != n {
					t.Fatalf("%s -> %s from c1: %d drops, want %d: %s", src, dst, dropped("c1"), n, l.Drops())
				}
			}
		}
		for _, dst := range []string{"0.0.0.0:80", "0.1.2.3:80", "127.0.0.1:80", "224.0.0.5:80", "240.0.0.1:80", "255.255.255.255:80", "10.1.0.11:5000"} {
			l.Send("c1", Bytes(From("c1", dst, Packet{Src: "10.1.0.11:5000", Proto: proto, Flags: SYN})))
			n++
			if l.ExpectNothing(); dropped("c1") != n {
				t.Fatalf("-> %s from c1: %d drops, want %d: %s", dst, dropped("c1"), n, l.Drops())
			}
		}
		n = 0
		for _, src := range []string{"127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", HostAddr, "10.1.0.11", "10.2.0.11", "10.1.0.1"} {
			l.Send("up", Inbound(proto, src+":8080", HostAddr+":8080", SYN, ""))
			n++
			if l.ExpectNothing(); dropped("up") != n {
				t.Fatalf("from %s by the uplink: %d drops, want %d: %s", src, dropped("up"), n, l.Drops())
			}
		}
		if martians, forged := l.Dropped("up", dataplane.DropMartian), l.Dropped("up", dataplane.DropForgedSource); martians != 5 || forged != 4 {
			t.Errorf("%d martians counted and %d of our addresses, want 5 and 4", martians, forged)
		}
		// A packet of a living flow that comes from the wrong side.
		l.Send("c1", firstPacket(proto, "c1", 5000, web))
		e := See(t, l.Expect("up")).From()
		l.Send("up", Inbound(proto, "10.1.0.11:5000", web, SYN, ""))
		l.Send("c2", Bytes(From("c2", e, Packet{Src: web, Proto: proto, Flags: SYN | ACK})))
		l.ExpectNothing()
	}
}

// Only a published address and port leads in.
func TestN82NothingElseLeadsIn(t *testing.T) {
	l := New(t)
	l.Config.Publish = []dataplane.PublishConfig{{Proto: header.ProtoUDP, HostAddr: header.AddrFrom(netip.MustParseAddr("198.51.100.77")), HostFirst: 8080, HostLast: 8080, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.11")), ContainerFirst: 80}}
	l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("198.51.100.77/32"), Kind: dataplane.RouteLocal})
	l.Install()
	n := uint64(0)
	for _, tc := range []struct {
		proto uint8
		dst   string
	}{
		{header.ProtoUDP, HostAddr + ":8080"}, {header.ProtoTCP, "198.51.100.77:8080"}, {header.ProtoUDP, "198.51.100.77:8081"},
		{header.ProtoUDP, "10.1.0.11:80"}, {header.ProtoTCP, "10.1.0.11:80"}, {header.ProtoUDP, "10.1.0.1:8080"}, {header.ProtoUDP, "203.0.113.77:8080"},
	} {
		l.Send("up", Inbound(tc.proto, World+":4000", tc.dst, SYN, ""))
		n++
		l.ExpectDrop("up", dataplane.DropUnclaimed, n)
	}
	l.Send("up", Inbound(header.ProtoUDP, World+":4000", "198.51.100.77:8080", 0, ""))
	l.Expect("c1")
}

// RFC 768, RFC 1624: no checksum stays none, a computed zero is sent as 0xffff,
// what the sender's device was to finish stays to be finished and right.
func TestN83Checksums(t *testing.T) {
	rng := rand.New(rand.NewSource(83))
	l := New(t)
	for i := range scaled(20_000) {
		payload := make([]byte, 20+rng.Intn(64))
		rng.Read(payload)
		f := UDP("c1", 5000, web, string(payload))
		udp := f[header.EthernetLen+20:]
		var off frame.Offload
		switch i % 4 {
		case 0:
			udp[6], udp[7] = 0, 0
		case 1:
			copyPseudo(f)
			off = frame.Offload{Csum: frame.CsumPartial, CsumStart: header.EthernetLen + 20, CsumOffset: 6}
		case 2:
			// The payload makes the outgoing checksum zero, once the port is known.
			l.SendOffload("c1", slices.Clone(f), off)
			out := l.Expect("up")[header.EthernetLen+20:]
			sum := uint32(binary.BigEndian.Uint16(udp[8:])) + uint32(binary.BigEndian.Uint16(out[6:]))
			binary.BigEndian.PutUint16(udp[8:], uint16(sum>>16+sum))
			copyPseudo(f)
			header.FinishChecksum(f, header.EthernetLen+20, 6)
		}
		l.SendOffload("c1", f, off)
		got := l.Memory("up").SentFrames()
		if len(got) != 1 {
			t.Fatalf("%d frames; %s", len(got), l.Drops())
		}
		out := got[0].Data
		sum := binary.BigEndian.Uint16(out[header.EthernetLen+26:])
		switch i % 4 {
		case 0:
			if sum != 0 {
				t.Fatalf("no checksum became %#x", sum)
			}
		case 1:
			if got[0].Offload.Csum != frame.CsumPartial {
				t.Fatalf("offload facts %+v", got[0].Offload)
			}
			header.FinishChecksum(out, header.EthernetLen+20, 6)
			CheckSums(t, out)
		case 2:
			if sum != 0xffff {
				t.Fatalf("a checksum of zero was sent as %#x", sum)
			}
		default:
			CheckSums(t, out)
		}
	}
}
