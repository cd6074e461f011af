package control

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestN04S35PortsOfTheDaemon: by the ranges that the daemon has, of itself and by its
// options, a port below 1024 stays below it and others above, no port is that of two
// containers or one that the host gives to its own connections, and a port that lies in the
// ranges stays as it is while it is free.
func TestN04S35PortsOfTheDaemon(t *testing.T) {
	for _, tc := range []struct {
		ranges []string
		has    func(p int) bool
	}{
		{nil, func(p int) bool { return p >= 600 && p <= 32767 || p >= 61000 }},
		{[]string{"20000-20099", "800-899"}, func(p int) bool { return p >= 20000 && p <= 20099 || p >= 800 && p <= 899 }},
	} {
		t.Run(strings.Join(tc.ranges, ","), func(t *testing.T) {
			b := newBorder(t, daemonSpec{MasqueradePorts: tc.ranges}, func(*border) {})
			d, ct := b.attach("d", onNetwork("dual"))
			to := 9100
			for _, v6 := range []bool{false, true} {
				for _, network := range []string{"tcp", "udp"} {
					used := make(map[int]bool)
					for _, port := range []int{665, 700, 830, 1023, 1024, 5000, 20005, 40000, 61005} {
						for i, left := range []int{
							b.flowOf(b.c, b.addrs[v6], network, v6, port, to), b.flowOf(d, addrsByFamily(ct)[v6], network, v6, port, to+1),
						} {
							what := fmt.Sprintf("%s%s from port %d of container %d", network, familyOf(v6), port, i)
							if !tc.has(left) || left < 1024 != (port < 1024) {
								t.Errorf("%s leaves from %d", what, left)
							}
							if used[left] {
								t.Errorf("%s leaves from %d, which another has", what, left)
							}
							if tc.has(port) && !used[port] && left != port {
								t.Errorf("%s leaves from %d, though its own is free", what, left)
							}
							used[left] = true
						}
						to += 2
					}
				}
			}
		})
	}
}

// TestS32TunnelsOfTheHost: a container gets the packets of a peer and a protocol without ports
// only where the host has no use for them, and its own tunnel to another peer goes on.
func TestS32TunnelsOfTheHost(t *testing.T) {
	for _, tc := range []struct {
		name string
		open func(b *border)
	}{
		{"a connected socket", func(b *border) {
			b.hostRaw(false, esp, &unix.SockaddrInet4{Addr: netip.MustParseAddr(netlab.OutsideAddr).As4()})
			b.hostRaw(true, esp, &unix.SockaddrInet6{Addr: netip.MustParseAddr(netlab.OutsideAddr6).As16()})
			eventually(b.t, "the host's socket is known", func() bool {
				b.rawTo(true, netlab.OutsideAddr6, esp, []byte("esp payload"))
				return b.dropped("c", "postrouting-tuple-conflict") > 0
			})
		}},
		{"packets that nobody claimed", func(b *border) {
			for _, v6 := range []bool{false, true} {
				b.send("esp before the container's", toHost, v6, remoteAt[v6], esp, plain([]byte("esp payload")))
			}
			b.check()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBorder(t, daemonSpec{}, func(*border) {})
			for _, v6 := range []bool{false, true} {
				b.flow("udp", v6, 21020, 9020) // the next hop is known, and the addresses have slots
			}
			tc.open(b)
			for _, v6 := range []bool{false, true} {
				b.rawTo(v6, remoteAt[v6], esp, []byte("esp payload"))
				b.rawTo(v6, farAt[v6], esp, []byte("esp payload"))
			}
			for _, v6 := range []bool{false, true} {
				f := " of IPv" + familyOf(v6)
				for range 3 {
					b.send("esp of the host's tunnel"+f, toHost, v6, remoteAt[v6], esp, plain([]byte("esp payload")))
					b.send("esp of the container's tunnel"+f, toContainer, v6, farAt[v6], esp, plain([]byte("esp payload")))
				}
				b.sendPieces("esp of the host's tunnel"+f, toHost, v6, remoteAt[v6], esp, plain([]byte("esp payload")))
				b.send("an error about the container's tunnel"+f, toContainer, v6, farAt[v6], icmpOf(v6), errorAbout(v6, farAt[v6], esp, plain([]byte("esp payload"))))
				b.send("an error about the host's tunnel"+f, toHost, v6, remoteAt[v6], icmpOf(v6), errorAbout(v6, remoteAt[v6], esp, plain([]byte("esp payload"))))
			}
			b.check()
		})
	}
}

// TestS33PiecesOfPublished: pieces of what goes to a published port never wait in the memory
// in which the host puts packets together.
func TestS33PiecesOfPublished(t *testing.T) {
	for _, cfg := range []daemonSpec{{}, {NoFlowTable: true}} {
		b := newBorder(t, cfg, func(*border) {}, "8053:53/udp")
		for _, v6 := range []bool{false, true} {
			b.flow("udp", v6, 21020, 9020) // the next hop is known
		}
		was := nstat(t, b.world.Host)
		for i := range 20 {
			v6 := i%2 == 1
			b.sendPieces("to the published port", toContainer, v6, remoteAt[v6], header.ProtoUDP, udpTo(9001, 8053))
		}
		b.check()
		wantUnchanged(t, was, nstat(t, b.world.Host), "IpReasmReqds", "Ip6ReasmReqds")
	}
}

// TestS34NeighborsOfTheHost: entries of the host's neighbours that the administrator made are
// the same to the byte after containers have spoken by way of them.
func TestS34NeighborsOfTheHost(t *testing.T) {
	labtest.NeedProgram(t, "ip")
	b := newBorder(t, daemonSpec{}, func(b *border) {
		mac := ownMAC(b.t, b.world.Outside, "eth0").String()
		for _, a := range []string{netlab.OutsideAddr, netlab.OutsideAddr6} {
			b.run("ip", "neigh", "replace", a, "lladdr", mac, "dev", "eth0", "nud", "permanent")
		}
		b.run("ip", "neigh", "replace", "198.51.100.77", "lladdr", mac, "dev", "eth0", "nud", "noarp")
	})
	entries := func() string {
		var list []string
		for line := range strings.Lines(command(t, b.world.Host, "ip", "neigh", "show", "dev", "eth0", "nud", "all")) {
			if strings.Contains(line, "PERMANENT") || strings.Contains(line, "NOARP") && strings.Contains(line, "198.51.100.77") {
				list = append(list, line)
			}
		}
		return strings.Join(list, "")
	}
	was := entries()
	if strings.Count(was, "\n") != 3 {
		t.Fatalf("the entries are\n%s", was)
	}
	for i, v6 := range []bool{false, true} {
		b.flow("udp", v6, 21030+i, 9030)
		b.flow("tcp", v6, 21030+i, 9030)
	}
	if c, err := b.c.Dial("udp", "198.51.100.77:9", time.Second); err == nil {
		c.Write([]byte("?"))
		c.Close()
	}
	b.restart("SIGKILL")
	for i, v6 := range []bool{false, true} {
		b.flow("udp", v6, 21040+i, 9040)
	}
	if got := entries(); got != was {
		t.Errorf("the entries were\n%sand are\n%s", was, got)
	}
}

// TestL44ConnectionsOfTheHost: the host is connected from a port below 1024 that it chose
// itself, as its NFS client is. A container that asks for the same port to the same server
// gets another.
func TestL44ConnectionsOfTheHost(t *testing.T) {
	const port, to = 700, 9070
	b := newBorder(t, daemonSpec{}, func(*border) {})
	for i, v6 := range []bool{false, true} {
		l, err := b.world.Outside.Listen("tcp"+familyOf(v6), at(farAt[v6], to))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := b.world.Host.DialFrom("tcp", at(hostAt[v6], port+i), at(farAt[v6], to), 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	time.Sleep(3 * time.Second) // the daemon looks once a second
	for i, v6 := range []bool{false, true} {
		if got := b.flow("tcp", v6, port+i, to); got == port+i || got < 600 || got > 1023 {
			t.Errorf("the flow of IPv%s leaves from port %d", familyOf(v6), got)
		}
	}
}
