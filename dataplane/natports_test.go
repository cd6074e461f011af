package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Every port that masquerade may use is used, free, or held by somebody else, and
// what acquire takes moves from free to used until none is left.
func TestNATPortsAddUp(t *testing.T) {
	sw, err := New(Config{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	s, err := NewSnapshot(SnapshotConfig{
		Networks:        []NetworkConfig{{ID: 1, HostPort: frame.NoPort, MTU: 1500, Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}},
		Ports:           []PortConfig{{ID: 0, Network: 1, MAC: stageMAC(1)}},
		Hosts:           []HostConfig{{Addr: netip.MustParseAddr("10.1.0.2"), Network: 1, MAC: stageMAC(1), Port: 0}},
		Publish:         []PublishConfig{{Proto: header.ProtoTCP, First: 61000, Last: 61009, Addr: netip.MustParseAddr("10.1.0.2"), Target: 80}},
		MasqueradePorts: []PortRange{{First: 61000, Last: 61099}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sw.Install(s)
	var busy BusyPorts
	busy.Set(header.ProtoTCP, 61050)
	sw.SetBusyPorts(&busy)

	if got, want := sw.NATPorts(1), (NATPortStats{TCP: NATPorts{0, 89}, UDP: NATPorts{0, 100}, ICMP: NATPorts{0, 65535 - 1023}}); got != want {
		t.Fatalf("an idle address has %+v, want %+v", got, want)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for port := uint16(2000); ; port++ {
		e := endpoint{addr: header.AddrFrom4([4]byte{10, 1, 0, 2}), port: port, proto: header.ProtoTCP, slot: 1}
		if _, ok := sw.masq.acquire(e, false, s, &busy, rng); !ok {
			break
		}
		taken++
		if got := sw.NATPorts(1).TCP; got.Used != taken || got.Free != 89-taken {
			t.Fatalf("after %d mappings: %+v", taken, got)
		}
	}
	if taken != 89 {
		t.Errorf("%d ports were handed out, want the 89 that were free", taken)
	}
	if got := sw.NATPorts(2).TCP; got.Used != 0 {
		t.Errorf("another address: %+v", got)
	}
}
