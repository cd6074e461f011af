package dataplane_test

import (
	"fmt"
	"math/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A long random conversation of three containers and two peers, decided by the
// switch and by a model that a reader can check.
func TestNATAgainstModel(t *testing.T) {
	for seed := range int64(20) {
		in := make([]byte, 6000)
		rand.New(rand.NewSource(seed)).Read(in)
		compareNAT(t, in)
	}
}

// FuzzNAT lets the fuzzer write the conversation.
func FuzzNAT(f *testing.F) {
	rng := rand.New(rand.NewSource(1))
	for range 16 {
		in := make([]byte, 4*(8+rng.Intn(40)))
		rng.Read(in)
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) { compareNAT(t, in) })
}

var (
	talkers   = []string{"c1", "c2", "c4"}
	peers     = []string{World, "203.0.113.10"}
	talkFlags = []uint8{SYN, SYN | ACK, ACK, FIN | ACK, RST, ACK, SYN, FIN | ACK}
	talkTimes = []time.Duration{time.Second, 59 * time.Second, 61 * time.Second, 121 * time.Second, 241 * time.Second, 301 * time.Second, 2 * time.Hour, 25 * time.Hour}
)

// compareNAT plays a conversation, four bytes a packet, to the switch and to the
// model.
func compareNAT(t *testing.T, in []byte) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	noQuota(l)
	m := &natModel{}
	var ends []netip.AddrPort // the host's, as peers have seen them
	for step := 0; len(in) >= 4; step++ {
		op, a, b, c := in[0], in[1], in[2], in[3]
		in = in[4:]
		if op&0xf == 0xf {
			d := talkTimes[int(a)%len(talkTimes)]
			l.Advance(d)
			m.advance(d)
			continue
		}
		proto := []uint8{header.ProtoUDP, header.ProtoTCP, header.ProtoTCP, header.ProtoICMP}[op&3]
		flags := talkFlags[int(c>>5)%len(talkFlags)]
		peer := netip.AddrPortFrom(netip.MustParseAddr(peers[a&1]), 80+uint16(a>>1&1))
		at, src, dst := "up", peer, modelEntry
		switch op >> 2 & 3 {
		case 0, 1: // a container to a peer
			at, dst = talkers[int(b)%len(talkers)], peer
		case 2: // a container to the published port
			at = talkers[int(b)%len(talkers)]
			if proto == header.ProtoICMP {
				continue
			}
		case 3: // a peer or c1's service to where they were written from
			if len(ends) > 0 && c&1 == 1 {
				dst = ends[int(b)%len(ends)]
			}
			if c&2 == 2 && proto != header.ProtoICMP && len(ends) > 0 && dst != modelEntry {
				at, src = "c1", modelWeb
			}
		}
		if at != "up" && src != modelWeb {
			src = netip.AddrPortFrom(netip.MustParseAddr(Stations[at]), []uint16{5000, 80}[b>>4&1])
		}
		frame := talk(proto, at, src, dst, flags)
		if proto == header.ProtoICMP { // the identifier is the only port
			if at == "up" {
				src = netip.AddrPortFrom(src.Addr(), 0)
			} else {
				dst = netip.AddrPortFrom(dst.Addr(), 0)
			}
		}
		if at != "up" && dst.Addr() == modelHost && dst != modelEntry && !m.knows(proto, at, src, dst) {
			continue // to the host itself, which is no matter of the NAT
		}
		out, from, fresh := m.packet(proto, at, src, dst, flags)
		l.Send(at, frame)
		what := fmt.Sprintf("step %d: protocol %d, %s %s -> %s, flags %#x", step, proto, at, src, dst, flags)
		got := map[string]Seen{}
		for name := range Stations {
			for _, f := range l.Got(name) {
				got[name] = See(t, f)
				CheckSums(t, f)
			}
		}
		if out.station == "" {
			if len(got) != 0 {
				t.Fatalf("%s: came out as %v, the model drops it", what, got)
			}
			continue
		}
		s, ok := got[out.station]
		if !ok || len(got) != 1 {
			t.Fatalf("%s: came out as %v, the model sends it to %v; drops %s", what, got, out, l.Drops())
		}
		seen := netip.AddrPortFrom(s.Src.NetIP(), s.SrcPort)
		if fresh != nil {
			if err := m.chosen(fresh, seen); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			from = seen
			ends = append(ends, seen)
		}
		if seen != from || s.To() != out.addr.String() {
			t.Fatalf("%s: came out %s -> %s, the model says %s -> %s", what, seen, s.To(), from, out.addr)
		}
	}
	if got, want := len(l.Switch.Conns()), len(m.flows); got != want {
		t.Errorf("%d flows, the model has %d", got, want)
	}
}

// knows reports whether a packet belongs to a flow.
func (m *natModel) knows(proto uint8, at string, src, dst netip.AddrPort) bool {
	for _, f := range m.flows {
		if f.proto == proto && (f.first == modelEnd{at, src} && f.firstSees == dst || f.second == modelEnd{at, src} && f.secondSees == dst) {
			return true
		}
	}
	return false
}

// talk builds a packet. Both sides number from 1000, and all has been said.
func talk(proto uint8, at string, src, dst netip.AddrPort, flags uint8) []byte {
	p := Packet{Src: src.String(), Dst: dst.String(), Proto: proto, Flags: flags, Seq: 1001, Ack: 1001}
	if flags&SYN != 0 {
		p.Seq = 1000
	}
	switch {
	case flags&RST != 0:
		p.Seq = 77_000_000
	case flags&ACK == 0:
		p.Ack = 0
	}
	if proto == header.ProtoICMP {
		p.Src, p.Dst, p.Type, p.ID = src.Addr().String(), dst.Addr().String(), 8, src.Port()
		if at == "up" {
			p.Type, p.ID = 0, dst.Port()
		}
	}
	if at != "up" {
		return Bytes(From(at, p.Dst, p))
	}
	p.EthSrc, p.EthDst = NextHopMAC, MAC("up")
	return Bytes(p)
}
