package dataplane_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// publishSCTP publishes port 8132 as another of c1.
func publishSCTP(l *Lab, f Family, port uint16) {
	l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
		Proto: header.ProtoSCTP, HostFirst: 8132, HostLast: 8132, ContainerAddr: header.AddrFrom(netip.MustParseAddr(f.Addr("c1"))), ContainerFirst: port,
	})
	l.Install()
}

// reassembled is the packet that fragments make, without what comes before its
// transport header.
func reassembled(t *testing.T, frames [][]byte) []byte {
	t.Helper()
	type piece struct {
		from int
		data []byte
	}
	var pieces []piece
	for _, f := range frames {
		See(t, f)
		var l header.Layers
		header.Parse(f, &l)
		from, to, _ := header.FragmentRange(f, &l)
		pieces = append(pieces, piece{from, f[int(l.End)-(to-from) : l.End]})
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.from, b.from) })
	var whole []byte
	for _, p := range pieces {
		if p.from != len(whole) {
			t.Fatalf("a fragment begins at %d, want %d", p.from, len(whole))
		}
		whole = append(whole, p.data...)
	}
	return whole
}

// Fragments of an SCTP packet, in any order, get through to another port number with
// a true checksum, and what was wrong with it stays.
func TestN83FragmentedSCTP(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		cut := []func([]byte, int) [][]byte{Fragment, fragment6}[familyIndex(f)]
		data := make([]byte, 3001) // five fragments
		rng := rand.NewChaCha8([32]byte{})
		rng.Read(data)
		for _, port := range []uint16{8132, 80} {
			l.Config.Publish = nil
			publishSCTP(l, f, port)
			for n, wrong := range []byte{0, 0x55} {
				in := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.World, Dst: f.Host, Proto: header.ProtoSCTP, Payload: sctpBody(4000, 8132, string(data))})
				out := f.From("c1", 0, f.World, Packet{Proto: header.ProtoSCTP, Payload: sctpBody(port, 4000, string(data))})
				permutations(5, func(order []int) {
					if n == 1 && !slices.IsSorted(order) {
						return
					}
					for _, way := range []struct {
						from, to string
						whole    []byte
						src, dst uint16
					}{{"up", "c1", in, 4000, port}, {"c1", "up", out, 8132, 4000}} {
						whole := bytes.Clone(way.whole)
						whole[f.HeaderLen+header.EthernetLen+8] ^= wrong
						frags := cut(whole, 616)
						for _, i := range order {
							l.Send(way.from, frags[i])
						}
						frames := l.Got(way.to)
						if len(frames) != len(frags) {
							t.Fatalf("port %d, %v from %s: %d of %d fragments arrived; %s", port, order, way.from, len(frames), len(frags), l.Drops())
						}
						got := reassembled(t, frames)
						if s, d := binary.BigEndian.Uint16(got), binary.BigEndian.Uint16(got[2:]); s != way.src || d != way.dst {
							t.Errorf("port %d, %v: ports %d to %d, want %d to %d", port, order, s, d, way.src, way.dst)
						}
						if diff := binary.LittleEndian.Uint32(got[8:]) ^ sctpSum(got); diff != uint32(wrong) {
							t.Errorf("port %d, %v: the checksum is wrong by %#x, want %#x", port, order, diff, wrong)
						}
						if !bytes.Equal(got[12:], data) {
							t.Errorf("port %d, %v: the data changed", port, order)
						}
					}
					l.Switch.FlushConns(conntrack.Selector{})
				})
			}
		}
		// What is never complete is held for a while only, and not for ever.
		first := cut(Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.World, Dst: f.Host, Proto: header.ProtoSCTP, Payload: sctpBody(4001, 8132, string(data))}), 616)[0]
		l.Send("up", first)
		l.ExpectNothing()
		before := l.Dropped("up", dataplane.DropFragment)
		l.Advance(3 * time.Second)
		l.ExpectDrop("up", dataplane.DropFragment, before+1)
	})
}
