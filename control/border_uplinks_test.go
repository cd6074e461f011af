package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS30TwoUplinks: with two uplinks host and container receive each frame once by either of
// them, before and after a program of the host has bound the ports of flows.
func TestS30TwoUplinks(t *testing.T) {
	const here, there, port, second, to = "198.51.101.1", "198.51.101.9", 21101, 21102, 9001
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", bare), func(t *testing.T) {
			var lan *netlab.NS
			b := newBorder(t, daemonSpec{Cgroup: labtest.Cgroup(t), NoFlowTable: bare}, func(b *border) {
				h := b.world.Host
				lan = labtest.New(t, "lan")
				if err := errors.Join(
					netlab.Veth(h, "eth1", lan, "eth0", 1500), h.AddAddr("eth1", here+"/24"), lan.AddAddr("eth0", there+"/24"), h.SetUp("eth1"), lan.SetUp("eth0"),
				); err != nil {
					t.Fatal(err)
				}
				b.cfg.Uplinks = []string{"eth0", "eth1"}
			}, "8080:80", "8053:53/udp")
			atEth0, atEth1 := b.atHost, labtest.CountFrames(t, b.world.Host, "eth1")
			b.atHost = func(n int) int { return atEth0(n) + atEth1(n) }
			if got := b.flow("udp", false, port, to); got != port {
				t.Fatalf("the flow by eth0 leaves from port %d", got)
			}
			if got := flowTo(t, b, lan, at(there, to), second); got != at(here, second) {
				t.Fatalf("the flow by eth1 leaves from %s", got)
			}
			head := binary.BigEndian.AppendUint16(append(append([]byte{}, macBytes(t, b.world.Host, "eth1")...), macBytes(t, lan, "eth0")...), header.TypeIPv4)
			byLAN := func(name string, want bool, proto uint8, l4 func(int) []byte) {
				t.Helper()
				f := append(append([]byte{}, head...), ipPacket(there, here, proto, l4(b.room(false, len(l4(0)))))...)
				b.sent = append(b.sent, crossing{name: name + " by eth1", len: len(f), host: want})
				inject(t, lan, "eth0", f)
			}
			for _, bound := range []bool{false, true} {
				flows := toContainer
				if bound {
					b.hostBinds("udp", false, port)
					b.hostBinds("udp", false, second)
					flows = toHost
				}
				b.send("udp of a flow by eth0", flows, false, remoteAt[false], header.ProtoUDP, udpTo(to, port))
				b.sendPieces("udp of a flow by eth0", flows, false, remoteAt[false], header.ProtoUDP, udpTo(to, port))
				b.send("published tcp by eth0", toContainer, false, remoteAt[false], header.ProtoTCP, tcpTo(to, 8080, 0x02))
				byLAN("udp of a flow", flows, header.ProtoUDP, udpTo(to, second))
				byLAN("udp of another to its port", toHost, header.ProtoUDP, udpTo(to+1, second))
				byLAN("tcp to its port", toHost, header.ProtoTCP, tcpTo(to, second, 0x02))
				byLAN("published tcp", toContainer, header.ProtoTCP, tcpTo(to, 8080, 0x02))
				byLAN("published udp", toContainer, header.ProtoUDP, udpTo(to, 8053))
				b.check()
			}
		})
	}
}

func macBytes(t *testing.T, ns *netlab.NS, ifname string) []byte {
	t.Helper()
	m := macOf(t, ns, ifname)
	return m[:]
}

// flowTo begins a flow of UDP from a port of the container to a station, and returns from
// where that sees it come.
func flowTo(t *testing.T, b *border, station *netlab.NS, remote string, port int) string {
	t.Helper()
	l, err := station.ListenPacket("udp4", remote)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := b.c.DialFrom("udp4", at(b.addrs[false], port), remote, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	from := ""
	eventually(t, remote+" hears the container", func() bool {
		c.Write([]byte("?")) // the first may wait for a neighbour
		l.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, peer, err := l.ReadFrom(make([]byte, 100))
		if err == nil {
			from = peer.(*net.UDPAddr).String()
		}
		return err == nil
	})
	return from
}

// TestPublishedAddressComesBack: an address of the host goes and comes back, and with it the
// port that is published there. Flows by another address go on meanwhile.
func TestPublishedAddressComesBack(t *testing.T) {
	for _, bare := range []bool{false, true} {
		r := newRig(t)
		r.cfg.NoFlowTable = bare
		const own = "198.51.100.2"
		if err := r.world.Host.AddAddr("eth0", own+"/32"); err != nil {
			t.Fatal(err)
		}
		r.start()
		web, _ := r.attach("web", api.Attach{Publish: []string{own + ":8053:53/udp"}})
		listenUDP(t, web, ":53", "web")
		listenUDP(t, r.world.Outside, ":53", "outside")
		for range 2 {
			wantUDP(t, r.world.Outside, own+":8053", "web")
			if err := r.world.Host.DelAddr("eth0", own+"/32"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "nobody answers at the address", func() bool { return askUDP(r.world.Outside, own+":8053") == "" })
			wantUDP(t, web, netlab.OutsideAddr+":53", "outside")
			if err := r.world.Host.AddAddr("eth0", own+"/32"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the published port answers again", func() bool { return askUDP(r.world.Outside, own+":8053") == "web" })
		}
	}
}
