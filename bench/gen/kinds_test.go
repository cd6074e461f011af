package gen

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestEachFrameIsAnother: each frame of a stream is one of its own, and has right checksums.
func TestEachFrameIsAnother(t *testing.T) {
	base := FrameSpec{
		Src: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		From: netip.MustParseAddrPort("10.88.0.2:4000"), To: netip.MustParseAddrPort("10.88.0.3:9"), Size: 70,
	}
	decode := func(f FrameSpec) (p [2]gopacket.Packet) {
		st, err := newStream(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p {
			st.vary(st.frames[i], uint64(i)+7)
			p[i] = gopacket.NewPacket(st.frames[i], layers.LayerTypeEthernet, gopacket.Default)
			if _, mismatches := p[i].VerifyChecksums(); len(mismatches) > 0 {
				t.Errorf("%+v: checksums: %+v", f, mismatches)
			}
		}
		return p
	}
	f := base
	f.Echo = true
	for i, p := range decode(f) {
		if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); !ok || l.TypeCode.Type() != layers.ICMPv4TypeEchoRequest || l.Id != uint16(i)+7 {
			t.Errorf("query %d: %v", i, p)
		}
	}
	f = base
	f.Fragment = true
	for i, p := range decode(f) {
		if l := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); l.Flags != layers.IPv4MoreFragments || l.Id != uint16(i)+7 || len(l.Payload)%8 != 0 {
			t.Errorf("fragment %d: %v", i, p)
		}
	}
	f = base
	f.ARP, f.Hops = true, 100
	for i, p := range decode(f) {
		if l, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); !ok || l.Operation != layers.ARPRequest || l.DstProtAddress[3] != byte(i)+10 {
			t.Errorf("question %d: %v", i, p)
		}
	}
	f = base
	f.SYN, f.ACK, f.Flows = true, true, 100
	for i, p := range decode(f) {
		if l, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); !ok || !l.SYN || !l.ACK || l.SrcPort != layers.TCPPort(4007+i) {
			t.Errorf("SYN-ACK %d: %v", i, p)
		}
	}
}
