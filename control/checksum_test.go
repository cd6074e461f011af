package control

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestS65PlaceOfAChecksum: a container says of its frames that their checksum is to be
// finished at any place of the headers. None leaves with another address or port than the
// switch has written, what is refused is counted as such, and what is counted as sent left.
func TestS65PlaceOfAChecksum(t *testing.T) {
	for _, noFlowTable := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", noFlowTable), func(t *testing.T) {
			s := newSpoken(t, noFlowTable)
			if err := s.world.Host.SetOffloads("eth0", false); err != nil { // the checksum is finished on the way out
				t.Fatal(err)
			}
			for _, v6 := range []bool{false, true} {
				s.begin("masqueraded", "c1", "x", header.ProtoUDP, v6)
				s.begin("masqueraded", "c1", "x", header.ProtoTCP, v6)
			}
			s.carries()
			for _, f := range s.flows {
				s.poison(f)
			}
		})
	}
}

// poison sends frames of a flow with every place of a checksum, and checks what left.
func (s *spoken) poison(f *spokenFlow) {
	t, x := s.t, f.at[1].heard
	t.Helper()
	before, packets := s.drops(), s.packets(f)
	send := superSocket(t, f.at[0].ns, "eth0")
	var marks []string
	for at := header.EthernetLen; at <= f.l4()+20; at += 2 {
		for _, offset := range []int{0, 2, 4, 6, 10, 16} {
			mark := s.mark()
			b := f.frame(0, switchtest.ACK, 0, 0, append(make([]byte, 40), mark...)) // which no checksum overwrites
			if at < offset {
				continue
			}
			off := frame.Offload{Csum: frame.CsumPartial, CsumStart: uint16(at - offset), CsumOffset: uint16(offset)}
			switch err := send(off, b); {
			case err == nil:
				marks = append(marks, mark)
			case !errors.Is(err, unix.EINVAL): // by the container's own kernel
				t.Fatal(err)
			}
		}
	}
	arrived := 0
	deadline := time.Now().Add(20 * time.Second)
	for arrived+s.drops()-before < len(marks) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		arrived = 0
		for _, mark := range marks {
			arrived += len(x.tagged(mark))
		}
	}
	for _, mark := range marks {
		for _, b := range x.tagged(mark) {
			if l := switchtest.See(t, b); l.From() != f.addrs[1][1] || l.To() != f.addrs[1][0] {
				t.Errorf("%s: a frame left from %s to %s, want %s to %s", f.name, l.From(), l.To(), f.addrs[1][1], f.addrs[1][0])
			}
		}
	}
	if n := int(s.packets(f) - packets); n != arrived || n == 0 || n == len(marks) {
		t.Errorf("%s: %d of %d frames are counted, %d arrived", f.name, n, len(marks), arrived)
	}
	if lost := len(marks) - arrived; lost != s.drops()-before {
		t.Errorf("%s: %d of %d frames did not arrive, %d are counted as refused", f.name, lost, len(marks), s.drops()-before)
	}
}

// drops are the frames that were dropped for any reason.
func (s *spoken) drops() (n int) {
	s.t.Helper()
	for _, of := range s.stats().Drops {
		n += int(of)
	}
	return n
}

// packets are those of a flow that nat ls shows.
func (s *spoken) packets(f *spokenFlow) uint64 {
	s.t.Helper()
	s.stats() // reads the counters of the kernel's side
	return s.connection(f).Packets
}

// connection is what nat ls shows of a flow.
func (s *spoken) connection(f *spokenFlow) api.NATEntry {
	s.t.Helper()
	nat, err := s.NAT(s.t.Context(), api.NATQuery{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range nat {
		if e.Source == f.addrs[0][0] && (e.Proto == "tcp") == (f.proto == header.ProtoTCP) {
			return e
		}
	}
	return api.NATEntry{State: "none"}
}
