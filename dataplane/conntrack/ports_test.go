package conntrack

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
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
	busy.Reach(header.ProtoUDP, port)
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

// A program of the host that listens at the TCP port of a mapping takes what is new there; the
// mapping keeps its port, and nothing else is closed.
func TestCloseBusy(t *testing.T) {
	ct := newTable(1000)
	ct.nat.claims = make(flowmap.ClaimPlane, flowmap.ClaimWords)
	pool, rng := NewPool([]PortRange{{First: 61000, Last: 61099}}, nil), NewRand()
	for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
		e := endpoint{addr: header.AddrFrom4([4]byte{10, 1, 0, 2}), port: 61001, proto: proto, slot: 1}
		if port, hold := ct.nat.acquire(e, 0, true, pool, new(BusyPorts), rng); port != 61001 || hold != natOpens {
			t.Fatal("the port is not handed out open")
		}
	}
	open := func(proto uint8) bool {
		_, _, ok := ct.Opened(1, proto, 61001)
		if claimed := ct.nat.claims.Test(1, proto, 61001); claimed != ok {
			t.Fatalf("the claim says %v, the mapping %v", claimed, ok)
		}
		return ok
	}
	busy := new(BusyPorts)
	busy.Set(header.ProtoTCP, 61001)
	if ct.CloseBusy(busy); !open(header.ProtoTCP) {
		t.Error("what is bound on loopback closes a mapping")
	}
	busy.Reach(header.ProtoTCP, 61001)
	if ct.CloseBusy(busy); open(header.ProtoTCP) || !open(header.ProtoUDP) {
		t.Errorf("tcp is open: %v, udp: %v", open(header.ProtoTCP), open(header.ProtoUDP))
	}
	e := endpoint{addr: header.AddrFrom4([4]byte{10, 1, 0, 2}), port: 61001, proto: header.ProtoTCP, slot: 1}
	if ct.nat.join(e, 61001) != natHolds {
		t.Error("the mapping has not kept its port")
	}
	ct.nat.release(e, 61001, false)
	if ct.nat.release(e, 61001, false); ct.nat.plane.Test(1, header.ProtoTCP, 61001) {
		t.Error("nobody has given the port back")
	}
}
