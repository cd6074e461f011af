package control

import (
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

const esp, gre = uint8(50), uint8(47)

// Whether the host has a socket for what comes, and since when.
const (
	never  = "never"
	before = "before"
	after  = "after"
)

// TestS30OneReceiver: of everything that comes in by an uplink, host or container receive
// each frame once: of each protocol, whole and in pieces, whether the host opens a socket
// for it before the container's flow, after it, or never.
func TestS30OneReceiver(t *testing.T) {
	for name, cfg := range map[string]daemonSpec{"hooks": {Cgroup: "test"}, "list": {}, "without a flow table": {NoFlowTable: true}} {
		for _, opened := range []string{never, before, after} {
			t.Run(name+"/"+opened, func(t *testing.T) {
				if cfg.Cgroup != "" {
					cfg.Cgroup = labtest.Cgroup(t)
				}
				oneReceiver(t, cfg, opened)
			})
		}
	}
}

func oneReceiver(t *testing.T, cfg daemonSpec, opened string) {
	const tcpPort, udpPort, sctpPort = 21001, 21002, 21003
	families := []bool{false, true}
	open := func(b *border) {
		for _, v6 := range families {
			b.hostBinds("tcp", v6, tcpPort)
			b.hostBinds("udp", v6, udpPort)
			for _, proto := range []uint8{esp, gre, header.ProtoSCTP} {
				b.hostRaw(v6, proto, nil)
			}
		}
	}
	b := newBorder(t, cfg, func(b *border) {
		if opened == before {
			open(b)
		}
	}, "8080:80", "8053:53/udp", "8132:3868/sctp")
	raw := map[uint8][]byte{esp: []byte("esp payload"), gre: {0, 0, 8, 0}, header.ProtoSCTP: sctpPacket(sctpPort, 3868, "x")}
	tcp, udp := make(map[bool]int), make(map[bool]int)
	for _, v6 := range families {
		tcp[v6] = b.flow("tcp", v6, tcpPort, 9000)
		udp[v6] = b.flow("udp", v6, udpPort, 9001)
		if kept := tcp[v6] == tcpPort && udp[v6] == udpPort; kept != (opened != before) {
			t.Errorf("the flows of IPv%s leave from ports %d and %d, the host has %d and %d", familyOf(v6), tcp[v6], udp[v6], tcpPort, udpPort)
		}
		for proto, payload := range raw {
			b.rawFlow(v6, proto, payload)
		}
	}
	if opened == after {
		open(b)
		// A raw socket is found within a fifth of a second, a UDP port at once by the hooks.
		eventually(t, "the flows that the host took end", func() bool {
			nat, err := b.NAT(t.Context(), api.NATQuery{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range nat {
				if f.Proto != "tcp" && f.Proto != "icmp" && f.Proto != "icmpv6" && (f.Proto != "udp" || cfg.Cgroup == "") {
					return false
				}
			}
			return true
		})
	}
	flows := toContainer
	if opened == after {
		flows = toHost
	}
	raws := toContainer
	if opened != never {
		raws = toHost
	}
	for _, v6 := range families {
		near, far, f := remoteAt[v6], farAt[v6], " of IPv"+familyOf(v6)
		b.send("tcp of a flow"+f, toContainer, v6, near, header.ProtoTCP, tcpTo(9000, tcp[v6], 0x10))
		b.send("tcp to the port of a flow"+f, toHost, v6, far, header.ProtoTCP, tcpTo(9000, tcpPort, 0x02))
		b.send("udp of a flow"+f, flows, v6, near, header.ProtoUDP, udpTo(9001, udp[v6]))
		b.send("udp to the port of a flow"+f, toHost, v6, far, header.ProtoUDP, udpTo(9001, udpPort))
		b.send("an error about udp of a flow"+f, flows, v6, near, icmpOf(v6), errorAbout(v6, near, header.ProtoUDP, udpTo(udp[v6], 9001)))
		b.send("an error about udp of the host"+f, toHost, v6, far, icmpOf(v6), errorAbout(v6, far, header.ProtoUDP, udpTo(udpPort, 9001)))
		b.sendPieces("udp of a flow"+f, flows, v6, near, header.ProtoUDP, udpTo(9001, udp[v6]))
		b.sendPieces("udp to the port of a flow"+f, toHost, v6, far, header.ProtoUDP, udpTo(9001, udpPort))
		b.send("published tcp"+f, toContainer, v6, near, header.ProtoTCP, tcpTo(9000, 8080, 0x02))
		b.send("published udp"+f, toContainer, v6, far, header.ProtoUDP, udpTo(9001, 8053))
		b.sendPieces("published udp"+f, toContainer, v6, far, header.ProtoUDP, udpTo(9001, 8053))
		b.send("published sctp"+f, toContainer, v6, far, header.ProtoSCTP, plain(sctpPacket(9001, 8132, "x")))
		for proto, name := range map[uint8]string{esp: "esp", gre: "gre", header.ProtoSCTP: "sctp"} {
			payload := plain(raw[proto])
			if proto == header.ProtoSCTP {
				payload = plain(sctpPacket(3868, sctpPort, "x"))
			}
			b.send(name+" of a flow"+f, raws, v6, near, proto, payload)
			b.send(name+" of another"+f, toHost, v6, far, proto, payload)
			b.sendPieces(name+" of a flow"+f, raws, v6, near, proto, payload)
		}
	}
	b.check()
}

// TestS31BoundPortIsTheHosts: a program of the host binds the UDP port of a container's flow,
// which the kernel may carry meanwhile. The next packet is the host's, and none of them is
// received twice; so is the port that a program holds when the daemon starts again.
func TestS31BoundPortIsTheHosts(t *testing.T) {
	for _, cfg := range []daemonSpec{{}, {NoFlowTable: true}} {
		for _, how := range []string{"", "SIGTERM", "SIGKILL"} {
			t.Run(fmt.Sprintf("no flow table %v, %s", cfg.NoFlowTable, how), func(t *testing.T) { boundPort(t, cfg, how) })
		}
	}
}

func boundPort(t *testing.T, cfg daemonSpec, how string) {
	const port, to = 21010, 9010
	cfg.Cgroup = labtest.Cgroup(t)
	b := newBorder(t, cfg, func(*border) {})
	for _, v6 := range []bool{false, true} {
		if got := b.flow("udp", v6, port, to); got != port {
			t.Fatalf("the flow leaves from port %d", got)
		}
	}
	stream := func(v6 bool) {
		var list [][]byte
		for range 100 {
			list = append(list, b.packet(v6, remoteAt[v6], hostAt[v6], header.ProtoUDP, udpTo(to, port)(10)))
		}
		inject(t, b.world.Outside, "eth0", list...)
	}
	for _, v6 := range []bool{false, true} {
		stream(v6)
		if !cfg.NoFlowTable {
			eventually(t, "the kernel carries what comes in", func() bool {
				had := b.stats().Flows.Frames
				stream(v6)
				return b.stats().Flows.Frames > had+50
			})
		}
	}
	if how != "" {
		for _, v6 := range []bool{false, true} {
			b.hostBinds("udp", v6, port)
		}
		b.restart(how)
	}
	if how == "" { // of both families first: the daemon's own list of what is bound knows none
		for _, v6 := range []bool{false, true} {
			b.send("udp of IPv"+familyOf(v6)+", not bound yet", toContainer, v6, remoteAt[v6], header.ProtoUDP, udpTo(to, port))
		}
	}
	for _, v6 := range []bool{false, true} {
		name := "udp of IPv" + familyOf(v6)
		if how == "" {
			b.hostBinds("udp", v6, port)
		}
		for i := range 5 {
			b.send(fmt.Sprintf("%s, number %d", name, i+1), toHost, v6, remoteAt[v6], header.ProtoUDP, udpTo(to, port))
		}
		b.sendPieces(name, toHost, v6, remoteAt[v6], header.ProtoUDP, udpTo(to, port))
	}
	b.check()
}
