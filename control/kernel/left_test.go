package kernel

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// sealed is a cable with a seal of a process that has ended, whose maps have something in them.
func sealed(t *testing.T, owner string) (programs []uint32) {
	t.Helper()
	host, c := labtest.New(t, "host"), labtest.New(t, "c")
	if err := netlab.Veth(host, "cable", c, "eth0", 1500); err != nil {
		t.Fatal(err)
	}
	index, err := host.Index("cable")
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if k.GoesOn() {
		t.Error("goes on with nothing")
	}
	if err := k.SetOwner(owner); err != nil {
		t.Fatal(err)
	}
	fill(t, k)
	if err := host.Do(func() error {
		s, err := k.Seal()
		if err == nil {
			err = s.Attach(index)
		}
		if err == nil {
			programs, err = Seals(index)
		}
		return err
	}); err != nil {
		labtest.SkipOldKernel(t, 6, 6, err.Error())
		t.Fatal(err)
	}
	return programs
}

var (
	leftAddr    = netip.MustParseAddr("198.51.100.1")
	leftOther   = netip.MustParseAddr("2001:db8::1")
	leftSubnet  = netip.MustParsePrefix("10.9.0.0/24")
	leftKey     = flowmap.Key{Side: 9, Proto: header.ProtoTCP, Ports: [4]byte{1, 2, 3, 4}}
	leftStation = flowmap.StationKey{Network: 2, Addr: header.AddrFrom(leftOther)}
	leftPeer    = flowmap.Peer{Addr: header.AddrFrom(netip.MustParseAddr("203.0.113.9")), Slot: 3, Proto: header.ProtoTCP, Port: 5, PeerPort: 6}
)

// leftEntry lies in the second chunk.
const leftEntry = flowmap.ChunkEntries + 6

func fill(t *testing.T, k *Kernel) {
	t.Helper()
	tally, err := k.AddFlowPort(9, 7)
	if err != nil {
		t.Fatal(err)
	}
	tally.In = 5
	if _, err := k.flows.chunks.Grow(); err != nil {
		t.Fatal(err)
	}
	k.flows.rows[leftEntry].Begin(&flowmap.Decision{Key: leftKey, MTU: 1500})
	for what, err := range map[string]error{
		"a slot":       k.ClaimSlot(leftAddr, 3),
		"another slot": k.ClaimSlot(leftOther, 4),
		"a subnet":     k.ClaimSubnet(leftSubnet, true),
		"a key":        k.flows.keys.Put(leftKey, uint32(leftEntry)),
		"a peer":       k.planes.peers.Put(leftPeer.Key(), uint8(1)),
		"an asker":     k.flows.askers.Put(uint32(9), flowmap.Asker{Network: 2}),
		"a station":    k.flows.stations.Put(leftStation, flowmap.Station{Port: 9}),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	k.Published().Set(3, header.ProtoTCP, 8080)
	k.Opened().Set(3, header.ProtoUDP, 9090)
}

// numbered is the number by which the programs know an interface, 0 if there is none.
func numbered(k *Kernel, index uint32) (n uint32) {
	_ = k.flows.ports.Lookup(index, &n)
	return n
}

// TestGoesOn: the maps of a process that has ended are used on by the next one of the same owner
// and layout, by no other.
func TestGoesOn(t *testing.T) {
	labtest.NeedBPF(t)
	programs := sealed(t, "one")
	for name, cfg := range map[string]Config{
		"another owner":   {Left: programs, Owner: "two"},
		"nobody's":        {Left: programs},
		"none":            {Owner: "one"},
		"no such program": {Left: []uint32{1 << 30}, Owner: "one"},
	} {
		if k := openWith(t, cfg); k.GoesOn() || k.planes.peers.Lookup(leftPeer.Key(), new(uint8)) == nil {
			t.Errorf("%s: goes on", name)
		}
	}
	for range 2 { // the next process finds what this one leaves, not what it has made itself
		k := openWith(t, Config{Left: programs, Owner: "one", MaxFlows: 1000})
		number, one := uint32(0), uint8(0)
		if !k.GoesOn() || k.flows.keys.Lookup(leftKey, &number) != nil || number != leftEntry || k.flows.chunks.Made() <= leftEntry || k.flows.rows[leftEntry].Key != leftKey {
			t.Fatalf("goes on %v, number %d", k.GoesOn(), number)
		}
		if k.planes.peers.Lookup(leftPeer.Key(), &one) != nil || k.planes.peers.MaxEntries() != 1000 {
			t.Error("a claimed peer is lost, or there is room for another number")
		}
		if k.flows.stations.Lookup(leftStation, new(flowmap.Station)) != nil || k.flows.askers.Lookup(uint32(9), new(flowmap.Asker)) != nil {
			t.Error("a station is lost, or who may ask for it")
		}
		if !k.Published().Test(3, header.ProtoTCP, 8080) || !k.Opened().Test(3, header.ProtoUDP, 9090) {
			t.Error("a claimed port is lost")
		}
		// Numbers of interfaces go on until another one is given them.
		if numbered(k, 9) != 7 {
			t.Errorf("interface 9 has number %d", numbered(k, 9))
		}
		if tally, err := k.AddFlowPort(10, 7); err != nil || tally.In != 0 {
			t.Errorf("tally %+v, %v", tally, err)
		}
		if numbered(k, 9) != 0 || numbered(k, 10) != 7 {
			t.Errorf("interfaces 9 and 10 have numbers %d and %d", numbered(k, 9), numbered(k, 10))
		}
		k.RemoveFlowPort(10)
		for index, number := range map[int]int{9: 7, 11: 8, 12: 5} {
			if _, err := k.AddFlowPort(index, number); err != nil {
				t.Error(err)
			}
		}
	}
	k := openWith(t, Config{Left: programs, Owner: "one"})
	slot := func(a netip.Addr) (n uint32) {
		_ = k.planes.addrs.Lookup(header.AddrFrom(a), &n)
		return n
	}
	if slot(leftAddr) != 3 || slot(leftOther) != 4 {
		t.Errorf("slots %d and %d", slot(leftAddr), slot(leftOther))
	}
	if err := k.ClaimSlot(leftAddr, 3); err != nil {
		t.Error(err)
	}
	for index, number := range map[int]int{9: 7, 11: 6} {
		if _, err := k.AddFlowPort(index, number); err != nil {
			t.Error(err)
		}
	}
	if numbered(k, 12) != 5 {
		t.Error("an interface that is not there yet has lost its number")
	}
	// The rest goes, as nobody claims it again.
	if err := k.Settle(); err != nil {
		t.Error(err)
	}
	if numbered(k, 9) != 7 || numbered(k, 11) != 6 || numbered(k, 12) != 0 {
		t.Errorf("interfaces have numbers %d, %d and %d", numbered(k, 9), numbered(k, 11), numbered(k, 12))
	}
	if slot(leftAddr) != 3 || slot(leftOther) != 0 || k.planes.subnets.Lookup(flowmap.SubnetKeyOf(leftSubnet), new(uint8)) == nil {
		t.Errorf("slots %d and %d, or a subnet is left", slot(leftAddr), slot(leftOther))
	}
	if err := k.ClaimSlot(leftOther, 4); err != nil {
		t.Error(err)
	}
}

// TestGoesOnWithoutStations: a process of a version that told nobody of stations has left rows, and
// they go on.
func TestGoesOnWithoutStations(t *testing.T) {
	labtest.NeedBPF(t)
	k := openWith(t, Config{})
	before := make(left)
	for name, m := range k.flows.rowsBy() {
		var err error
		if before[name], err = (*m).Clone(); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := loadFlows(k.spec, before); err != nil || !f.goesOn {
		t.Errorf("goes on %v, %v", f != nil && f.goesOn, err)
	} else {
		f.close()
	}
}

// TestGoesOnAnotherNumber: an address that has another slot now, and a slot that is another's,
// take nothing from before along.
func TestGoesOnAnotherNumber(t *testing.T) {
	labtest.NeedBPF(t)
	programs := sealed(t, "one")
	k := openWith(t, Config{Left: programs, Owner: "one"})
	if err := k.ClaimSlot(leftOther, 3); err != nil {
		t.Fatal(err)
	}
	if k.Published().Test(3, header.ProtoTCP, 8080) || k.planes.peers.Lookup(leftPeer.Key(), new(uint8)) == nil {
		t.Error("an address has the claims of another")
	}
	var n uint32
	if k.planes.addrs.Lookup(header.AddrFrom(leftAddr), &n) == nil {
		t.Errorf("the other has slot %d", n)
	}
}

// TestOtherLayout: of maps of another layout the claims are used on, so that the host resets none
// of their flows, and nothing where the claims are laid out otherwise, too.
func TestOtherLayout(t *testing.T) {
	labtest.NeedBPF(t)
	programs := sealed(t, "one")
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(programs[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	var layout *ebpf.Map
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if info, err := m.Info(); err == nil && info.Name == layoutSpec.Name {
			layout = m
		}
	}
	if layout == nil {
		t.Fatal("the seal says nothing of its layout")
	}
	laid := func(v versions) *Kernel {
		t.Helper()
		for i, n := range v {
			if err := layout.Put(uint32(i), n); err != nil {
				t.Fatal(err)
			}
		}
		k := openWith(t, Config{Left: programs, Owner: "one"})
		if k.GoesOn() || k.flows.keys.Lookup(leftKey, new(uint32)) == nil || k.flows.stations.Lookup(leftStation, new(flowmap.Station)) == nil {
			t.Errorf("%v: goes on with maps of another layout", v)
		}
		return k
	}
	claimed := func(k *Kernel) bool {
		return k.planes.peers.Lookup(leftPeer.Key(), new(uint8)) == nil && k.Published().Test(3, header.ProtoTCP, 8080) &&
			k.planes.subnets.Lookup(flowmap.SubnetKeyOf(leftSubnet), new(uint8)) == nil
	}
	if claimed(laid(versions{flowmap.Version + 1, flowmap.ClaimVersion + 1})) || claimed(laid(versions{flowmap.Version + 1})) {
		t.Error("claims of another layout are used on")
	}
	k := laid(versions{flowmap.Version + 1, flowmap.ClaimVersion})
	if !claimed(k) {
		t.Error("a claim is lost")
	}
	if err := k.ClaimSlot(leftAddr, 3); err != nil {
		t.Error(err)
	}
	// The rest goes, as nobody claims it again.
	if err := k.Settle(); err != nil {
		t.Error(err)
	}
	if k.planes.addrs.Lookup(header.AddrFrom(leftOther), new(uint32)) == nil || k.planes.subnets.Lookup(flowmap.SubnetKeyOf(leftSubnet), new(uint8)) == nil {
		t.Error("a slot or a subnet is left that nobody has claimed")
	}
}
