package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// sctpBody is an SCTP packet with a true checksum.
func sctpBody(src, dst uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = append(b, 0xca, 0xfe, 0, 1, 0, 0, 0, 0)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[8:], sctpSum(b))
	return b
}

func sctpSum(b []byte) uint32 {
	b = bytes.Clone(b)
	clear(b[8:12])
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func sctpFrom(c string, src uint16, dst, data string) []byte {
	to := netip.MustParseAddrPort(dst)
	return Bytes(From(c, dst, Packet{Src: Stations[c], Dst: to.Addr().String(), Proto: header.ProtoSCTP, Payload: sctpBody(src, to.Port(), data)}))
}

func sctpInbound(src, dst, data string) []byte {
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: from.Addr().String(), Dst: to.Addr().String(), Proto: header.ProtoSCTP, Payload: sctpBody(from.Port(), to.Port(), data)})
}

// wantSCTP checks addresses, ports and checksum of a frame.
func wantSCTP(t *testing.T, f []byte, src, dst string) {
	t.Helper()
	var l header.Layers
	if !header.Parse(f, &l) || l.Tuple.Proto != header.ProtoSCTP || l.Kind != header.KindL4 {
		t.Fatalf("no SCTP: %s", Describe(f))
	}
	from, to := netip.AddrPortFrom(l.Tuple.Src.NetIP(), l.Tuple.SrcPort), netip.AddrPortFrom(l.Tuple.Dst.NetIP(), l.Tuple.DstPort)
	if from.String() != src || to.String() != dst {
		t.Errorf("%s -> %s, want %s -> %s", from, to, src, dst)
	}
	p := f[l.L4:l.End]
	if got := binary.LittleEndian.Uint32(p[8:]); got != sctpSum(p) {
		t.Errorf("checksum %#x, want %#x", got, sctpSum(p))
	}
	See(t, f)
}

// SCTP goes out with its own ports, one container for each pair of them and
// remote address.
func TestN84SCTPKeepsItsPorts(t *testing.T) {
	l := New(t)
	l.Send("c1", sctpFrom("c1", 5000, World+":3868", "init"))
	out := l.Expect("up")
	wantSCTP(t, out, HostAddr+":5000", World+":3868")
	l.Send("c2", sctpFrom("c2", 5001, World+":3868", "init"))
	wantSCTP(t, l.Expect("up"), HostAddr+":5001", World+":3868")
	l.Send("c2", sctpFrom("c2", 5000, World+":3868", "init"))
	l.ExpectDrop("c2", dataplane.DropTupleConflict, 1)
	l.Send("c2", sctpFrom("c2", 5000, World+":3869", "init"))
	wantSCTP(t, l.Expect("up"), HostAddr+":5000", World+":3869")
	if l.Peers.Len() != 3 {
		t.Errorf("%d peers are claimed, want 3", l.Peers.Len())
	}
	l.Send("up", sctpInbound(World+":3868", HostAddr+":5000", "init ack"))
	wantSCTP(t, l.Expect("c1"), World+":3868", "10.1.0.11:5000")
	l.Send("up", sctpInbound(World+":3868", HostAddr+":5001", "init ack"))
	wantSCTP(t, l.Expect("c2"), World+":3868", "10.1.0.12:5001")
	for i, stranger := range []string{World + ":3867", "203.0.113.10:3868"} {
		l.Send("up", sctpInbound(stranger, HostAddr+":5000", "init"))
		l.ExpectDrop("up", dataplane.DropUnclaimed, uint64(i+1))
	}
	l.Send("up", fromRouter(3, 2, out))
	if got := See(t, l.Expect("c1")); got.Dst.String() != "10.1.0.11" {
		t.Errorf("an error went to %s", got.Dst)
	}
	l.Advance(601 * time.Second)
	if l.Peers.Len() != 0 {
		t.Error("peers outlive their flows")
	}
	l.Send("c2", sctpFrom("c2", 5000, World+":3868", "init"))
	l.Expect("up")
}

// What has no port holds its peer as long as it lives, and no longer.
func TestN84PeersAreClaimed(t *testing.T) {
	l := New(t)
	esp := func(c string, i int) []byte {
		dst := fmt.Sprintf("203.0.113.%d", i)
		return Bytes(From(c, dst, Packet{Src: Stations[c], Proto: 50, Payload: []byte("esp")}))
	}
	for i := range MaxPeers {
		l.Send("c1", esp("c1", 1+i))
		l.Expect("up")
	}
	l.Send("c1", esp("c1", 200))
	l.Expect("c1")                                 // is told, as of a full table
	l.ExpectDrop("c1", dataplane.DropTableFull, 1) // and its place in conntrack is free again
	if n := len(l.Switch.Conns()); n != MaxPeers || l.Peers.Len() != MaxPeers {
		t.Errorf("%d flows, %d peers, want %d", n, l.Peers.Len(), MaxPeers)
	}
	if n := l.Switch.FlushConns(conntrack.Selector{To: netip.MustParsePrefix("203.0.113.1/32")}); n != 1 || l.Peers.Len() != MaxPeers-1 {
		t.Errorf("%d flushed, %d peers", n, l.Peers.Len())
	}
	l.Send("c1", esp("c1", 200))
	l.Expect("up")
	l.Policy[0].Internal = true // no flow may go on
	l.Install()
	for i := range MaxPeers {
		l.Send("c1", esp("c1", 2+i))
	}
	l.Advance(601 * time.Second)
	if l.Peers.Len() != 0 {
		t.Errorf("%d peers are left", l.Peers.Len())
	}
}

// A published SCTP port, the same port and another: ports and checksum are right
// both ways, a checksum that was wrong stays wrong.
func TestN82N83PublishedSCTP(t *testing.T) {
	for _, port := range []uint16{8132, 80} {
		l := New(t)
		l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
			Proto: header.ProtoSCTP, HostFirst: 8132, HostLast: 8132, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c1"])), ContainerFirst: port,
		})
		l.Install()
		inside := fmt.Sprintf("10.1.0.11:%d", port)
		l.Send("up", sctpInbound(World+":4000", HostAddr+":8132", "init"))
		wantSCTP(t, l.Expect("c1"), World+":4000", inside)
		l.Send("c1", sctpFrom("c1", port, World+":4000", "init ack"))
		out := l.Expect("up")
		wantSCTP(t, out, HostAddr+":8132", World+":4000")
		l.Send("up", fromRouter(3, 2, out))
		if got := See(t, l.Expect("c1")); got.Dst.String() != "10.1.0.11" {
			t.Errorf("an error went to %s", got.Dst)
		}

		bad := sctpInbound(World+":4000", HostAddr+":8132", "some data of more than padding")
		bad[header.EthernetLen+20+8] ^= 0x55
		l.Send("up", bad)
		got := l.Expect("c1")[header.EthernetLen+20:]
		if diff := binary.LittleEndian.Uint32(got[8:]) ^ sctpSum(got); diff != 0x55 {
			t.Errorf("a checksum that was wrong by 0x55 is by %#x", diff)
		}

		// By the host's address from inside, also from the same network.
		for _, c := range []string{"c2", "c4"} {
			l.Send(c, sctpFrom(c, 5000, HostAddr+":8132", "init"))
			wantSCTP(t, l.Expect("c1"), HostAddr+":5000", inside)
			l.Send("c1", sctpFrom("c1", port, HostAddr+":5000", "init ack"))
			wantSCTP(t, l.Expect(c), HostAddr+":8132", Stations[c]+":5000")
			l.Switch.FlushConns(conntrack.Selector{Kinds: conntrack.Only(conntrack.KindHairpin)})
		}
		if l.Peers.Len() != 0 {
			t.Error("peers of flows that hold a published port")
		}
		// Nobody takes the port for flows of its own (CVE-2021-3773).
		l.Send("c2", sctpFrom("c2", 8132, World+":4001", "init"))
		l.ExpectDrop("c2", dataplane.DropTupleConflict, 1)
		l.Send("up", sctpInbound(World+":4001", HostAddr+":8132", "init"))
		wantSCTP(t, l.Expect("c1"), World+":4001", inside)
		l.Send("up", sctpInbound(World+":4000", HostAddr+":8133", "init"))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
	}
}
