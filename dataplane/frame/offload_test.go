package frame_test

import (
	"encoding/binary"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// vnet is a virtio_net_hdr.
func vnet(flags, gso uint8, hdrLen, size, start, offset uint16) []byte {
	h := []byte{flags, gso}
	for _, v := range []uint16{hdrLen, size, start, offset} {
		h = binary.NativeEndian.AppendUint16(h, v)
	}
	return h
}

// A hostile virtio-net header is refused: what cannot be true of a frame of the
// length, and what cannot be true of the packet in it.
func TestC43HostileVnetHeader(t *testing.T) {
	tcp := switchtest.TCP("c1", 5000, switchtest.World+":80", switchtest.ACK, "payload")
	udp := switchtest.UDP("c1", 5000, switchtest.World+":80", "payload")
	echo := switchtest.Bytes(switchtest.From("c1", switchtest.World, switchtest.Packet{Src: "10.1.0.11", Proto: header.ProtoICMP, Type: 8}))
	pieces := switchtest.Fragment(switchtest.UDP("c1", 5000, switchtest.World+":80", string(make([]byte, 100))), 64)
	arp := append(append([]byte(nil), tcp[:12]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 11, 10, 1, 0, 11, 0, 0, 0, 0, 0, 0, 10, 1, 0, 12)
	const l4 = header.EthernetLen + 20
	for _, tc := range []struct {
		name  string
		frame []byte
		vnet  []byte
		ok    bool
	}{
		{"none", tcp, vnet(0, 0, 0, 0, 0, 0), true},
		{"partial tcp", tcp, vnet(1, 0, 0, 0, l4, 16), true},
		{"partial udp", udp, vnet(1, 0, 0, 0, l4, 6), true},
		{"tcp segments", tcp, vnet(1, 1, 54, 1448, l4, 16), true},
		{"udp segments", udp, vnet(1, 5, 42, 1400, l4, 6), true},
		{"header length is a hint", tcp, vnet(1, 1, 0xffff, 1448, l4, 16), true},
		{"verified", tcp, vnet(2, 0, 0, 0, 0, 0), true},
		{"in the payload of a tunnel", udp, vnet(1, 0, 0, 0, l4+8, 2), true},

		{"segments of 0 bytes", tcp, vnet(1, 1, 54, 0, l4, 16), false},
		{"segments of 1 byte", tcp, vnet(1, 1, 54, 1, l4, 16), false},
		{"segments without a checksum", tcp, vnet(0, 1, 54, 1448, 0, 0), false},
		{"unknown segmentation", tcp, vnet(1, 7, 54, 1448, l4, 16), false},
		{"congestion flag alone", tcp, vnet(1, 0x80, 54, 1448, l4, 16), false},
		{"field behind the frame", tcp, vnet(1, 0, 0, 0, uint16(len(tcp)-1), 0), false},
		{"start and offset overflow 16 bits", tcp, vnet(1, 0, 0, 0, 0xffff, 0xffff), false},
		{"field in the Ethernet header", tcp, vnet(1, 0, 0, 0, 0, 12), false},
		{"field on the source address", tcp, vnet(1, 0, 0, 0, header.EthernetLen, 12), false},
		{"field on the ports", tcp, vnet(1, 0, 0, 0, l4, 0), false},
		{"field of the other protocol", udp, vnet(1, 0, 0, 0, l4, 2), false},
		{"field within the tcp header", tcp, vnet(1, 0, 0, 0, l4+2, 2), false},
		{"checksum of icmp", echo, vnet(1, 0, 0, 0, l4, 2), false},
		{"later fragment", pieces[1], vnet(1, 0, 0, 0, l4, 6), false},
		{"no packet", arp, vnet(1, 0, 0, 0, header.EthernetLen, 14), false},
		{"tcp segments of udp", udp, vnet(1, 1, 42, 1448, l4, 6), false},
		{"udp segments of tcp", tcp, vnet(1, 5, 54, 1448, l4, 16), false},
		{"ipv6 segments of ipv4", tcp, vnet(1, 4, 54, 1448, l4, 16), false},
	} {
		var l header.Layers
		if !header.Parse(tc.frame, &l) {
			t.Fatalf("%s: the frame is malformed", tc.name)
		}
		o, ok := frame.DecodeVnetHdr(tc.vnet, len(tc.frame))
		if ok = ok && o.Fits(&l); ok != tc.ok {
			t.Errorf("%s: accepted is %v, want %v", tc.name, ok, tc.ok)
		}
	}
}

// One frame must not become thousands: the sender would keep the switch busy for
// milliseconds.
func TestC43TinySegmentsOfLargeFrames(t *testing.T) {
	const l4 = header.EthernetLen + 20
	for _, tc := range []struct {
		gso    uint8
		size   uint16
		length int
		ok     bool
	}{
		{1, 8, 60_000, false}, {4, 8, 60_000, false}, {1 | 0x80, 8, 60_000, false}, {1, 1, 60_000, false},
		{1, 100, 65_000, false}, {1, 128, 65_549, false}, {1, 500, 65_549, true}, {4, 500, 65_549, true}, {1, 536, 65_549, true},
		{1, 8, l4 + 20 + 8*136, true}, {1, 8, l4 + 20 + 8*136 + 1, false},
		{5, 1, l4 + 8 + 128, true}, {5, 1, l4 + 8 + 129, false}, {5, 400, 60_000, false}, {3, 8, 60_000, false},
	} {
		if _, ok := frame.DecodeVnetHdr(vnet(1, tc.gso, 0, tc.size, l4, 16), tc.length); ok != tc.ok {
			t.Errorf("gso type %d of %d bytes, %d long: accepted is %v, want %v", tc.gso, tc.size, tc.length, ok, tc.ok)
		}
	}
}

// FuzzVnetHeader: what is accepted survives encoding, and finishing its checksum
// leaves every header as the switch saw it.
func FuzzVnetHeader(f *testing.F) {
	for _, c := range switchtest.Corpus("c1") {
		f.Add(vnet(1, 0, 0, 0, header.EthernetLen+20, 6), c.Frame)
		f.Add(vnet(1, 1, 54, 1448, header.EthernetLen+20, 16), c.Frame)
		f.Add(vnet(1, 5, 42, 1, header.EthernetLen+40, 6), c.Frame)
	}
	f.Fuzz(func(t *testing.T, h, b []byte) {
		var l header.Layers
		if len(h) < frame.VnetHdrLen || !header.Parse(b, &l) {
			return
		}
		o, ok := frame.DecodeVnetHdr(h, len(b))
		if !ok {
			return
		}
		var again [frame.VnetHdrLen]byte
		frame.EncodeVnetHdr(again[:], o)
		if o2, ok := frame.DecodeVnetHdr(again[:], len(b)); !ok || o2 != o {
			t.Errorf("%+v became %+v, %v", o, o2, ok)
		}
		if o.Csum != frame.CsumPartial || !o.Fits(&l) {
			return
		}
		header.FinishChecksum(b, int(o.CsumStart), int(o.CsumOffset))
		was := l
		if o.CsumStart == l.L4 && !header.Parse(b, &l) || o.CsumStart == l.L4 && l != was {
			t.Errorf("finishing %+v made %+v of %+v", o, l, was)
		}
		if l.Kind == header.KindL4 {
			// Wherever the field is, ports and addresses stand.
			header.Parse(b, &l)
			if l.Tuple != was.Tuple {
				t.Errorf("finishing %+v made %v of %v", o, l.Tuple, was.Tuple)
			}
		}
	})
}
