//go:build !race

package web_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/control/pcapng"
)

// built is a frame of layers with right lengths and checksums.
func built(t *testing.T, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var ip gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			ip = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(ip); err != nil {
				t.Fatal(err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// decoding holds the page's own decoders against frames that were built, and has
// them read rubbish. It runs in a tab in which the page is open.
func decoding(t *testing.T, b *tab) {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	eth := func(typ layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: mac(1), DstMAC: mac(2), EthernetType: typ}
	}
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
	}
	ip6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("2001:db8:0:1::9")}
	}
	arp := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: mac(1), SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: mac(0), DstProtAddress: []byte{10, 0, 0, 2},
	}
	dns := &layers.DNS{ID: 7, RD: true, Questions: []layers.DNSQuestion{{Name: []byte("db.example"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN}}}
	syn := built(t, eth(0x0800), ip4(6), &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 4294967295, SYN: true, Window: 64240})
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"ARP", built(t, eth(0x0806), arp), "ARP, Request who-has 10.0.0.2 tell 10.0.0.1"},
		{"SYN", syn, "IP 10.0.0.1.4000 > 10.0.0.2.80: Flags [S], seq 4294967295, win 64240, length 0"},
		{"HTTP", built(t, eth(0x0800), ip4(6), &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1, Ack: 9, PSH: true, ACK: true, Window: 500}, gopacket.Payload("GET /x HTTP/1.1\r\n\r\n")),
			"IP 10.0.0.1.4000 > 10.0.0.2.80: Flags [P.], seq 1:20, ack 9, win 500, length 19: HTTP: GET /x HTTP/1.1"},
		{"DNS over IPv6", built(t, eth(0x86dd), ip6(17), &layers.UDP{SrcPort: 5000, DstPort: 53}, dns), "IP6 fd00::1.5000 > 2001:db8:0:1::9.53: DNS asks AAAA db.example."},
		{"ping", built(t, eth(0x0800), ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 6}), "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 5, seq 6, length 8"},
		{"a VLAN", built(t, eth(0x8100), &layers.Dot1Q{VLANIdentifier: 10, Type: 0x0800}, ip4(17), &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("xy")), "IP 10.0.0.1.1 > 10.0.0.2.2: UDP, length 2"},
		{"another protocol", built(t, eth(0x0800), ip4(132), gopacket.Payload("0123456789ab")), "IP 10.0.0.1 > 10.0.0.2: SCTP, length 12"},
		{"a header that is cut", syn[:40], "IP 10.0.0.1 > 10.0.0.2: TCP, length 20"},
		{"no header", syn[:9], "malformed, length 9"},
		{"another ethertype", built(t, eth(0x88cc), gopacket.Payload("lldp")), "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x88cc, length 60"},
	} {
		got := js[string](b, fmt.Sprintf(`import('/js/decode.js').then((m) => { const d = Uint8Array.from(atob('%s'), (c) => c.charCodeAt(0)); return m.decode({ data: d, size: d.length }).line; })`,
			base64.StdEncoding.EncodeToString(tc.data)))
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}

	// Damaged frames, whole and cut: a line for each and no exception.
	rng := rand.New(rand.NewPCG(1, 2))
	var damaged []string
	for range 2000 {
		d := bytes.Clone(syn)
		d = append(d, make([]byte, rng.IntN(40))...)
		for range 1 + rng.IntN(6) {
			d[rng.IntN(len(d))] = byte(rng.Uint32())
		}
		damaged = append(damaged, base64.StdEncoding.EncodeToString(d[:rng.IntN(len(d)+1)]))
	}
	list, err := json.Marshal(damaged)
	if err != nil {
		t.Fatal(err)
	}
	if n := js[int](b, fmt.Sprintf(`import('/js/decode.js').then((m) => %s.filter((s) => {
		const d = Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
		m.dump(d);
		return m.decode({ data: d, size: d.length }).line !== '';
	}).length)`, list)); n != len(damaged) {
		t.Errorf("%d of %d damaged frames have a line", n, len(damaged))
	}
	pcapngInParts(t, b, syn)
}

// pcapngInParts has the page's reader take a stream of ours in parts of every
// size.
func pcapngInParts(t *testing.T, b *tab, data []byte) {
	t.Helper()
	var file bytes.Buffer
	w, err := pcapng.NewWriter(&file, "test")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	for _, err := range []error{
		w.WriteInterface(pcapng.Interface{Name: "web/eth0 (bridge) rx"}),
		w.WritePacket(pcapng.Packet{Time: at, Direction: pcapng.Inbound, Data: data, OrigLen: 1500, Comment: "DNAT here"}),
		w.WriteStatistics(pcapng.Statistics{Interface: 0, Start: at, At: at, Accepted: 9, Dropped: 4}),
		w.WritePacket(pcapng.Packet{Time: at.Add(time.Second), Direction: pcapng.Outbound, Data: data[:41], OrigLen: len(data)}),
		w.WriteStatistics(pcapng.Statistics{Interface: 0, Start: at, At: at, Accepted: 12, Dropped: 7}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{1, 7, 64, file.Len()} {
		got := js[string](b, fmt.Sprintf(`import('/js/pcapng.js').then((m) => {
			const all = Uint8Array.from(atob('%s'), (c) => c.charCodeAt(0)), r = new m.Reader();
			let packets = [], kept = 0;
			for (let i = 0; i < all.length; i += %d) { const got = r.push(all.slice(i, i + %d)); packets.push(...got.packets); kept += got.blocks.length; }
			return JSON.stringify([kept, r.dropped, packets.map((p) => [Math.floor(p.time), p.iface, p.dir, p.data.length, p.size, p.comments.join()])]);
		})`, base64.StdEncoding.EncodeToString(file.Bytes()), size, size))
		want := fmt.Sprintf(`[%d,7,[[1700000000123,"web/eth0 (bridge) rx","from",%d,1500,"DNAT here"],[1700000001123,"web/eth0 (bridge) rx","to",41,%d,""]]]`, file.Len(), len(data), len(data))
		if got != want {
			t.Errorf("in parts of %d: got %s, want %s", size, got, want)
		}
	}
	if got := js[string](b, `import('/js/pcapng.js').then((m) => { try { new m.Reader().push(new Uint8Array(64).fill(255)); return 'read'; } catch (e) { return e.message; } })`); !strings.Contains(got, "not pcapng") {
		t.Errorf("rubbish: %s", got)
	}
}
