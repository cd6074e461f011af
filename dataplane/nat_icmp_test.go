package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// fromRouter is an error of a router in the world.
func fromRouter(typ, code uint8, quoted []byte) []byte {
	return icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "203.0.113.1", Dst: HostAddr}, typ, code, quoted)
}

// resum puts the checksum of an ICMP message without IP options right.
func resum(f []byte) []byte {
	at := header.EthernetLen + 20
	f[at+2], f[at+3] = 0, 0
	header.FinishChecksum(f, at, 2)
	return f
}

// mtu sets the MTU of a "too big".
func mtu(f []byte, n uint16) []byte {
	binary.BigEndian.PutUint16(f[header.EthernetLen+26:], n)
	return resum(f)
}

// RFC 4787 REQ-12, RFC 5382 REQ-10: no ICMP error ends a flow, and none is held
// back for where it comes from.
func TestN13N28ErrorsEndNoFlow(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		l.Send("c1", firstPacket(proto, "c1", 5000, web))
		out := l.Expect("up")
		e := See(t, out).From()
		types := [][2]uint8{{11, 0}, {11, 1}, {12, 0}}
		for code := range uint8(16) {
			types = append(types, [2]uint8{3, code})
		}
		for _, tc := range types {
			before := l.Switch.Conns()
			l.Send("up", fromRouter(tc[0], tc[1], out))
			if after := l.Switch.Conns(); len(after) != 1 || after[0].State != before[0].State || after[0].Expires != before[0].Expires {
				t.Errorf("%v: the flow is %+v after it, was %+v", tc, after, before)
			}
			f := l.Expect("c1")
			if f[header.EthernetLen+20] != tc[0] || f[header.EthernetLen+21] != tc[1] {
				t.Errorf("%v arrived as %s", tc, Describe(f))
			}
			if got := outPort(l, proto, "c1", 5000, web); fmt.Sprintf("%s:%d", HostAddr, got) != e {
				t.Errorf("after %v the flow left from %d, want %s", tc, got, e)
			}
			l.Send("up", Inbound(proto, web, e, 0, "data"))
			l.Expect("c1")
		}
	}
}

// RFC 5382 REQ-10: a SYN, an error about it, then the late answer.
func TestN29ICMPNeverTerminates(t *testing.T) {
	f := newFlow(t, false)
	f.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Flags: SYN, Seq: 1000})))
	out := f.Expect("up")
	f.e = See(t, out).From()
	f.Send("up", fromRouter(3, 1, out))
	f.Expect("c1")
	f.pass(false, SYN|ACK, 2000, 1001, "")
	f.pass(true, ACK, 1001, 2001, "")
	f.wantState("established")
}

// RFC 5508 REQ-4: TCP and UDP, before and after the handshake, with the quote
// cut after 8 bytes or whole: addresses, ports and all checksums are right.
func TestN40ErrorsAreTranslatedWhole(t *testing.T) {
	for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP, header.ProtoICMP} {
		for _, length := range []int{28, 60, 1000} {
			l := New(t)
			p := From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: proto, Flags: SYN, DF: true, Payload: make([]byte, 900)})
			if proto == header.ProtoICMP {
				p = From("c1", World, Packet{Src: "10.1.0.11", Proto: proto, Type: 8, ID: 77, DF: true, Payload: make([]byte, 900)})
			}
			sent := Bytes(p)
			l.Send("c1", sent)
			out := l.Expect("up")
			quote := out[header.EthernetLen:]
			e := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "203.0.113.1", Dst: HostAddr, Proto: header.ProtoICMP, Type: 3, Payload: quote[:min(length, len(quote))]})
			e[header.EthernetLen+21] = 4
			l.Send("up", mtu(e, 1400))
			f := l.Expect("c1")
			CheckSums(t, f)
			back := f[header.EthernetLen+28:]
			want := slices.Clone(sent[header.EthernetLen:])[:len(back)]
			want[8]-- // the TTL, as the router saw it
			want[10], want[11] = back[10], back[11]
			var l0 header.Layers
			var q header.Layers
			if !header.Parse(f, &l0) || !header.ParseQuoted(f, &l0, &q) || !header.QuotedSumOK(f, &q) {
				t.Errorf("protocol %d, %d bytes: the quoted header is wrong: %s", proto, length, Describe(f))
			}
			if !slices.Equal(back, want) {
				t.Errorf("protocol %d: c1 was quoted\n%x, want\n%x", proto, back, want)
			}
			if m := binary.BigEndian.Uint16(f[header.EthernetLen+26:]); m != 1400 {
				t.Errorf("MTU %d, want 1400", m)
			}
		}
	}
}

// RFC 5508 REQ-5: an error from a router behind a container shows the host too.
func TestN41ErrorOfAnInnerRouter(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("up", Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, "x"))
	in := l.Expect("c1")
	l.Send("c1", icmpError(From("c1", World, Packet{Src: "172.16.0.1"}), 3, 1, in))
	if got := See(t, l.Expect("up")); got.Src.String() != HostAddr || got.Dst.String() != World {
		t.Errorf("error went %s -> %s, want from %s", got.Src, got.Dst, HostAddr)
	}
	// Another container cannot speak about that flow.
	l.Send("c2", icmpError(From("c2", World, Packet{Src: "10.1.0.12"}), 3, 3, in))
	l.ExpectDrop("c2", dataplane.DropUnmatchedError, 1)
}

// RFC 5508 REQ-2: a query's mapping lives 60 s, or as configured.
func TestN42N69QueryTimer(t *testing.T) {
	ping := Bytes(From("c1", World, Packet{Src: "10.1.0.11", Proto: header.ProtoICMP, Type: 8, ID: 7}))
	for _, d := range []time.Duration{0, 90 * time.Second} {
		l := New(t)
		l.Config.Timeouts.ICMP = d
		l.Install()
		if d == 0 {
			d = time.Minute
		}
		l.Send("c1", ping)
		id := See(t, l.Expect("up")).SrcPort
		reply := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr, Proto: header.ProtoICMP, Type: 0, ID: id})
		l.Advance(d - time.Second)
		l.Send("up", reply)
		l.Expect("c1")
		if !l.Claims.Test(1, header.ProtoICMP, id) {
			t.Errorf("identifier %d is not claimed", id)
		}
		l.Advance(d + time.Second)
		l.Send("up", reply)
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
		if l.Claims.Test(1, header.ProtoICMP, id) {
			t.Errorf("identifier %d outlived its last query", id)
		}
	}
}

// RFC 5508 REQ-3: what is checked in an error, and what is not.
func TestN43ChecksOfErrors(t *testing.T) {
	l := New(t)
	send := func(payload string) []byte {
		l.Send("c1", UDP("c1", 5000, web, payload))
		return l.Expect("up")
	}
	out := send("0123456789abcdef0123456789abcdef")

	f := fromRouter(3, 3, out)
	f[header.EthernetLen+22] ^= 1
	l.Send("up", f)
	l.ExpectDrop("up", dataplane.DropBadChecksum, 1)

	f = fromRouter(3, 3, out)
	f[header.EthernetLen+28+10] ^= 1
	l.Send("up", resum(f))
	l.ExpectDrop("up", dataplane.DropBadChecksum, 2)

	// Ten words of options in the quoted header.
	ip := out[header.EthernetLen:]
	long := append(append(slices.Clone(ip[:20]), make([]byte, 40)...), ip[20:]...)
	for i := range 40 {
		long[20+i] = 1
	}
	long[0] = 0x4f
	binary.BigEndian.PutUint16(long[2:], uint16(len(long)))
	long[10], long[11] = 0, 0
	header.FinishChecksum(long[:60], 0, 10)
	quote := func(b []byte) []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "203.0.113.1", Dst: HostAddr, Proto: header.ProtoICMP, Type: 3, Payload: b})
	}
	noID := func(f []byte) []byte { // the builder's identifier and number are MTU and length here
		copy(f[header.EthernetLen+24:], make([]byte, 4))
		return resum(f)
	}
	l.Send("up", noID(quote(long)))
	if q, want := ends(quoteOf(t, l.Expect("c1"))), [2]string{"10.1.0.11:5000", web}; q != want {
		t.Errorf("it quotes %v, want %v", q, want)
	}

	wrong := slices.Clone(ip)
	wrong[26] ^= 0x55 // the UDP checksum
	l.Send("up", noID(quote(wrong)))
	l.Expect("c1")
	l.Send("up", noID(quote(ip[:28]))) // cut behind the ports
	l.Expect("c1")

	// RFC 4884: a quote padded to 128 bytes and an extension behind it.
	ext := append(append(slices.Clone(ip), make([]byte, 128-len(ip))...), 0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 1, 2, 3, 4)
	f = noID(quote(ext))
	f[header.EthernetLen+25] = 32
	l.Send("up", resum(f))
	got := l.Expect("c1")
	if !slices.Equal(got[len(got)-12:], ext[128:]) {
		t.Error("the extension was changed")
	}
}

// RFC 5508 REQ-4, REQ-5: errors about no flow, about flows of others, and about
// the right flow in the wrong direction are silent.
func TestN44RandomQuotes(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	out := l.Expect("up")
	rng := rand.New(rand.NewSource(44))
	for range 10_000 {
		q := Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Proto: []uint8{6, 17}[rng.Intn(2)],
			Src: fmt.Sprintf("%s:%d", HostAddr, 1+rng.Intn(65535)), Dst: fmt.Sprintf("203.0.113.9:%d", 1000+rng.Intn(60000))})
		l.Memory("up").Inject(fromRouter(3, 3, q), none)
	}
	for l.Switch.Step() > 0 {
	}
	l.ExpectDrop("up", dataplane.DropUnmatchedError, 10_000)
	for _, ends := range [][2]string{
		{web, See(t, out).From()}, {web, "10.1.0.11:5000"}, {"10.1.0.11:5000", web},
	} {
		q := Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Proto: header.ProtoUDP, Src: ends[0], Dst: ends[1]})
		l.Send("up", fromRouter(3, 3, q))
	}
	l.ExpectDrop("up", dataplane.DropUnmatchedError, 10_003)
}

// RFC 5508 REQ-9: a port may be told to send no errors of the switch's own.
func TestN48ErrorsAreSwitchedOff(t *testing.T) {
	l := New(t)
	l.Configure("c1", func(p *dataplane.PortConfig) { p.NoICMPErrors = true })
	for _, c := range []string{"c1", "c2"} {
		l.Send(c, Bytes(From(c, web, Packet{Src: Stations[c] + ":5000", Proto: header.ProtoUDP, TTL: 1})))
		l.Send(c, UDP(c, 5000, "10.2.0.11:80", "x"))
	}
	if n := len(l.Got("c1")); n != 0 {
		t.Errorf("c1 got %d errors, want none", n)
	}
	if n := len(l.Got("c2")); n != 2 {
		t.Errorf("c2 got %d errors, want 2", n)
	}
}

// RFC 5508 REQ-10, REQ-11, RFC 6633: what is neither a query nor an error that
// concerns a flow ends here, from both sides.
func TestN50N52OtherICMPTypes(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	out := l.Expect("up")
	n := uint64(0)
	for _, typ := range []uint8{4, 5, 9, 10, 15, 16, 17, 18, 30, 40} {
		l.Send("up", fromRouter(typ, 0, out))
		l.Send("c1", icmpError(From("c1", World, Packet{Src: "10.1.0.11"}), typ, 0, out))
		n++
		l.ExpectNothing()
		if got := l.Dropped("c1", dataplane.DropICMPType); got != n {
			t.Errorf("type %d from c1: %d drops, want %d: %s", typ, got, n, l.Drops())
		}
		if got := l.Dropped("up", dataplane.DropICMPType) + l.Dropped("up", dataplane.DropUnclaimed); got != n {
			t.Errorf("type %d from the world: %d drops, want %d: %s", typ, got, n, l.Drops())
		}
	}
	// Timestamps are queries.
	l.Send("c1", Bytes(From("c1", World, Packet{Src: "10.1.0.11", Proto: header.ProtoICMP, Type: 13, ID: 5, Payload: make([]byte, 12)})))
	id := See(t, l.Expect("up")).SrcPort
	l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr, Proto: header.ProtoICMP, Type: 14, ID: id, Payload: make([]byte, 12)}))
	l.Expect("c1")
}

// RFC 1122 3.2.2, RFC 1812 4.3.2: when no error is sent, with which DS field,
// and how many: a thousand a second, a few to one destination, and nobody can
// count what is left (CVE-2020-25705).
func TestN51LimitsOfOwnErrors(t *testing.T) {
	l := New(t)
	ttl1 := func(src string, p Packet) []byte {
		p.Src, p.TTL = src, 1
		return Bytes(From("c1", web, p))
	}
	first := Fragment(ttl1("10.1.0.11:5000", Packet{Proto: header.ProtoUDP, Payload: make([]byte, 2000)}), 1480)
	mcast := ttl1("10.1.0.11:5000", Packet{Proto: header.ProtoUDP})
	copy(mcast[header.EthernetLen+16:], []byte{224, 0, 0, 9})
	SumIPv4(mcast)
	for _, f := range [][]byte{
		icmpError(From("c1", World, Packet{Src: "10.1.0.11", TTL: 1}), 3, 3, UDP("c1", 1, web, "")),
		mcast, ttl1("0.0.0.0:5000", Packet{Proto: header.ProtoUDP}), ttl1("127.0.0.1:5000", Packet{Proto: header.ProtoUDP}),
		ttl1("255.255.255.255:5000", Packet{Proto: header.ProtoUDP}), first[1],
	} {
		l.Send("c1", f)
	}
	l.ExpectNothing()

	f := ttl1("10.1.0.11:5000", Packet{Proto: header.ProtoUDP})
	f[header.EthernetLen+1] = 0x18
	SumIPv4(f)
	l.Send("c1", f)
	if ds := l.Expect("c1")[header.EthernetLen+1]; ds&0x1c != 0x18 {
		t.Errorf("the error has DS %#x", ds)
	}
	l.Advance(10 * time.Second)
	for range 100 {
		l.Send("c1", f)
	}
	if n := len(l.Got("c1")); n < 3 || n > 7 {
		t.Errorf("%d errors to one destination at once, want about 6", n)
	}
	// "Too big" to one destination, as path MTU discovery asks for them, has the
	// limit of all only: a second's worth.
	big := Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1500)}))
	counts := map[int]bool{}
	for range 8 {
		l.Advance(10 * time.Second)
		n := 0
		for range 1000 {
			for range 3 {
				l.Memory("c1").Inject(big, frame.Offload{})
			}
			l.Switch.Step()
			l.Advance(time.Millisecond)
			n += len(l.Got("c1"))
		}
		if n > 1300 || n < 700 {
			t.Errorf("%d errors in a second, want about 1000", n)
		}
		counts[n] = true
	}
	if len(counts) < 3 {
		t.Errorf("the budget is exact: %v", counts)
	}
}
