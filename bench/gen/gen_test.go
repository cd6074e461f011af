package gen

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestFrameIsWhatItSays(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		size           int
	}{
		{"smallest IPv4", "10.88.0.2:9", "10.88.0.3:9", 64},
		{"odd IPv4", "10.88.0.2:9", "10.88.0.3:9", 65},
		{"large IPv4", "10.88.0.2:4000", "10.88.0.3:9", 1500},
		{"smallest IPv6", "[fd00::2]:9", "[fd00::3]:9", 66},
		{"large IPv6", "[fd00::2]:9", "[fd00::3]:9", 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := FrameSpec{
				Src: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 2},
				From: netip.MustParseAddrPort(c.from), To: netip.MustParseAddrPort(c.to), Size: c.size,
			}
			b, err := f.build()
			if err != nil {
				t.Fatal(err)
			}
			if len(b) != c.size-4 {
				t.Errorf("length: got %d, want %d without the frame check sequence", len(b), c.size-4)
			}
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if e := p.ErrorLayer(); e != nil {
				t.Fatalf("%v\n%s", e.Error(), hex.Dump(b))
			}
			eth := p.LinkLayer().(*layers.Ethernet)
			if eth.SrcMAC.String() != f.Src.String() || eth.DstMAC.String() != f.Dst.String() {
				t.Errorf("got %v to %v, want %v to %v", eth.SrcMAC, eth.DstMAC, f.Src, f.Dst)
			}
			if got, want := p.NetworkLayer().NetworkFlow().String(), f.From.Addr().String()+"->"+f.To.Addr().String(); got != want {
				t.Errorf("addresses: got %s, want %s", got, want)
			}
			udp := p.TransportLayer().(*layers.UDP)
			if uint16(udp.SrcPort) != f.From.Port() || uint16(udp.DstPort) != f.To.Port() {
				t.Errorf("ports: got %d to %d, want %d to %d", udp.SrcPort, udp.DstPort, f.From.Port(), f.To.Port())
			}
			if err := udp.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
			if err, mismatches := p.VerifyChecksums(); err != nil || len(mismatches) > 0 {
				t.Errorf("checksums: %v %+v", err, mismatches)
			}
		})
	}
}

func spec() FrameSpec {
	return FrameSpec{
		Src: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Size: 64,
		From: netip.MustParseAddrPort("10.88.0.2:20009"), To: netip.MustParseAddrPort("10.88.0.3:9"),
	}
}

// flows and addresses of the frames that a stream prepares in batches.
func prepared(t *testing.T, f FrameSpec, batches int) (flows, macs map[string]int) {
	t.Helper()
	s, err := newStream(f)
	if err != nil {
		t.Fatal(err)
	}
	flows, macs = map[string]int{}, map[string]int{}
	sent := uint64(0)
	for range batches {
		n := s.prepare(sent, time.Hour)
		for _, b := range s.frames[:n] {
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if err := p.TransportLayer().(*layers.UDP).SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
			if err, mismatches := p.VerifyChecksums(); err != nil || len(mismatches) > 0 {
				t.Fatalf("checksums: %v %+v", err, mismatches)
			}
			flows[p.NetworkLayer().NetworkFlow().String()+p.TransportLayer().TransportFlow().String()]++
			macs[p.LinkLayer().LinkFlow().Src().String()]++
		}
		sent += uint64(n)
	}
	return flows, macs
}

func TestStreamTakesTurns(t *testing.T) {
	f := spec()
	flows, macs := prepared(t, f, 3)
	if len(flows) != 1 || len(macs) != 1 {
		t.Errorf("plain: got %d flows, %d addresses, want one", len(flows), len(macs))
	}
	f.Flows, f.MACs = 100, 32
	flows, macs = prepared(t, f, 100) // 6,400 frames
	if len(flows) != 100 || len(macs) != 32 {
		t.Errorf("got %d flows, %d addresses, want 100, 32", len(flows), len(macs))
	}
	for k, n := range flows {
		if n != 64 {
			t.Errorf("flow %s: %d frames, want 64", k, n)
		}
	}
	f = spec()
	f.Flows = flowsPerAddr + 50
	flows, _ = prepared(t, f, (f.Flows+frameBatch-1)/frameBatch)
	if len(flows) != f.Flows {
		t.Errorf("over two addresses: got %d flows, want %d", len(flows), f.Flows)
	}
	f.From = netip.MustParseAddrPort("10.88.0.2:40000")
	if _, err := newStream(f); err == nil {
		t.Error("more flows than ports: got no error")
	}
}

func TestStreamKeepsItsRate(t *testing.T) {
	f := spec()
	f.Rate = 1000
	s, err := newStream(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sent    uint64
		elapsed time.Duration
		want    int
	}{
		{0, time.Second, frameBatch},                 // far behind: one batch at a time
		{990, time.Second, 10},                       // what is missing
		{1000, time.Second, 0},                       // nothing due
		{999, time.Second + 500*time.Microsecond, 1}, // no half frames
	} {
		if got := s.prepare(c.sent, c.elapsed); got != c.want {
			t.Errorf("%d sent after %v: got %d more, want %d", c.sent, c.elapsed, got, c.want)
		}
	}
	f.Rate, f.Frames = 0, 70
	if s, err = newStream(f); err != nil {
		t.Fatal(err)
	}
	if got := s.prepare(64, time.Second); got != 6 {
		t.Errorf("the last batch of 70: got %d, want 6", got)
	}
}

func TestStampsAreAsManyAsAskedFor(t *testing.T) {
	f := spec()
	f.Rate, f.Stamp = 100_000, 1000
	s, err := newStream(f)
	if err != nil {
		t.Fatal(err)
	}
	marked, sent := 0, uint64(0)
	for at := time.Duration(0); at < time.Second; at += 100 * time.Microsecond {
		n := s.prepare(sent, at)
		for _, b := range s.frames[:n] {
			if b[markOffset] == 1 {
				marked++
			}
		}
		sent += uint64(n)
	}
	if marked < 990 || marked > 1010 {
		t.Errorf("got %d stamps in a second, want 1000", marked)
	}
	f.Size = 46
	if _, err := newStream(f); err == nil {
		t.Error("no room for a stamp: got no error")
	}
}

func TestFrameTooShort(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f := FrameSpec{Src: mac, Dst: mac, From: netip.MustParseAddrPort("10.0.0.1:9"), To: netip.MustParseAddrPort("10.0.0.2:9"), Size: 45}
	if _, err := f.build(); err == nil || !strings.Contains(err.Error(), "45 bytes") {
		t.Errorf("got %v, want an error that names the size", err)
	}
	f.Size = 46
	if _, err := f.build(); err != nil {
		t.Errorf("46 bytes hold IPv4 and UDP: got %v", err)
	}
	f.Dst = nil
	if _, err := f.build(); err == nil {
		t.Error("no destination: got no error")
	}
}

func TestParseCPU(t *testing.T) {
	// Fields: user nice system idle iowait irq softirq steal guest guest_nice.
	got, err := parseMachineCPU("cpu  100 1 50 9999 888 2 30 777 40 1\ncpu0 1 1 1 1 1 1 1 0 0 0\n")
	if want := 1830 * time.Millisecond; err != nil || got != want {
		t.Errorf("machine: got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h"} {
		if _, err := parseMachineCPU(bad); err == nil {
			t.Errorf("machine %q: got no error", bad)
		}
	}
	// A command may hold spaces and parentheses.
	stat := "4321 (od d) 1 2 (x) S 1 4321 4321 0 -1 4194560 1000 0 0 0 250 75 0 0 20 0 9 0 12345 1 2"
	got, err = parseProcessCPU(stat)
	if want := 3250 * time.Millisecond; err != nil || got != want {
		t.Errorf("process: got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b"} {
		if _, err := parseProcessCPU(bad); err == nil {
			t.Errorf("process %q: got no error", bad)
		}
	}
}

// SYNs from forged sources, a scan, and super-frames are what a stack would have sent, each
// of another flow or to another destination.
func TestFramesOfAttacks(t *testing.T) {
	for name, change := range map[string]func(*FrameSpec){
		"SYN": func(f *FrameSpec) { f.SYN, f.Flows = true, 50_000 },
		"SYN 6": func(f *FrameSpec) {
			f.SYN, f.Flows, f.Size = true, 50_000, 78
			f.From, f.To = netip.MustParseAddrPort("[fd00::2]:20009"), netip.MustParseAddrPort("[fd00::3]:9")
		},
		"scan":  func(f *FrameSpec) { f.Hops = 200 },
		"super": func(f *FrameSpec) { f.GSO, f.Flows = 500, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			f := spec()
			change(&f)
			s, err := newStream(f)
			if err != nil {
				t.Fatal(err)
			}
			flows, sent := map[string]bool{}, uint64(0)
			for range 4 {
				n := s.prepare(sent, time.Hour)
				for _, b := range s.frames[:n] {
					p := gopacket.NewPacket(b[f.head():], layers.LayerTypeEthernet, gopacket.Default)
					if e := p.ErrorLayer(); e != nil {
						t.Fatal(e.Error())
					}
					flows[p.NetworkLayer().NetworkFlow().String()+p.TransportLayer().TransportFlow().String()] = true
					if tcp, ok := p.TransportLayer().(*layers.TCP); ok {
						if tcp.SYN != f.SYN || tcp.ACK == f.SYN {
							t.Fatalf("a segment with SYN %v, ACK %v", tcp.SYN, tcp.ACK)
						}
						if f.GSO > 0 {
							continue // whoever cuts it finishes the checksums
						}
						if err := tcp.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
							t.Fatal(err)
						}
						if err, mismatches := p.VerifyChecksums(); err != nil || len(mismatches) > 0 {
							t.Fatalf("checksums: %v %+v", err, mismatches)
						}
					}
				}
				sent += uint64(n)
			}
			if want := min(int(sent), max(f.Flows, f.Hops)); len(flows) != want {
				t.Errorf("%d frames are of %d flows, want %d", sent, len(flows), want)
			}
		})
	}
}

func TestEndureCounts(t *testing.T) {
	n := 0
	e := endure(20*time.Millisecond, 0, func() error {
		time.Sleep(time.Millisecond)
		if n++; n%2 == 0 {
			return errSilent
		}
		return nil
	})
	if e.Count+e.Failed != n || e.Count < e.Failed || e.Count > e.Failed+1 || e.P50 < time.Millisecond || e.P99 < e.P50 {
		t.Errorf("of %d: %+v", n, e)
	}
	if e := endure(time.Millisecond, 0, func() error { time.Sleep(time.Millisecond); return errSilent }); e.Count != 0 || e.Failed == 0 {
		t.Errorf("without any: %+v", e)
	}
}
