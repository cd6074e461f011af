package frame_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

func tagged(f []byte) []byte {
	return append(append(bytes.Clone(f[:12]), 0x81, 0, 0, 10), f[12:]...)
}

// The segments of a super-frame hold its payload, in order, and each is as a
// sender would have made it.
func TestSegments(t *testing.T) {
	payload := make([]byte, 5000)
	rand.NewChaCha8([32]byte{1}).Read(payload)
	p4 := switchtest.From("c1", switchtest.World+":80", switchtest.Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Seq: 0xffffff00, IPID: 0xfffe, Payload: payload,
		Flags: switchtest.ACK | switchtest.PSH | switchtest.FIN, Options: []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}})
	p6 := p4
	p6.Src, p6.Dst = "[fd00:1::11]:5000", "[2001:db8::1]:80"
	udp, udp6 := p4, p6
	udp.Proto, udp6.Proto = header.ProtoUDP, header.ProtoUDP
	udp.Options, udp6.Options = nil, nil
	for name, tc := range map[string]struct {
		f     []byte
		gso   uint8
		proto uint8
	}{
		"tcp":         {switchtest.Bytes(p4), frame.GSOTCPv4 | frame.GSOECN, header.ProtoTCP},
		"tcp, tagged": {tagged(switchtest.Bytes(p4)), frame.GSOTCPv4, header.ProtoTCP},
		"tcp6":        {switchtest.Bytes(p6), frame.GSOTCPv6, header.ProtoTCP},
		"udp":         {switchtest.Bytes(udp), frame.GSOUDPL4, header.ProtoUDP},
		"udp6":        {switchtest.Bytes(udp6), frame.GSOUDPL4, header.ProtoUDP},
	} {
		t.Run(name, func(t *testing.T) {
			var l header.Layers
			if !header.Parse(tc.f, &l) {
				t.Fatal("malformed")
			}
			if tc.gso&frame.GSOECN != 0 {
				tc.f[l.L4+13] |= 0x80
			}
			o := frame.Offload{Csum: frame.CsumPartial, CsumStart: l.L4, CsumOffset: 16, GSOType: tc.gso, GSOSize: 1400}
			if tc.proto == header.ProtoUDP {
				o.CsumOffset = 6
			}
			var got []byte
			n := 0
			o.Segments(tc.f, func(b []byte) {
				var s header.Layers
				if !header.Parse(b, &s) || int(s.End) != len(b) {
					t.Fatalf("segment %d is malformed: %x", n, b)
				}
				data := b[header.PayloadOffset(b, &s):]
				switch {
				case tc.proto == header.ProtoTCP && binary.BigEndian.Uint32(b[s.L4+4:]) != 0xffffff00+uint32(len(got)):
					t.Errorf("segment %d: sequence number %x", n, binary.BigEndian.Uint32(b[s.L4+4:]))
				case tc.proto == header.ProtoTCP && s.TCPFlags != map[bool]uint8{false: 0x10, true: 0x19}[n == 3]|b2i(tc.gso&frame.GSOECN != 0 && n == 0)*0x80:
					t.Errorf("segment %d: flags %x", n, s.TCPFlags)
				case s.Flags&header.FlagIPv6 == 0 && binary.BigEndian.Uint16(b[s.L3+4:]) != 0xfffe+uint16(n):
					t.Errorf("segment %d: identification %x", n, b[s.L3+4:s.L3+6])
				case n < 3 && len(data) != 1400:
					t.Errorf("segment %d: %d bytes", n, len(data))
				}
				checked(t, b)
				got = append(got, data...)
				n++
			})
			if n != 4 || !bytes.Equal(got, payload) {
				t.Errorf("%d segments of %d bytes, want 4 of %d", n, len(got), len(payload))
			}
		})
	}
}

func b2i(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// checked compares all checksums and lengths with those that gopacket computes.
func checked(t *testing.T, b []byte) {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	var ls []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			_ = s.SetNetworkLayerForChecksum(p.NetworkLayer())
		}
		ls = append(ls, l.(gopacket.SerializableLayer))
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes(), b) {
		t.Errorf("got  %x\nwant %x", b[:80], buf.Bytes()[:80])
	}
}

// A UFO frame leaves as the fragments of one datagram; what cannot be cut is
// left alone.
func TestSegmentsOfUFO(t *testing.T) {
	f := switchtest.UDP("c1", 5000, switchtest.World+":80", string(make([]byte, 3000)))
	o := frame.Offload{Csum: frame.CsumPartial, CsumStart: 34, CsumOffset: 6, GSOType: frame.GSOUDP, GSOSize: 1480}
	n := 0
	o.Segments(f, func(b []byte) {
		var s header.Layers
		if n++; !header.Parse(b, &s) || s.Flags&(header.FlagFragment|header.FlagFirstFragment) == 0 {
			t.Errorf("fragment %d: %x", n, b[:40])
		}
	})
	if n != 3 {
		t.Errorf("%d fragments, want 3", n)
	}
	for _, bad := range [][]byte{nil, f[:30], switchtest.TCP("c1", 1, switchtest.World+":80", 0, "x")} {
		o.Segments(bad, func(b []byte) { t.Errorf("%x was cut", bad) })
	}
}
