package linux

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

// TestSocketsGoOver: what one process reads from the next one reads from, by the same socket,
// which takes in nothing while nobody reads, and with the same programs.
func TestSocketsGoOver(t *testing.T) {
	for name, cfg := range map[string]Config{"newest": {}, "without a flow table": {NoFlowTable: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, cfg).(*machine)
			path := m.Netns("web")
			index := 0
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			begin := func() edge.Edge {
				e := m.Next()
				must(e.Begin(edge.Owner{Identity: "0123456789abcdef", PutReserved: func([]reserve.Range) error { return nil }}))
				return e
			}
			open := func(e edge.Edge) (edge.Socket, port.Port, uint64) {
				s, err := e.OpenCable(edge.Port{Index: index, Name: "veth0", Number: 7, Slots: 32})
				must(err)
				var st unix.Stat_t
				must(unix.Fstat(s.Descriptor().FD, &st))
				p, err := port.Open(s.Descriptor())
				must(err)
				return s, p, st.Ino
			}
			speak := func(n int) { // broadcasts of a length that says which
				must(m.ns[path].Do(func() error {
					c, err := net.Dial("udp4", "10.88.0.255:9")
					if err != nil {
						return err
					}
					defer c.Close()
					_, err = c.Write([]byte(strings.Repeat("x", n)))
					return err
				}))
			}
			heard := func(p port.Port, n int) bool {
				b, a := new(frame.Batch), port.NewArena()
				for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
					speak(n) // again: the first are lost until the link has its carrier
					b.Begin(frame.Unlimited)
					a.Reset()
					must(p.Receive(b, a))
					for i := range b.N {
						switch len(b.Frames[i].Data()) {
						case 42 + n:
							p.Release()
							return true
						case 42 + 501:
							t.Error("a frame of before was heard")
						}
					}
					p.Release()
				}
				return false
			}
			e := begin()
			ns, err := e.OpenNetns(path, 0)
			must(err)
			index, err = e.AddCable(ns, edge.Cable{
				Name: "veth0", Alias: "vswitch:0123456789abcdef:web/eth0", Ifname: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, MTU: 1500,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.88.0.9/24")},
			})
			must(err)
			must(ns.Close())
			s, p, was := open(e)
			seal := e.(*Edge).SealID()
			for _, n := range []int{400, 401, 402} {
				if !heard(p, n) {
					t.Fatalf("a frame of %d bytes is not heard", n)
				}
			}
			e.Keep()
			must(p.Close())
			must(s.Close())
			must(e.Close())
			speak(501)
			e = begin()
			s, p, now := open(e)
			if was != now {
				t.Error("the socket is another one")
			}
			if now := e.(*Edge).SealID(); now != seal {
				t.Errorf("the seal is program %d, and was %d", now, seal)
			}
			for _, n := range []int{600, 601, 602} {
				if !heard(p, n) {
					t.Fatalf("a frame of %d bytes is not heard", n)
				}
			}
			must(p.Close())
			must(s.Close())
			s, p, now = open(e)
			if was == now {
				t.Error("the socket was closed, and is the same")
			}
			must(p.Close())
			must(s.Close())
			must(e.DelLink("veth0", index))
			must(e.Close())
		})
	}
}
