package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var (
	macA, macB = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	ipA, ipB   = net.IP{10, 88, 0, 2}, net.IP{10, 88, 0, 3}
	ip6A, ip6B = net.ParseIP("fd00::2"), net.ParseIP("fd00::3")
)

func packet(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func eth(typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: typ}
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, SrcIP: ipA, DstIP: ipB, Protocol: proto}
}

func ip6(proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: ip6A, DstIP: ip6B, NextHeader: proto}
}

func TestDescribe(t *testing.T) {
	for _, tt := range []struct {
		frame []byte
		want  string
	}{
		{packet(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP),
			&layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Seq: 7, Window: 64240}),
			"IP 10.88.0.2.40000 > 10.88.0.3.80: Flags [S], seq 7, win 64240, length 0"},
		{packet(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP),
			&layers.TCP{SrcPort: 80, DstPort: 40000, PSH: true, ACK: true, Seq: 7, Ack: 9, Window: 10},
			gopacket.Payload("HTTP/1.1 200 OK\r\n\r\n")),
			"IP 10.88.0.2.80 > 10.88.0.3.40000: Flags [P.], seq 7:26, ack 9, win 10, length 19: HTTP: HTTP/1.1 200 OK"},
		{packet(t, eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 5000, DstPort: 53}, gopacket.Payload("abcd")),
			"IP6 fd00::2.5000 > fd00::3.53: UDP, length 4"},
		{packet(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 1}, gopacket.Payload("12345678")),
			"IP 10.88.0.2 > 10.88.0.3: ICMP echo request, id 5, seq 1, length 16"},
		{packet(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}),
			"IP 10.88.0.2 > 10.88.0.3: ICMP destinationunreachable(port), length 8"},
		{packet(t, eth(layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: macA, SourceProtAddress: ipA, DstHwAddress: make([]byte, 6), DstProtAddress: ipB}),
			"ARP, Request who-has 10.88.0.3 tell 10.88.0.2"},
		{packet(t, eth(layers.EthernetType(0x88b5)), gopacket.Payload("x")),
			"02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x88b5, length 60"},
		{nil, "malformed, length 0"},
		{[]byte{1, 2, 3}, "malformed, length 3"},
	} {
		if got := new(hostNames).describe(tt.frame, len(tt.frame)); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// stream is a capture of n packets with lost ones reported at its end.
func stream(t testing.TB, n int, lost uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{Name: "web rx", LinkType: layers.LinkTypeEthernet}, pcapgo.NgWriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddInterface(pcapgo.NgInterface{Name: "web tx", LinkType: layers.LinkTypeEthernet}); err != nil {
		t.Fatal(err)
	}
	frame := packet(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 2})
	for i := range n {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1, int64(i)), CaptureLength: len(frame), Length: len(frame), InterfaceIndex: i % 2}
		opts := pcapgo.NgPacketOptions{Comments: []string{"out veth1 (db)"}}
		if err := w.WritePacketWithOptions(ci, frame, opts); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{PacketsDropped: lost, PacketsReceived: uint64(n)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBlockWriter cuts a stream into pieces of every small size and at every
// place: what comes out is whole blocks.
func TestBlockWriter(t *testing.T) {
	whole := stream(t, 3, 5)
	for size := 1; size < 64; size++ {
		var out bytes.Buffer
		w := &blockWriter{w: &out}
		for piece := whole; len(piece) > 0; piece = piece[min(size, len(piece)):] {
			if _, err := w.Write(piece[:min(size, len(piece))]); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(whole, out.Bytes()); diff != "" || w.packets != 3 || w.drops() != 5 {
			t.Fatalf("pieces of %d: got %d packets, %d dropped, want 3, 5\n%s", size, w.packets, w.drops(), diff)
		}
	}
	for cut := range whole {
		var out, lines bytes.Buffer
		if _, err := (&blockWriter{w: &out}).Write(whole[:cut]); err != nil {
			t.Fatal(err)
		}
		if err := printPackets(&lines, &out, false); err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
}

func TestBlockWriterLimit(t *testing.T) {
	var out bytes.Buffer
	enough := 0
	w := &blockWriter{w: &out, limit: 2, enough: func() { enough++ }}
	if _, err := w.Write(stream(t, 3, 4)); err != nil || w.packets != 2 || enough != 1 || w.drops() != 4 {
		t.Errorf("got %d packets, %d dropped, %d times enough, %v; want 2, 4, 1", w.packets, w.drops(), enough, err)
	}
}

func TestBlockWriterRefusesOther(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 200 OK\r\n", strings.Repeat("\x0a\x0d\x0d\x0a", 4), strings.Repeat("\x00", 16)} {
		if _, err := (&blockWriter{w: io.Discard}).Write([]byte(text)); !errors.Is(err, errNotPcapng) {
			t.Errorf("%q: got %v, want %v", text, err, errNotPcapng)
		}
	}
}

func FuzzBlockWriter(f *testing.F) {
	whole := stream(f, 2, 1)
	f.Add(whole, uint16(7))
	f.Add(whole[:40], uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		var out bytes.Buffer
		w := &blockWriter{w: &out}
		step := int(size)%200 + 1
		for piece := data; len(piece) > 0; piece = piece[min(step, len(piece)):] {
			if _, err := w.Write(piece[:min(step, len(piece))]); err != nil {
				return
			}
		}
		if !bytes.HasPrefix(data, out.Bytes()) {
			t.Errorf("what came out is not the beginning of what went in")
		}
	})
}

func TestPrintPackets(t *testing.T) {
	var out bytes.Buffer
	if err := printPackets(&out, bytes.NewReader(stream(t, 2, 0)), false); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1, 0).Local().Format("15:04:05.000000")
	want := at + " from web: IP 10.88.0.2.1 > 10.88.0.3.2: UDP, length 0 | out veth1 (db)\n" +
		at + " to web: IP 10.88.0.2.1 > 10.88.0.3.2: UDP, length 0 | out veth1 (db)\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// brokenPipe is a reader of our output that went away.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestCapture(t *testing.T) {
	whole := stream(t, 3, 5)
	for _, tt := range []struct {
		name   string
		args   []string
		out    io.Writer
		stderr string
		size   int // of stdout
	}{
		{"stream", []string{"-w", "-"}, nil, "3 packets captured, 5 dropped\n", len(whole)},
		{"limit", []string{"-c", "1"}, nil, "1 packet captured, 5 dropped\n",
			len("15:04:05.000000 from web: IP 10.88.0.2.1 > 10.88.0.3.2: UDP, length 0 | out veth1 (db)\n")},
		{"broken pipe", []string{"-w", "-"}, brokenPipe{}, "", 0},
		{"broken pipe of lines", nil, brokenPipe{}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newFakeDaemon(t, map[string]string{"GET /v1/capture?point=rx&point=tx&target=web": "200\n" + string(whole)})
			var stdout, stderr bytes.Buffer
			if tt.out == nil {
				tt.out = &stdout
			}
			code := run(t.Context(), append([]string{"capture", "web"}, tt.args...), nil, tt.out, &stderr)
			if code != 0 || stdout.Len() != tt.size || !strings.HasSuffix(stderr.String(), tt.stderr) {
				t.Errorf("got exit code %d, %d bytes, %q; want 0, %d, %q", code, stdout.Len(), stderr.String(), tt.size, tt.stderr)
			}
		})
	}
}
