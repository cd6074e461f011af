package conntrack

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestOpenKeepsWhoMayComeIn: whether strangers come in by a mapping is the mapping's, whoever
// of its flows is left when another process takes the memory over. What allowed a flow was
// numbered by the process before.
func TestOpenKeepsWhoMayComeIn(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second bool // the two flows ask for an open mapping; the first makes it
		answer        bool // the second is a stranger's, which the container answers
	}{
		"the first opened it":                        {true, false, false},
		"the second asks for what the first has not": {false, true, false},
		"a stranger holds what the first opened":     {true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			memory, keys, now := make([]byte, MemorySize(10)), NewKeys(), int64(1)
			plane := make(flowmap.ClaimPlane, flowmap.ClaimWords)
			pool, busy, rng := NewPool([]PortRange{{20000, 29999}}, nil), new(BusyPorts), NewRand()
			open := func() *Table {
				ct, err := Open(memory, keys, func() int64 { return now }, Config{Max: 10, Ports: plane, PortKey: [16]byte{1}})
				if err != nil {
					t.Fatal(err)
				}
				return ct
			}
			ct := open()
			in, far := header.AddrFrom4([4]byte{10, 1, 0, 2}), header.AddrFrom4([4]byte{203, 0, 113, 9})
			host, stranger := header.AddrFrom4([4]byte{198, 51, 100, 2}), header.AddrFrom4([4]byte{203, 0, 113, 77})
			a := ct.At(ct.Alloc(Began(1)))
			a.Init(header.Tuple{Src: in, SrcPort: 4000, Dst: far, DstPort: 53, Proto: header.ProtoUDP}, KindMasquerade, 1, Began(1))
			a.Slot = 1
			port, _, ok := ct.AcquirePort(a, a.Orig, tc.first, pool, busy, rng)
			if !ok {
				t.Fatal("no port")
			}
			a.Reply = header.Tuple{Src: far, SrcPort: 53, Dst: host, DstPort: port, Proto: header.ProtoUDP}
			a.Begin(&header.Layers{}, nil, now)
			if ct.Insert(2) != Inserted {
				t.Fatal("not inserted")
			}
			r := ct.Alloc(Began(1))
			b := ct.At(r)
			if tc.answer {
				b.Init(header.Tuple{Src: stranger, SrcPort: 99, Dst: host, DstPort: port, Proto: header.ProtoUDP}, KindInbound, 1, Received(1))
				b.Slot = 1
				b.Reply = header.Tuple{Src: in, SrcPort: 4000, Dst: stranger, DstPort: 99, Proto: header.ProtoUDP}
			} else {
				b.Init(header.Tuple{Src: in, SrcPort: 4000, Dst: stranger, DstPort: 99, Proto: header.ProtoUDP}, KindMasquerade, 1, Began(1))
				b.Slot = 1
				if p, _, ok := ct.AcquirePort(b, b.Orig, tc.second, pool, busy, rng); !ok || p != port {
					t.Fatalf("port %d, %v, want %d again", p, ok, port)
				}
				b.Reply = header.Tuple{Src: stranger, SrcPort: 99, Dst: host, DstPort: port, Proto: header.ProtoUDP}
			}
			b.Begin(&header.Layers{}, nil, now)
			if ct.Insert(r) != Inserted {
				t.Fatal("not inserted")
			}
			if tc.answer && !b.Mapped(ct, true) {
				t.Fatal("the answer does not hold the mapping")
			}
			b.Revision.Store(7)
			ct.Remove(2, func(*Conn) bool { return true })
			_, _, was := ct.Opened(1, header.ProtoUDP, port)
			if was != tc.first {
				t.Fatalf("strangers come in: %v, want %v", was, tc.first)
			}
			again := open()
			if _, _, is := again.Opened(1, header.ProtoUDP, port); is != was {
				t.Errorf("strangers come in: %v in the next process, %v before", is, was)
			}
			if n := again.At(r).Revision.Load(); n != 0 {
				t.Errorf("what allowed the flow has number %d of another process", n)
			}
		})
	}
}
