package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// pieces cuts a packet of a family for a path MTU.
func pieces(fam Family, f []byte, mtu int) [][]byte {
	if fam.HeaderLen == 20 {
		return Fragment(f, (mtu-20)&^7)
	}
	return fragment6(f, (mtu-48)&^7)
}

// orders are how the pieces of a datagram may come.
var orders = map[string]func([][]byte){
	"in order": func([][]byte) {},
	"reversed": slices.Reverse[[][]byte],
	"random": func(p [][]byte) {
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	},
}

// A datagram of 60 kB arrives over paths of small MTUs, in any order.
func TestALargeDatagramArrivesInManyPieces(t *testing.T) {
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			EachFamily(t, func(t *testing.T, l *Lab, f Family) {
				l.PublishFamily(f, 8080, "c1", 80)
				payload := make([]byte, 60_000)
				rand.NewChaCha8([32]byte{9}).Read(payload)
				for _, mtu := range []int{1500, 1280, 576} {
					if f.HeaderLen == 40 && mtu < 1280 {
						continue
					}
					whole := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.At(f.World, 5000), Dst: f.At(f.Host, 8080), Proto: header.ProtoUDP, Payload: payload})
					p := pieces(f, whole, mtu)
					order(p)
					for _, piece := range p {
						l.Memory("up").Inject(piece, noOffload)
					}
					for l.Switch.Step() > 0 {
					}
					got := 0
					for _, b := range l.Got("c1") {
						got += len(b)
					}
					want := 0
					for _, b := range p {
						want += len(b)
					}
					if got != want {
						t.Errorf("MTU %d: %d of %d bytes in %d pieces came; drops %s", mtu, got, want, len(p), l.Drops())
					}
				}
				if n := dataplane.Deferred(l.Switch); n != 0 {
					t.Errorf("%d chunks are kept", n)
				}
			})
		})
	}
}

// More than 128 pieces are no datagram that anybody sends.
func TestADatagramHas128Pieces(t *testing.T) {
	l := New(t)
	p := Fragment(UDP("c1", 5000, web, string(make([]byte, 60_000))), 400)
	for _, piece := range p {
		l.Send("c1", piece)
	}
	if got := len(l.Got("up")); got != 128 {
		t.Errorf("%d of %d pieces left, want 128", got, len(p))
	}
}

// Whoever fills the table with fragments, from a container or from outside, the datagrams of
// others arrive, also when their first piece comes last.
func TestC41FragmentsOfOneTakeNothingFromOthers(t *testing.T) {
	for name, junk := range map[string]func(i int) (from string, f []byte){
		"without a first one": func(i int) (string, []byte) {
			return "c2", Fragment(UDP("c2", 5000, web, string(make([]byte, 2900))), 1480)[1]
		},
		"first ones alone": func(i int) (string, []byte) {
			return "c2", Fragment(UDP("c2", 5000, web, string(make([]byte, 2900))), 1480)[0]
		},
		"tiny": func(i int) (string, []byte) {
			return "c2", Fragment(UDP("c2", 5000, web, string(make([]byte, 64))), 8)[3]
		},
		"from outside": func(i int) (string, []byte) {
			return "up", Fragment(Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, string(make([]byte, 2900))), 1480)[1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(t)
			l.Publish(8080, "c3", 80)
			got := 0
			l.Memory("up").SetSink(func(b []byte, _ frame.Offload) {
				if len(b) > 1200 && len(b) < 1300 || len(b) == 14+20+60_008-47*1256 {
					got++
				}
			})
			flood := func(n, from int) {
				for i := range n {
					at, f := junk(i)
					binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(from+i))
					SumIPv4(f)
					l.Memory(at).Inject(f, noOffload)
				}
				for l.Switch.Step() > 0 {
				}
			}
			flood(10_000, 0)
			const datagrams = 5
			for d := range datagrams {
				p := Fragment(UDP("c1", uint16(6000+d), web, string(make([]byte, 60_000))), 1256)
				slices.Reverse(p)
				for i, piece := range p {
					binary.BigEndian.PutUint16(piece[header.EthernetLen+4:], uint16(d))
					SumIPv4(piece)
					l.Send("c1", piece)
					flood(50, 10_000+(d*len(p)+i)*50)
				}
			}
			if want := datagrams * 48; got != want {
				t.Errorf("%d of %d pieces left; drops %s", got, want, l.Drops())
			}
			if n := l.Dropped("c1", dataplane.DropFragment); n != 0 {
				t.Errorf("%d fragments of the other were dropped", n)
			}
			l.Tock(3 * time.Second)
			if n := dataplane.Deferred(l.Switch); n != 0 {
				t.Errorf("%d chunks are kept", n)
			}
		})
	}
}

func TestFragmentsThatWaitAllocateNothing(t *testing.T) {
	l := New(t)
	l.Memory("up").SetSink(func([]byte, frame.Offload) {})
	p := Fragment(UDP("c1", 5000, web, string(make([]byte, 20_000))), 1256)
	slices.Reverse(p)
	id := uint16(0)
	send := func() {
		id++
		for _, piece := range p {
			binary.BigEndian.PutUint16(piece[header.EthernetLen+4:], id)
			SumIPv4(piece)
			l.Memory("c1").Inject(piece, noOffload)
		}
		l.Switch.Step()
		l.Switch.Step()
	}
	for range 50 {
		send()
	}
	if n := testing.AllocsPerRun(50, send); n != 0 {
		t.Errorf("%v allocations for a reversed datagram, want none: %s", n, fmt.Sprint(l.Drops()))
	}
}
