package conntrack

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// While other flows begin and end, the pages tell each flow that lives all the time once.
// The race detector looks on.
func TestReadBesideWriters(t *testing.T) {
	const kept, more = 2000, 4000
	ct := fillOf(t, kept, kept+more)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			r := ct.Alloc(Nobody)
			c := ct.At(r)
			orig, reply := flow(kept + i%more)
			c.Init(orig, KindRouted, 0, Nobody)
			c.Reply = reply
			if ct.Insert(r) == Inserted {
				ct.Remove(r, func(*Conn) bool { return true })
			} else {
				ct.GiveBack(r)
			}
		}
	})
	var limits Limits
	for range 50 {
		seen := make(map[header.Tuple]int)
		var page [37]Info
		for place := uint32(0); ; {
			n, next := ct.Read(page[:], place, 1, &limits)
			for _, i := range page[:n] {
				seen[i.Orig]++
			}
			if place = next; place == 0 {
				break
			}
		}
		for i := range kept {
			if k, _ := flow(i); seen[k] != 1 {
				t.Fatalf("flow %d is told %d times", i, seen[k])
			}
		}
	}
	close(stop)
	writers.Wait()
}

// A page without room ends the list: it would be asked for again for ever.
func TestReadIntoNothing(t *testing.T) {
	ct := fillOf(t, 3, 3)
	if n, next := ct.Read(nil, 0, 1, new(Limits)); n != 0 || next != 0 {
		t.Errorf("%d flows in an empty page, and the next is at %d", n, next)
	}
}

// Each field of a selector leaves out the flows that it says.
func TestFlushSelects(t *testing.T) {
	all := func() *Table {
		ct := newTable(16)
		for i, c := range []struct {
			kind  Kind
			proto uint8
			port  frame.PortID
			dst   string
		}{
			{KindMasquerade, header.ProtoTCP, 1, "192.0.2.1:80"}, {KindPublish, header.ProtoUDP, 1, "192.0.2.2:81"},
			{KindRouted, header.ProtoICMP, 2, "192.0.2.1:0"}, {KindHairpin, header.ProtoTCP, 3, "[2001:db8::1]:80"},
		} {
			r := ct.Alloc(Nobody)
			dst := netip.MustParseAddrPort(c.dst)
			orig, _ := flow(i)
			orig.Dst, orig.DstPort, orig.Proto = header.AddrFrom(dst.Addr()), dst.Port(), c.proto
			ct.At(r).Init(orig, c.kind, c.port, Nobody)
			ct.At(r).Reply = orig.Reverse()
			if got := ct.Insert(r); got != Inserted {
				t.Fatalf("flow %d: %v", i, got)
			}
		}
		return ct
	}
	for _, c := range []struct {
		which Selector
		want  int
	}{
		{Selector{}, 4},
		{Selector{Ports: []frame.PortID{1}}, 2},
		{Selector{Ports: []frame.PortID{}}, 0},
		{Selector{Protos: []uint8{header.ProtoTCP, header.ProtoICMP}}, 3},
		{Selector{Kinds: Only(KindHairpin)}, 1},
		{Selector{Kinds: AllBut(KindMasquerade)}, 3},
		{Selector{To: netip.MustParsePrefix("192.0.2.1/32")}, 2},
		{Selector{To: netip.MustParsePrefix("0.0.0.0/0")}, 3},
		{Selector{To: netip.MustParsePrefix("::/0")}, 1},
		{Selector{ToPorts: PortRange{80, 81}}, 3},
		{Selector{ToPorts: PortRange{80, 80}, Protos: []uint8{header.ProtoTCP}, Kinds: AllBut(KindMasquerade)}, 1},
	} {
		if ct := all(); ct.Flush(&c.which) != c.want || ct.Len() != 4-c.want {
			t.Errorf("%+v: %d are left, want %d to go", c.which, ct.Len(), c.want)
		}
	}
}
