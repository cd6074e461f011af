package conntrack

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Every port that masquerade may use is used, free, or held by somebody else, and
// what AcquirePort takes moves from free to used until none is left. Then flows share.
func TestNATPortsAddUp(t *testing.T) {
	ct := newTable(1000)
	pool := NewPool([]PortRange{{First: 61000, Last: 61099}}, nil)
	pool.Publish(header.ProtoTCP, 61000, 61009)
	var busy BusyPorts
	busy.Set(header.ProtoTCP, 61050)

	if got, want := ct.NATPorts(1, pool, &busy), (NATPortStats{TCP: NATPorts{0, 89}, UDP: NATPorts{0, 100}, ICMP: NATPorts{0, 65535 - 1023}}); got != want {
		t.Fatalf("an idle address has %+v, want %+v", got, want)
	}
	rng := NewRand()
	taken := 0
	for port := uint16(2000); ; port++ {
		c := ct.At(ct.Alloc(Nobody))
		c.Init(header.Tuple{Src: header.AddrFrom4([4]byte{10, 1, 0, 2}), SrcPort: port, Proto: header.ProtoTCP}, KindMasquerade, 1, Nobody)
		c.Slot = 1
		got, _, ok := ct.AcquirePort(c, c.Orig, false, pool, &busy, rng)
		if !ok || c.nat == natLends {
			break
		}
		taken++
		if got < 61010 || got > 61099 || got == 61050 {
			t.Fatalf("port %d was handed out: it is somebody else's", got)
		}
		if got := ct.NATPorts(1, pool, &busy).TCP; got.Used != taken || got.Free != 89-taken {
			t.Fatalf("after %d mappings: %+v", taken, got)
		}
	}
	if taken != 89 {
		t.Errorf("%d ports were handed out, want the 89 that were free", taken)
	}
	if got := ct.NATPorts(2, pool, &busy).TCP; got.Used != 0 {
		t.Errorf("another address: %+v", got)
	}
}

// A mapping at a UDP port that a program of the host reaches is overtaken; a port that
// rests is nobody's.
func TestOvertaken(t *testing.T) {
	ct := newTable(1000)
	pool, rng := NewPool([]PortRange{{First: 61000, Last: 61099}}, nil), NewRand()
	e := endpoint{addr: header.AddrFrom4([4]byte{10, 1, 0, 2}), port: 2000, proto: header.ProtoUDP, slot: 1}
	port, hold := ct.nat.acquire(e, 0, true, pool, new(BusyPorts), rng)
	if hold == natNone {
		t.Fatal("no port is free")
	}
	busy := new(BusyPorts)
	busy.Set(header.ProtoUDP, port)
	if ct.Overtaken(busy) {
		t.Error("what is bound on loopback overtakes a mapping")
	}
	busy.Reach(port)
	if !ct.Overtaken(busy) {
		t.Error("the mapping is not overtaken")
	}
	ct.nat.release(e, port, false)
	if ct.Overtaken(busy) {
		t.Error("a port that rests is overtaken")
	}
	tcp := e
	tcp.proto = header.ProtoTCP
	if got, _ := ct.nat.acquire(tcp, 0, false, pool, new(BusyPorts), rng); got != port && ct.Overtaken(busy) {
		t.Error("a TCP port is overtaken")
	}
}
