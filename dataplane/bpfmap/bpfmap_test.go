package bpfmap

import (
	"errors"
	"io"
	"math"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func newMap(t testing.TB, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func hash(key, value uint32) *ebpf.MapSpec {
	return &ebpf.MapSpec{Type: ebpf.Hash, KeySize: key, ValueSize: value, MaxEntries: 16}
}

// described is a flow table as control makes it, of which control then closes its own side.
func described(t *testing.T) *kernelFlows {
	t.Helper()
	labtest.NeedBPF(t)
	array := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	keys, inner := newMap(t, hash(48, 4)), newMap(t, array)
	chunks := newMap(t, &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: flowmap.MaxChunks, InnerMap: &chunkSpec})
	askers, stations := newMap(t, hash(4, 24)), newMap(t, hash(20, 12))
	stationKeys, stationFlows := newMap(t, hash(20, 4)), newMap(t, hash(48, uint32(unsafe.Sizeof(flowmap.StationFlow{}))))
	outer := newMap(t, &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: array})
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.FnJiffies64.Call(), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFlows(FlowDescriptor{Kind: KindKernel, Keys: keys.FD(), Chunks: chunks.FD(), Outer: outer.FD(), Inner: inner.FD(), Clock: program.FD(), Askers: askers.FD(), Stations: stations.FD(), StationKeys: stationKeys.FD(), StationFlows: stationFlows.FD()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	program.Close()
	for _, m := range []*ebpf.Map{keys, chunks, inner, outer, askers, stations, stationKeys, stationFlows} {
		m.Close()
	}
	return f.(*kernelFlows)
}

// TestFlows: the table works when control has closed its own descriptors.
func TestFlows(t *testing.T) {
	f := described(t)
	var keys []flowmap.Key
	for n := range 5 {
		keys = append(keys, flowmap.Key{Side: 3, Proto: 6, Ports: [4]byte{1, 2, 3, byte(n)}})
		if n == 0 || n == 3 {
			continue // these are not there
		}
		if err := f.Insert(keys[n], 9); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Delete(keys); err != nil {
		t.Error(err)
	}
	for n, key := range keys {
		if err := f.Insert(key, 9); err != nil {
			t.Errorf("key %d is still there: %v", n, err)
		}
	}
	if err := f.Insert(keys[0], 9); err == nil {
		t.Error("a key was entered twice")
	}
	f.Wait()
	if err := f.outer.Update(uint32(0), f.inner, ebpf.UpdateAny); err != nil {
		t.Errorf("the exchange that Wait makes: %v", err)
	}
}

// TestStations: what is told is there until it is forgotten; of more than there is room for some
// are left out.
func TestStations(t *testing.T) {
	f := described(t)
	key := func(n byte) flowmap.StationKey { return flowmap.StationKey{Network: 2, Addr: header.Addr{15: n}} }
	want := flowmap.Stations{
		Askers: map[uint32]flowmap.Asker{3: {Hidden: 1 << 63, Network: 2, MAC: header.MAC{1, 2, 3, 4, 5, 6}, Flags: flowmap.AskerHost}},
		At:     map[flowmap.StationKey]flowmap.Station{key(1): {Port: 3, MAC: header.MAC{1}, Class: 7}, key(2): {Port: 4, Flags: flowmap.StationGateway}},
	}
	there := func() flowmap.Stations {
		t.Helper()
		s, err := f.Stations()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := f.Tell(want); err != nil {
		t.Fatal(err)
	}
	if got := there(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	want.At[key(1)] = flowmap.Station{Port: 5}
	if err := f.Tell(flowmap.Stations{At: want.At}); err != nil || !reflect.DeepEqual(there(), want) {
		t.Errorf("changed: %+v, %v", there(), err)
	}
	gone := flowmap.Stations{At: map[flowmap.StationKey]flowmap.Station{key(1): {}, key(9): {}}}
	delete(want.At, key(1))
	if err := f.Forget(gone); err != nil || !reflect.DeepEqual(there(), want) {
		t.Errorf("forgotten: %+v, %v", there(), err)
	}
	many := make(map[flowmap.StationKey]flowmap.Station)
	for n := range byte(40) {
		many[key(n)] = flowmap.Station{}
	}
	if err := f.Tell(flowmap.Stations{At: many}); err == nil || len(there().At) != 16 {
		t.Errorf("%d in a map of 16, %v", len(there().At), err)
	}
}

// TestPeers: a claim and its end; a map that does not answer ends a flow, not the process.
func TestPeers(t *testing.T) {
	labtest.NeedBPF(t)
	claimed, strangers := newMap(t, hash(24, 1)), newMap(t, hash(24, 8))
	opened, err := OpenPeers(PeerDescriptor{Kind: KindKernel, Claimed: claimed.FD(), Strangers: strangers.FD()})
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*kernelPeers)
	p := flowmap.Peer{Addr: header.AddrFrom(netip.MustParseAddr("198.51.100.9")), Slot: 1, Proto: 50}
	m.Drop(p) // not claimed
	if err := m.Claim(p); err != nil {
		t.Fatal(err)
	}
	key, one := p.Key(), uint8(0)
	if err := claimed.Lookup(bytesOf(&key), &one); err != nil || one != 1 {
		t.Errorf("%d, %v", one, err)
	}
	m.Drop(p)
	if m.Settle(); !errors.Is(claimed.Lookup(bytesOf(&key), &one), ebpf.ErrKeyNotExist) {
		t.Error("it is claimed still")
	}
	if _, ok := m.Strange(p); ok {
		t.Error("a peer of which nothing came is strange")
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	if err := strangers.Put(bytesOf(&key), uint64(now.Nano()-int64(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if ago, ok := m.Strange(p); !ok || ago < time.Hour || ago > 2*time.Hour {
		t.Errorf("%v, %v", ago, ok)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Claim(p); err == nil {
		t.Error("claimed in a map that is closed")
	}
	m.Drop(p)
}

// TestPeersDropTogether: peers are taken out together, at the latest when there is no room for
// more; one that is claimed again meanwhile stays.
func TestPeersDropTogether(t *testing.T) {
	labtest.NeedBPF(t)
	claimed, strangers := newMap(t, hash(24, 1)), newMap(t, hash(24, 8))
	m, err := OpenPeers(PeerDescriptor{Kind: KindKernel, Claimed: claimed.FD(), Strangers: strangers.FD()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	room := int(claimed.MaxEntries())
	peer := func(i int) flowmap.Peer {
		return flowmap.Peer{Addr: header.AddrFrom(netip.MustParseAddr("198.51.100.9")), Slot: 1, Proto: 6, Port: uint16(i), PeerPort: 443}
	}
	claim := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := m.Claim(peer(i)); err != nil {
				t.Fatalf("peer %d: %v", i, err)
			}
		}
	}
	there := func(want int) {
		t.Helper()
		if all, err := m.Claimed(); err != nil || len(all) != want {
			t.Errorf("%d are claimed, %v, want %d", len(all), err, want)
		}
	}
	claim(0, room)
	if err := m.Claim(peer(room)); err == nil {
		t.Error("one more than there is room for")
	}
	for i := range room {
		m.Drop(peer(i))
	}
	claim(room, 2*room) // there is room again
	there(room)
	for i := range room {
		m.Drop(peer(room + i))
		claim(room+i, room+i+1)
	}
	there(room)
	for i := range room {
		m.Drop(peer(room + i))
	}
	there(0)
	for i := range 3 * dropRoom {
		claim(i, i+1)
		m.Drop(peer(i))
		if i >= dropRoom { // not of the last batch
			var known uint8
			key := peer(i - dropRoom).Key()
			if err := claimed.Lookup(bytesOf(&key), &known); !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatalf("peer %d is claimed still: %v", i-dropRoom, err)
			}
		}
	}
}

// BenchmarkPeers is what a flow's claim and its end cost, and what they cost where each end is a
// system call of its own.
func BenchmarkPeers(b *testing.B) {
	b.Run("together", func(b *testing.B) { benchmarkPeers(b, func(Peers) {}) })
	b.Run("alone", func(b *testing.B) { benchmarkPeers(b, Peers.Settle) })
}

func benchmarkPeers(b *testing.B, settle func(Peers)) {
	labtest.NeedBPF(b)
	many := hash(24, 1)
	many.MaxEntries = 4096
	claimed, strangers := newMap(b, many), newMap(b, hash(24, 8))
	m, err := OpenPeers(PeerDescriptor{Kind: KindKernel, Claimed: claimed.FD(), Strangers: strangers.FD()})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	p := flowmap.Peer{Addr: header.AddrFrom(netip.MustParseAddr("198.51.100.9")), Slot: 1, Proto: 6, PeerPort: 443}
	for b.Loop() {
		p.Port++
		if err := m.Claim(p); err != nil {
			b.Fatal(err)
		}
		m.Drop(p)
		settle(m)
	}
}

// TestOpenRefuses: nothing at all opens as nil, what is no map or of no kind is an error, and
// no descriptor is left open.
func TestOpenRefuses(t *testing.T) {
	if f, err := OpenFlows(FlowDescriptor{}); f != nil || err != nil {
		t.Errorf("nothing: %v, %v", f, err)
	}
	if p, err := OpenPeers(PeerDescriptor{}); p != nil || err != nil {
		t.Errorf("nothing: %v, %v", p, err)
	}
	if _, err := OpenFlows(FlowDescriptor{Kind: 200}); err == nil {
		t.Error("opened a kind that nobody has")
	}
	if _, err := OpenPeers(PeerDescriptor{Kind: KindKernel, Claimed: -1}); err == nil {
		t.Error("opened what is no descriptor")
	}
	for name, open := range map[string]func(fd int) error{
		"flows": func(fd int) error { _, err := OpenFlows(FlowDescriptor{Kind: KindKernel, Keys: fd}); return err },
		"peers": func(fd int) error { _, err := OpenPeers(PeerDescriptor{Kind: KindKernel, Claimed: fd}); return err },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := open(int(w.Fd())); err == nil {
			t.Errorf("%s: opened what is no map", name)
		}
		w.Close()
		r.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := r.Read(make([]byte, 1)); err != io.EOF { // nobody else has its other end
			t.Errorf("%s: a duplicate is left open: %v", name, err)
		}
	}
}

// TestClock: a second has as many jiffies as the kernel counts in one, and no time has more than a
// difference of their lower halves can tell.
func TestClock(t *testing.T) {
	c := described(t).clock
	second := c.in(time.Second)
	if half := c.in(time.Second / 2); half != second/2 {
		t.Errorf("%d in half a second, %d in a second", half, second)
	}
	if long := c.in(math.MaxInt64); long != math.MaxInt32 {
		t.Errorf("%d in 292 years", long)
	}
	for range 200 { // a reading counts if the thread did not lose its processor meanwhile
		began := time.Now()
		before, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		atLeast := time.Since(began)
		time.Sleep(200*time.Millisecond - atLeast)
		atLeast = time.Since(began) - atLeast
		after, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		atMost := time.Since(began)
		if atMost-atLeast > 5*time.Millisecond {
			continue
		}
		if n := after - before; n+1 < c.in(atLeast) || n > c.in(atMost)+1 {
			t.Errorf("%d jiffies in %v, by a rate of %d a second", n, atMost, second)
		}
		return
	}
	t.Error("the machine was too busy for a reading")
}
