package conntrack

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A record holds no pointer, lock or key of the process that wrote it.
func TestConnIsPlainMemory(t *testing.T) {
	var look func(at string, typ reflect.Type)
	look = func(at string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			if typ.PkgPath() == "sync" {
				t.Errorf("%s is a %v", at, typ)
			}
			for f := range typ.Fields() {
				look(at+"."+f.Name, f.Type)
			}
		case reflect.Array:
			look(at, typ.Elem())
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.String, reflect.Func, reflect.Chan, reflect.Interface, reflect.UnsafePointer, reflect.Uintptr, reflect.Int, reflect.Uint:
			t.Errorf("%s is a %v, which is not the same in another process", at, typ)
		}
	}
	look("Conn", reflect.TypeFor[Conn]())
}

// TestOpenAdopts: a table is made anew of the memory of one that has ended, as by another
// process. All flows, ports, quotas and lists are there, and both go on alike.
func TestOpenAdopts(t *testing.T) {
	const room, flows = 1000, 600
	memory := make([]byte, MemorySize(room))
	keys, now := NewKeys(), int64(1)
	clock := func() int64 { return now }
	plane := make(flowmap.ClaimPlane, flowmap.ClaimWords)
	pool, busy := NewPool([]PortRange{{20000, 29999}}, nil), new(BusyPorts)
	open := func() *Table {
		ct, err := Open(memory, keys, clock, Config{Max: room, Ports: plane, PortKey: [16]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		return ct
	}
	ct := open()
	rng := NewRand()
	outside := make(map[header.Tuple]uint16)
	for i := range flows {
		now++
		r := ct.Alloc(Nobody)
		c := ct.At(r)
		orig, reply := flow(i)
		c.Init(orig, KindMasquerade, frame.PortID(i%5), Began(frame.PortID(i%5)))
		c.Slot = 1
		if i%3 > 0 {
			port, _, ok := ct.AcquirePort(c, reply.Reverse(), i%3 == 1, pool, busy, rng)
			if !ok {
				t.Fatal("no port")
			}
			outside[orig], reply.DstPort = port, port
		}
		c.Reply = reply
		c.Begin(&header.Layers{}, nil, now)
		if ct.Insert(r) != Inserted {
			t.Fatalf("flow %d is not inserted", i)
		}
		switch i % 4 {
		case 1:
			c.become(ct, r, stateUDP)
		case 2:
			c.become(ct, r, stateClosing)
		}
		if i%7 == 0 {
			ct.Remove(r, func(*Conn) bool { return true })
			delete(outside, orig)
		}
	}
	plane.Set(1, header.ProtoUDP, 9) // claimed, and nobody's
	want := func(ct *Table) []Info {
		page := make([]Info, room)
		n, _ := ct.Read(page, 0, now, new(Limits))
		return page[:n]
	}
	before := want(ct)

	again := open()
	if got := want(again); !reflect.DeepEqual(got, before) {
		t.Fatalf("%d flows after, %d before, or others", len(got), len(before))
	}
	for _, i := range before {
		for _, k := range []header.Tuple{i.Orig, i.Reply} {
			if r, sh := again.Lookup(&k); r == 0 {
				t.Fatalf("flow %v is not found", k)
			} else {
				sh.RUnlock()
			}
		}
		if in, port, ok := again.Opened(1, header.ProtoUDP, outside[i.Orig]); ok && (in != i.Orig.Src || port != i.Orig.SrcPort) {
			t.Errorf("a stranger to port %d comes to %v:%d, want %v:%d", outside[i.Orig], in, port, i.Orig.Src, i.Orig.SrcPort)
		}
	}
	if !reflect.DeepEqual(again.Stats(), ct.Stats()) || again.HalfOpen() != ct.HalfOpen() || again.classes != ct.classes {
		t.Errorf("counts differ: %+v, before %+v", again.Stats(), ct.Stats())
	}
	for id := range frame.PortID(5) {
		if again.Held(id) != ct.Held(id) {
			t.Errorf("%d flows on the quota of port %d, before %d", again.Held(id), id, ct.Held(id))
		}
	}
	for e, got := range ct.nat.maps { // whether it had more flows once is not known
		got.alone = false
		ct.nat.maps[e] = got
	}
	if !reflect.DeepEqual(again.nat.maps, ct.nat.maps) || !reflect.DeepEqual(again.nat.inside, ct.nat.inside) {
		t.Error("mappings differ")
	}

	// It goes on: the rest of the room is there, and all ports come back at the end.
	for i := range room - again.Len() {
		r := again.Alloc(Nobody)
		c := again.At(r)
		orig, reply := flow(10_000 + i)
		c.Init(orig, KindRouted, 1, Nobody)
		c.Reply = reply
		if again.Insert(r) != Inserted {
			t.Fatalf("flow %d more is not inserted", i)
		}
	}
	again.Flush(&Selector{})
	if n := len(again.nat.maps); n != 0 || again.Len() != 0 {
		t.Errorf("%d mappings and %d flows are left", n, again.Len())
	}
	now += RestTime
	again.nat.awake(now)
	for i, w := range plane {
		if w != 0 {
			t.Fatalf("word %d of the claims is %#x at the end", i, w)
		}
	}
}

// Memory or keys of another table are refused.
func TestOpenRefuses(t *testing.T) {
	memory, keys := make([]byte, MemorySize(10)), NewKeys()
	cfg := Config{Max: 10, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)}
	clock := func() int64 { return 0 }
	ct, err := Open(memory, keys, clock, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := ct.Alloc(Nobody)
	orig, reply := flow(1)
	ct.At(r).Init(orig, KindRouted, 1, Nobody)
	ct.At(r).Reply = reply
	ct.Insert(r)
	other := cfg
	other.Max = 9
	for what, try := range map[string]func() (*Table, error){
		"want 2816":           func() (*Table, error) { return Open(memory[:100], keys, clock, cfg) },
		"table of 10 flows":   func() (*Table, error) { return Open(memory, keys, clock, other) },
		"not of these keys":   func() (*Table, error) { return Open(memory, NewKeys(), clock, cfg) },
		"memory of layout 0x": func() (*Table, error) { m := append([]byte(nil), memory...); m[7]++; return Open(m, keys, clock, cfg) },
	} {
		if _, err := try(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q in it", err, what)
		}
	}
}
