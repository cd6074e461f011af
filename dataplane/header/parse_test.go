package header

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
)

func TestParse(t *testing.T) {
	tuple4 := Tuple{Src: AddrFrom(c4), Dst: AddrFrom(w4)}
	tuple6 := Tuple{Src: AddrFrom(c6), Dst: AddrFrom(w6)}
	with := func(t Tuple, proto uint8, src, dst uint16) Tuple {
		t.Proto, t.SrcPort, t.DstPort = proto, src, dst
		return t
	}
	tcp4, udp4 := with(tuple4, ProtoTCP, 40000, 443), with(tuple4, ProtoUDP, 50000, 60000)
	tcp6, udp6 := with(tuple6, ProtoTCP, 40000, 443), with(tuple6, ProtoUDP, 50000, 60000)
	const ack, syn = 0x10, 0x02
	const v6 = FlagIPv6 | FlagDontFragment

	for _, c := range []struct {
		name string
		want Layers
	}{
		{"tcp4", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: ack, L3: 14, L4: 34, End: 77, Tuple: tcp4}},
		{"tcp4-syn", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: syn, L3: 14, L4: 34, End: 58, Tuple: tcp4}},
		{"tcp4-padded", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: ack, L3: 14, L4: 34, End: 54, Tuple: tcp4}},
		{"tcp4-options", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment | FlagOptions, TCPFlags: ack, L3: 14, L4: 38, End: 81, Tuple: tcp4}},
		{"tcp4-gso", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: ack, L3: 14, L4: 34, End: 14 + 65535, Tuple: tcp4}},
		{"tcp4-vlan", Layers{EtherType: TypeIPv4, VLANs: 1, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: ack, L3: 18, L4: 38, End: 81, Tuple: tcp4}},
		{"tcp4-qinq", Layers{EtherType: TypeIPv4, VLANs: 2, Kind: KindL4, Flags: FlagDontFragment, TCPFlags: ack, L3: 22, L4: 42, End: 85, Tuple: tcp4}},
		{"tcp4-vlan-x8", Layers{EtherType: TypeVLAN, VLANs: 2, Kind: KindL2, L3: 22, End: 109}},
		{"tcp6", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6, TCPFlags: ack, L3: 14, L4: 54, End: 97, Tuple: tcp6}},
		{"tcp6-gso", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6, TCPFlags: ack, L3: 14, L4: 54, End: 54 + 65535, Tuple: tcp6}},
		{"tcp6-hop-by-hop", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6 | FlagOptions, TCPFlags: ack, L3: 14, L4: 62, End: 105, Tuple: tcp6}},
		{"tcp6-srv6-arrived", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6 | FlagOptions, TCPFlags: ack, L3: 14, L4: 78, End: 121, Tuple: tcp6}},
		{"tcp6-srv6-on-the-way", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6 | FlagOptions, L3: 14, End: 121, Tuple: with(tuple6, ProtoTCP, 0, 0)}},
		{"tcp6-atomic-fragment", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6 | FlagOptions, TCPFlags: ack, L3: 14, L4: 62, End: 105, Tuple: tcp6}},
		{"tcp6-eight-extensions", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6 | FlagOptions, TCPFlags: ack, L3: 14, L4: 118, End: 161, Tuple: tcp6}},
		{"tcp6-ah", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6, L3: 14, L4: 54, End: 109, Tuple: with(tuple6, 51, 0, 0)}},
		{"udp4", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, L3: 14, L4: 34, End: 65, Tuple: udp4}},
		{"udp4-empty", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, L3: 14, L4: 34, End: 42, Tuple: udp4}},
		{"udp6", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6, L3: 14, L4: 54, End: 85, Tuple: udp6}},
		{"udp4-fragment-first", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagFirstFragment, L3: 14, L4: 34, End: 82, FragID: 0x1234, Tuple: udp4}},
		{"udp4-fragment-middle", Layers{EtherType: TypeIPv4, Kind: KindIP, Flags: FlagFragment, L3: 14, End: 82, FragID: 0x1234, Tuple: with(tuple4, ProtoUDP, 0, 0)}},
		{"udp4-fragment-last", Layers{EtherType: TypeIPv4, Kind: KindIP, Flags: FlagFragment, L3: 14, End: 46, FragID: 0x1234, Tuple: with(tuple4, ProtoUDP, 0, 0)}},
		{"udp6-fragment-first", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6 | FlagFirstFragment | FlagOptions, L3: 14, L4: 62, End: 110, FragID: 0x01020304, Tuple: udp6}},
		{"udp6-fragment-last", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6 | FlagFragment | FlagOptions, L3: 14, End: 74, FragID: 0x01020304, Tuple: with(tuple6, ProtoUDP, 0, 0)}},
		{"echo4", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, ICMPType: 8, L3: 14, L4: 34, End: 65, Tuple: with(tuple4, ProtoICMP, 77, 0)}},
		{"echo4-reply", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, L3: 14, L4: 34, End: 65, Tuple: with(tuple4, ProtoICMP, 0, 77)}},
		{"timestamp4", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, ICMPType: 13, L3: 14, L4: 34, End: 54, Tuple: with(tuple4, ProtoICMP, 78, 0)}},
		{"timestamp4-reply", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, ICMPType: 14, L3: 14, L4: 34, End: 54, Tuple: with(tuple4, ProtoICMP, 0, 78)}},
		{"quench4", Layers{EtherType: TypeIPv4, Kind: KindIP, Flags: FlagDontFragment, ICMPType: 4, L3: 14, L4: 34, End: 70, Tuple: with(tuple4, ProtoICMP, 0, 0)}},
		{"unreachable4-udp4", Layers{EtherType: TypeIPv4, Kind: KindIP, Flags: FlagDontFragment | FlagICMPError, ICMPType: 3, L3: 14, L4: 34, End: 93, Tuple: with(tuple4, ProtoICMP, 0, 0)}},
		{"echo6", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6, ICMPType: 128, L3: 14, L4: 54, End: 66, Tuple: with(tuple6, ProtoICMPv6, 77, 0)}},
		{"echo6-reply", Layers{EtherType: TypeIPv6, Kind: KindL4, Flags: v6, ICMPType: 129, L3: 14, L4: 54, End: 66, Tuple: with(tuple6, ProtoICMPv6, 0, 77)}},
		{"ns6", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6, ICMPType: 135, L3: 14, L4: 54, End: 86, Tuple: with(tuple6, ProtoICMPv6, 0, 0)}},
		{"too-big6-tcp6-8-bytes", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6 | FlagICMPError, ICMPType: 2, L3: 14, L4: 54, End: 110, Tuple: with(tuple6, ProtoICMPv6, 0, 0)}},
		{"igmp", Layers{EtherType: TypeIPv4, Kind: KindIP, Flags: FlagDontFragment, L3: 14, L4: 34, End: 42, Tuple: with(tuple4, 2, 0, 0)}},
		{"sctp", Layers{EtherType: TypeIPv4, Kind: KindL4, Flags: FlagDontFragment, L3: 14, L4: 34, End: 46, Tuple: with(tuple4, ProtoSCTP, 1234, 5678)}},
		{"no-next-header", Layers{EtherType: TypeIPv6, Kind: KindIP, Flags: v6, L3: 14, L4: 54, End: 54, Tuple: with(tuple6, 59, 0, 0)}},
		{"arp", Layers{EtherType: TypeARP, Kind: KindARP, L3: 14, End: 42}},
		{"arp-padded", Layers{EtherType: TypeARP, Kind: KindARP, L3: 14, End: 42}},
		{"arp-qinq", Layers{EtherType: TypeARP, VLANs: 2, Kind: KindARP, L3: 22, End: 50}},
		{"lldp", Layers{EtherType: 0x88cc, L3: 14, End: 23}},
		{"mpls", Layers{EtherType: 0x8847, L3: 14, End: 81}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Dst, c.want.Src = macB, macA
			if c.want.Kind >= KindIP {
				c.want.TTL = 64
			}
			got := Layers{Kind: 9, Flags: 0xff, L4: 99, FragID: 1, Tuple: Tuple{SrcPort: 1}} // of an earlier frame
			if !Parse(shapeNamed(t, c.name), &got) {
				t.Fatal("malformed")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestParse8023(t *testing.T) {
	var l Layers
	if b := shapeNamed(t, "stp"); !Parse(b, &l) || l.Kind != KindL2 || l.EtherType != 0x26 || l.L3 != 14 || !l.Dst.IsReserved() {
		t.Errorf("STP frame = %+v, want KindL2 to a reserved group", l)
	}
}

// TestParseTruncated cuts every shape at every length: what the headers
// announce must be there, and padding need not.
func TestParseTruncated(t *testing.T) {
	for _, s := range shapes(t) {
		var whole Layers
		if !Parse(s.frame, &whole) {
			t.Errorf("%s: malformed", s.name)
			continue
		}
		need := int(whole.L3) + 1
		if whole.Kind != KindL2 {
			need = int(whole.End)
		}
		for n := 0; n <= len(s.frame); n++ {
			if n > 200 && n < len(s.frame)-200 {
				continue
			}
			var l Layers
			if got, want := Parse(exact(s.frame[:n]), &l), n >= need; got != want {
				t.Errorf("%s cut to %d of %d bytes: Parse = %v, want %v", s.name, n, len(s.frame), got, want)
			}
			if want := (Layers{}); n < EthernetLen && l != want {
				t.Errorf("%s cut to %d bytes: layers %+v left over", s.name, n, l)
			}
		}
	}
}

// TestF32F33ParseMalformed holds rows C-30, C-36, F-32 and N-89 of the corpus of
// malformed frames, one byte away from a good one each.
func TestF32F33ParseMalformed(t *testing.T) {
	type edit func(b []byte) []byte
	set := func(at int, v ...byte) edit {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	options := func(o ...byte) edit { // into tcp4-options, whose options are 4 bytes at 34
		return set(34, o...)
	}
	chain := func(first byte, c ...byte) edit { // extension headers into tcp6
		return func(b []byte) []byte { return eth(TypeIPv6, extended(b[14:], first, c)) }
	}
	nine := bytes.Repeat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, 9)
	nine[64] = ProtoTCP
	mapped := AddrFrom(c4)

	for _, c := range []struct {
		name  string
		shape string
		edit  edit
	}{
		{"C-30 IHL 4", "tcp4", set(14, 0x44)},
		{"C-30 IHL 4 of an opaque protocol", "igmp", set(14, 0x44)},
		{"C-30 IHL 0", "tcp4", set(14, 0x40)},
		{"C-30 IHL beyond the total length", "udp4-empty", set(14, 0x48)},
		{"C-30 IHL beyond the frame", "udp4-empty", set(14, 0x4f)},
		{"C-30 total length below IHL", "tcp4", set(16, 0, 19)},
		{"C-30 total length beyond the frame", "tcp4", set(16, 0, 64)},
		{"F-32 total length 0", "tcp4", set(16, 0, 0)},
		{"F-32 total length 65535", "tcp4", set(16, 0xff, 0xff)},
		{"F-32 version 5", "tcp4", set(14, 0x55)},
		{"F-32 version 6 in an IPv4 frame", "tcp4", set(14, 0x65)},
		{"F-32 version 4 in an IPv6 frame", "tcp6", set(14, 0x40)},
		{"C-36 TCP header cut by the total length", "tcp4", set(16, 0, 39)},
		{"C-36 TCP data offset 4", "tcp4", set(14+20+12, 0x40)},
		{"C-36 TCP data offset 0", "tcp6", set(14+40+12, 0x00)},
		{"C-36 TCP data offset beyond the packet", "tcp4-syn", set(14+20+12, 0x70)},
		{"C-36 TCP of no bytes", "tcp4", set(16, 0, 20)},
		{"F-32 UDP header cut by the total length", "udp4", set(16, 0, 27)},
		{"F-32 UDP length 7", "udp4", set(14+20+4, 0, 7)},
		{"F-32 UDP length 0", "udp6", set(14+40+4, 0, 0)},
		{"F-32 UDP length beyond the packet", "udp4", set(14+20+4, 0, 32)},
		{"F-32 UDP length beyond the packet 6", "udp6", set(14+40+4, 0, 32)},
		{"C-36 ICMP of 7 bytes", "echo4", set(16, 0, 27)},
		{"C-36 ICMPv6 of 4 bytes", "echo6", set(18, 0, 4)},
		{"ICMPv6 over IPv4", "echo4", set(23, ProtoICMPv6)},
		{"ICMP over IPv6", "echo6", set(20, ProtoICMP)},
		{"F-32 loose source route", "tcp4-options", options(131, 3, 4, 0)},
		{"F-32 strict source route", "tcp4-options", options(137, 3, 4, 0)},
		{"F-32 source route behind a no-operation", "tcp4-options", options(1, 131, 3, 4)},
		{"F-32 record route of 2 bytes", "tcp4-options", options(7, 2, 0, 0)},
		{"F-32 record route pointer 3", "tcp4-options", options(7, 4, 3, 0)},
		{"F-32 timestamp of 3 bytes", "tcp4-options", options(68, 3, 5, 0)},
		{"F-32 timestamp pointer 4", "tcp4-options", options(68, 4, 4, 0)},
		{"F-32 option of length 0", "tcp4-options", options(148, 0, 0, 0)},
		{"F-32 option of length 1", "tcp4-options", options(148, 1, 0, 0)},
		{"F-32 option beyond the header", "tcp4-options", options(148, 5, 0, 0)},
		{"F-32 option without length", "tcp4-options", options(1, 1, 1, 148)},
		{"F-32 ping of death", "udp4-fragment-last", set(20, 0x1f, 0xff)},
		{"F-32 ping of death 6", "udp6-fragment-last", set(14+40+2, 0xff, 0xf8)},
		{"F-32 fragment of no bytes", "udp4-fragment-last", set(16, 0, 20)},
		{"F-32 fragment of no bytes 6", "udp6-fragment-last", set(18, 0, 8)},
		{"F-32 fragment of 12 bytes with more to come", "udp4-fragment-last", set(20, 0x20, 12)},
		{"F-32 fragment of 12 bytes with more to come 6", "udp6-fragment-last", set(14+40+3, 97)},
		{"F-32 tiny fragment: TCP at 8", "udp4-fragment-middle", func(b []byte) []byte { b[21], b[23] = 1, ProtoTCP; return b }},
		{"F-32 tiny fragment: TCP at 16", "udp4-fragment-middle", func(b []byte) []byte { b[21], b[23] = 2, ProtoTCP; return b }},
		{"F-32 tiny fragment: TCP at 8, IPv6", "udp6-fragment-middle", func(b []byte) []byte { b[54], b[57] = ProtoTCP, 9; return b }},
		{"F-32 first fragment without TCP header", "tcp4-fragment-first", set(16, 0, 36)},
		{"N-89 first fragment without UDP header", "udp6-fragment-first", func(b []byte) []byte { b[54] = 60; b[63] = 40; return b }},
		{"N-89 nine extension headers", "tcp6", chain(60, nine...)},
		{"N-89 routing header 0", "tcp6", chain(43, 6, 2, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8)},
		{"N-89 routing header 0 that has arrived", "tcp6", chain(43, 6, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8)},
		{"N-89 two fragment headers", "tcp6", chain(44, 44, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 1)},
		{"F-32 hop-by-hop options twice", "tcp6", chain(0, 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0)},
		{"F-32 hop-by-hop options behind others", "tcp6", chain(60, 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0)},
		{"F-32 hop-by-hop option beyond its header", "tcp6", chain(0, 6, 0, 5, 5, 0, 0, 0, 0)},
		{"F-32 hop-by-hop option without length", "tcp6", chain(0, 6, 0, 1, 3, 0, 0, 0, 5)},
		{"F-32 hop-by-hop header beyond the packet", "tcp6", chain(0, 6, 255, 1, 4, 0, 0, 0, 0)},
		{"F-32 destination option beyond its header", "tcp6", chain(60, 6, 0, 5, 5, 0, 0, 0, 0)},
		{"F-32 jumbogram", "tcp6", chain(0, 6, 0, 0xc2, 4, 0, 1, 0, 0)},
		{"F-32 payload length 0", "tcp6", set(18, 0, 0)},
		{"F-32 payload length 0 with hop-by-hop options", "tcp6-hop-by-hop", set(18, 0, 0)},
		{"F-32 payload length beyond the frame", "tcp6", set(18, 0, 44)},
		{"IPv4-mapped source", "tcp6", set(14+8, mapped[:]...)},
		{"IPv4-mapped destination", "tcp6", set(14+24, mapped[:]...)},
		{"ARP with 8-byte hardware addresses", "arp-padded", set(18, 8)},
		{"ARP with 16-byte protocol addresses", "arp-padded", set(19, 16)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Layers
			b := shapeNamed(t, c.shape)
			if !Parse(b, &l) {
				t.Fatalf("%s itself is malformed", c.shape)
			}
			if Parse(exact(c.edit(b)), &l) {
				t.Errorf("accepted: %+v", l)
			}
		})
	}
}

// TestParseTolerated holds what looks odd and must pass.
func TestParseTolerated(t *testing.T) {
	for _, c := range []struct {
		name, shape string
		at          int
		bytes       []byte
		kind        Kind
	}{
		{"UDP length below the payload (RFC 9868)", "udp4", 38, []byte{0, 20}, KindL4},
		{"TTL 0", "tcp4", 22, []byte{0}, KindL4},
		{"all TCP flags", "tcp4", 47, []byte{0xff}, KindL4},
		{"destination is the source", "tcp4", 30, c4.AsSlice(), KindL4},
		{"reserved IPv4 flag (RFC 3514)", "tcp4", 20, []byte{0x80}, KindL4},
		{"record route", "tcp4-options", 34, []byte{7, 3, 4, 0}, KindL4},
		{"options that end early", "tcp4-options", 34, []byte{0, 131, 0, 0}, KindL4},
		{"ARP of another hardware", "arp", 14, []byte{0, 6}, KindL2},
		{"reserved bits of the fragment header", "udp6-fragment-first", 57, []byte{7}, KindL4},
		{"fragment offset of an unknown protocol", "udp4-fragment-middle", 23, []byte{200}, KindIP},
	} {
		var l Layers
		b := shapeNamed(t, c.shape)
		copy(b[c.at:], c.bytes)
		if !Parse(b, &l) || l.Kind != c.kind {
			t.Errorf("%s: %+v, want kind %d", c.name, l, c.kind)
		}
	}
}

func TestParseQuoted(t *testing.T) {
	sizes := map[string]uint32{"tcp4-8-bytes": 28, "tcp4-17-bytes": 37, "tcp4": 63, "udp4": 51, "rfc4884": 51, "echo4": 51, "sctp4": 32, "fragment4": 68}
	for name, size := range sizes {
		var l, q Layers
		b := shapeNamed(t, "unreachable4-"+name)
		if !Parse(b, &l) || !ParseQuoted(b, &l, &q) {
			t.Errorf("%s: not parsed", name)
			continue
		}
		want := Layers{EtherType: TypeIPv4, TTL: 64, Kind: KindL4, Flags: FlagDontFragment, L3: 42, L4: 62, End: 42 + size,
			Tuple: Tuple{Src: AddrFrom(c4), Dst: AddrFrom(w4), SrcPort: 50000, DstPort: 60000, Proto: ProtoUDP}}
		switch name {
		case "tcp4-8-bytes", "tcp4-17-bytes", "tcp4":
			want.Tuple.SrcPort, want.Tuple.DstPort, want.Tuple.Proto = 40000, 443, ProtoTCP
			if name == "tcp4" {
				want.TCPFlags = 0x10
			}
		case "echo4":
			want.ICMPType, want.Tuple.SrcPort, want.Tuple.DstPort, want.Tuple.Proto = 8, 77, 0, ProtoICMP
		case "sctp4":
			want.Tuple.SrcPort, want.Tuple.DstPort, want.Tuple.Proto = 0, 0, ProtoSCTP
		case "fragment4":
			want.Kind, want.Flags, want.L4, want.FragID = KindIP, FlagFragment, 0, 0x1234
			want.Tuple.SrcPort, want.Tuple.DstPort = 0, 0
		}
		if diff := cmp.Diff(want, q); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// TestParseQuotedExtensions: a quote ends where RFC 4884 says, though the packet
// it was cut from went on.
func TestParseQuotedExtensions(t *testing.T) {
	for _, name := range []string{"unreachable4-rfc4884-cut", "time-exceeded6-rfc4884-cut"} {
		var l, q Layers
		b := shapeNamed(t, name)
		if !Parse(b, &l) || !ParseQuoted(b, &l, &q) {
			t.Errorf("%s: not parsed", name)
			continue
		}
		if want := uint32(q.L3) + 128; q.End != want || q.End != l.End-12 || q.Kind != KindL4 {
			t.Errorf("%s: quote ends at %d, want %d: %+v", name, q.End, want, q)
		}
	}
}

// TestParseQuotedTruncated cuts the quote at every length: ports are there with
// 8 bytes of transport header, as RFC 792 promises, and not with fewer.
func TestParseQuotedTruncated(t *testing.T) {
	for name, need := range map[string]int{"unreachable4-tcp4": ipv4Len + 8, "unreachable4-udp4": ipv4Len + 8, "unreachable4-echo4": ipv4Len + 8,
		"unreachable4-fragment4": ipv4Len, "too-big6-tcp6": ipv6Len + 8, "too-big6-udp6": ipv6Len + 8, "too-big6-echo6": ipv6Len + 8,
		"too-big6-hop-by-hop6": ipv6Len + 16, "too-big6-fragment6": ipv6Len + 8} {
		b := shapeNamed(t, name)
		var l, q Layers
		if !Parse(b, &l) {
			t.Fatalf("%s: malformed", name)
		}
		start := int(l.L4) + icmpLen
		for n := start; n <= len(b); n++ {
			cut := exact(b[:n])
			if l.Flags&FlagIPv6 != 0 {
				be.PutUint16(cut[18:], uint16(n-54))
			} else {
				be.PutUint16(cut[16:], uint16(n-14))
			}
			var l Layers
			if !Parse(cut, &l) {
				t.Fatalf("%s with %d quoted bytes: malformed", name, n-start)
			}
			if got, want := ParseQuoted(cut, &l, &q), n-start >= need; got != want {
				t.Errorf("%s with %d quoted bytes: ParseQuoted = %v, want %v", name, n-start, got, want)
			}
		}
	}
}

// TestParseQuotedOtherFamily: an ICMP error quotes a packet of its own family.
func TestParseQuotedOtherFamily(t *testing.T) {
	var l, q Layers
	v6 := shapeNamed(t, "tcp6")[14:]
	b := eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 3 << 8}, payload(v6)))
	if !Parse(b, &l) || ParseQuoted(b, &l, &q) {
		t.Errorf("ICMP that quotes IPv6: %+v, want refused", q)
	}
}
