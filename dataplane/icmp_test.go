package dataplane_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// icmpError is an error from a router or host that quotes a frame's packet.
func icmpError(p Packet, typ, code uint8, quoted []byte) []byte {
	quote := quoted[header.EthernetLen:]
	quote = quote[:min(len(quote), 28)]
	p.Proto, p.Type = header.ProtoICMP, typ
	p.Payload = quote
	f := Bytes(p)
	f[header.EthernetLen+20+1] = code
	binary.BigEndian.PutUint32(f[header.EthernetLen+24:], 1400) // MTU of type 3 code 4
	sum := f[header.EthernetLen+20:]
	binary.BigEndian.PutUint16(sum[2:], 0)
	header.FinishChecksum(f, header.EthernetLen+20, 2)
	return f
}

// quoteOf is what an ICMP error quotes.
func quoteOf(t *testing.T, f []byte) header.Tuple {
	t.Helper()
	var l, q header.Layers
	if !header.Parse(f, &l) || !header.ParseQuoted(f, &l, &q) {
		t.Fatalf("no ICMP error: %s", Describe(f))
	}
	return q.Tuple
}

func ends(t header.Tuple) [2]string {
	return [2]string{
		netip.AddrPortFrom(t.Src.NetIP(), t.SrcPort).String(), netip.AddrPortFrom(t.Dst.NetIP(), t.DstPort).String(),
	}
}

func TestN40ErrorFromOutsideReachesTheContainer(t *testing.T) {
	for _, router := range []string{"203.0.113.1", World} {
		l := New(t)
		l.Send("c1", UDP("c1", 5000, web, "x"))
		out := l.Expect("up")
		l.Send("up", icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: router, Dst: HostAddr}, 3, 4, out))
		f := l.Expect("c1")
		got := See(t, f)
		if got.Src.String() != router || got.Dst.String() != "10.1.0.11" {
			t.Errorf("error went %s -> %s", got.Src, got.Dst)
		}
		if q, want := ends(quoteOf(t, f)), [2]string{"10.1.0.11:5000", web}; q != want {
			t.Errorf("it quotes %v, want %v", q, want)
		}
	}
}

func TestN41ErrorFromInsideShowsTheHost(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("up", Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, "x"))
	in := l.Expect("c1")
	l.Send("c1", icmpError(From("c1", World, Packet{Src: "10.1.0.11"}), 3, 3, in))
	f := l.Expect("up")
	if got := See(t, f); got.Src.String() != HostAddr || got.Dst.String() != World {
		t.Errorf("error went %s -> %s, want from %s", got.Src, got.Dst, HostAddr)
	}
	if q, want := ends(quoteOf(t, f)), [2]string{World + ":4000", HostAddr + ":8080"}; q != want {
		t.Errorf("it quotes %v, want %v", q, want)
	}
}

func TestN46HairpinnedError(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("c2", UDP("c2", 5000, HostAddr+":8080", "x"))
	in := l.Expect("c1")
	l.Send("c1", icmpError(From("c1", HostAddr, Packet{Src: "10.1.0.11"}), 3, 3, in))
	f := l.Expect("c2")
	if got := See(t, f); got.Src.String() != HostAddr || got.Dst.String() != "10.1.0.12" {
		t.Errorf("error went %s -> %s", got.Src, got.Dst)
	}
	if q, want := ends(quoteOf(t, f)), [2]string{"10.1.0.12:5000", HostAddr + ":8080"}; q != want {
		t.Errorf("it quotes %v, want %v", q, want)
	}
}

func TestN44ErrorWithoutAFlowIsSilent(t *testing.T) {
	l := New(t)
	quoted := Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Src: HostAddr + ":61001", Dst: web, Proto: header.ProtoUDP})
	l.Send("up", icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr}, 3, 3, quoted))
	l.ExpectDrop("up", dataplane.DropUnmatchedError, 1)
}

func TestN45ErrorNeitherRefreshesNorEndsAFlow(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	out := l.Expect("up")
	l.Advance(119e9)
	l.Send("up", icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr}, 3, 3, out))
	l.Expect("c1")
	l.Send("c1", UDP("c1", 5001, web, "keeps the clock"))
	l.Expect("up")
	l.Advance(2e9)
	if n := len(l.Switch.Conns()); n != 1 {
		t.Errorf("%d flows, want only the second: the error kept the first alive", n)
	}
}

func TestN49TTLExpiryIsAnswered(t *testing.T) {
	l := New(t)
	l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:33434", Proto: header.ProtoUDP, TTL: 1})))
	f := l.Expect("c1")
	if got := See(t, f); got.Src.String() != "10.1.0.1" || f[header.EthernetLen+20] != 11 {
		t.Errorf("c1 was told %s", Describe(f))
	}
	l.Publish(8080, "c1", 80)
	l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World + ":4000", Dst: HostAddr + ":8080", Proto: header.ProtoUDP, TTL: 1}))
	f = l.Expect("up")
	if got := See(t, f); got.Src.String() != HostAddr || got.Dst.String() != World || f[header.EthernetLen+20] != 11 {
		t.Errorf("the client was told %s", Describe(f))
	}
}

func TestN14TooBigForTheUplink(t *testing.T) {
	l := New(t)
	l.Config.Uplinks[0].MTU = 1400
	l.Install()
	l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1400)})))
	f := l.Expect("c1")
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if !ok || icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || icmp.Seq != 1400 {
		t.Fatalf("c1 was told %s, want 3/4 with MTU 1400", Describe(f))
	}
	if q, want := ends(quoteOf(t, f)), [2]string{"10.1.0.11:5000", web}; q != want {
		t.Errorf("it quotes %v, want %v as c1 sent it", q, want)
	}
	if n := l.Dropped("c1", dataplane.DropTooBig); n != 1 {
		t.Errorf("%d drops, want 1", n)
	}
}

func TestGSOIsMeasuredBySegment(t *testing.T) {
	l := New(t)
	big := TCP("c1", 5000, web, SYN, string(make([]byte, 20000)))
	gso := func(size uint16) frame.Offload {
		return frame.Offload{Csum: frame.CsumPartial, CsumStart: header.EthernetLen + 20, CsumOffset: 16, GSOType: frame.GSOTCPv4, GSOSize: size}
	}
	l.SendOffload("c1", big, gso(1460))
	if n := len(l.Got("up")); n != 1 {
		t.Fatalf("%d frames, want the super-frame as one; %s", n, l.Drops())
	}
	l.SendOffload("c1", big, gso(1461))
	if n := l.Dropped("c1", dataplane.DropTooBig); n != 1 {
		t.Errorf("a segment of 1501 bytes was not refused: %s", l.Drops())
	}
}

// Fragments in any order go on translated, the held ones behind the first
// (RFC 4787 REQ-14 a).
func TestN15FragmentsInAnyOrder(t *testing.T) {
	whole := Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, Payload: make([]byte, 3000)}))
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {1, 0, 2}, {2, 0, 1}} {
		l := New(t)
		frags := Fragment(whole, 1480)
		var r reassembler
		for n, i := range order {
			l.Send("c1", frags[i])
			got := l.Got("up")
			if r.src == "" && i != 0 && len(got) != 0 {
				t.Errorf("%v: fragment %d went on before the first", order, i)
			}
			for _, f := range got {
				r.add(t, f)
			}
			if n == 2 {
				l.ExpectNothing()
			}
		}
		if _, ok := r.packet(); !ok || r.src != HostAddr+">"+World {
			t.Errorf("%v: %s arrived, whole: %v; drops %s", order, r.src, ok, l.Drops())
		}
		if n := len(l.Switch.Conns()); n != 1 {
			t.Errorf("%v: %d flows, want 1", order, n)
		}
	}
	// Once a packet is complete its identification may be another's at once.
	l := New(t)
	for range 3 {
		for _, f := range Fragment(whole, 1480) {
			l.Send("c1", f)
			l.Expect("up")
		}
	}
	l = New(t)
	l.Send("c1", Fragment(Bytes(From("c1", "10.1.0.1:53", Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, Payload: make([]byte, 3000)})), 1480)[1])
	l.Expect("host1") // the host puts its own together
}
