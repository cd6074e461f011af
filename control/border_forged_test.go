package control

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestS36ForgedSources: what comes by the uplink from an address of a container, of its
// network's subnet or of the host reaches no container, and the host only where it is for the
// host itself. The host would take it all: it forwards, and asks nowhere where a packet came in.
func TestS36ForgedSources(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", bare), func(t *testing.T) {
			const tcpPort, udpPort, hostPort = 21101, 21102, 21103
			b := newBorder(t, daemonSpec{NoFlowTable: bare}, func(b *border) {
				for key, value := range map[string]string{
					"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/eth0/rp_filter": "0",
					"ipv4/conf/all/accept_local": "1", "ipv4/conf/eth0/accept_local": "1",
				} {
					sysctl(t, b.world.Host, key, value)
				}
				for _, v6 := range []bool{false, true} {
					b.hostBinds("udp", v6, hostPort)
				}
			}, "8080:80", "8053:53/udp")
			n, err := b.Network(t.Context(), "dual")
			if err != nil {
				t.Fatal(err)
			}
			var all []forgery
			for _, s := range n.Subnets {
				v6 := netip.MustParsePrefix(s.Subnet).Addr().Is6()
				all = append(all, forgery{v6, s.Gateway, b.flow("tcp", v6, tcpPort, 9100), b.flow("udp", v6, udpPort, 9101), hostPort})
			}
			forge := func() (ours int) {
				for _, f := range all {
					ours += b.forge(f)
				}
				b.check()
				return ours
			}
			before := b.stats().Drops["guard-forged-source"]
			forged := uint64(forge())
			eventually(t, "each is counted", func() bool { return b.stats().Drops["guard-forged-source"] == before+forged })
			told := map[string]bool{}
			for _, e := range pastEvents(t, b.rig) {
				if e.Type == api.EventForgedSource && e.Interface == "eth0" && len(e.Addresses) == 1 {
					told[e.Addresses[0]] = true
				}
			}
			if len(told) == 0 {
				t.Error("no event tells of a forged source")
			}
			b.kill()
			forge()
		})
	}
}

// forgery is what packets of a family are forged about.
type forgery struct {
	v6                 bool
	gateway            string
	tcp, udp, hostPort int // of flows, and of a program of the host
}

// forge sends packets from addresses of ours, and returns how many are for something of ours.
func (b *border) forge(f forgery) (ours int) {
	b.t.Helper()
	host, ct := hostAt[f.v6], b.addrs[f.v6]
	nobody := netip.MustParseAddr(f.gateway)
	for range 9 {
		nobody = nobody.Next()
	}
	for _, src := range []string{ct, f.gateway, nobody.String(), host} {
		for _, c := range []struct {
			name, dst string
			proto     uint8
			l4        func(int) []byte
		}{
			{"published tcp", host, header.ProtoTCP, tcpTo(9102, 8080, switchtest.SYN)},
			{"published udp", host, header.ProtoUDP, udpTo(9103, 8053)},
			{"an error about a flow", host, icmpOf(f.v6), errorAbout(f.v6, remoteAt[f.v6], header.ProtoTCP, tcpTo(f.tcp, 9100, switchtest.ACK))},
			{"the container", ct, header.ProtoUDP, udpTo(9103, 53)},
			{"the gateway", f.gateway, header.ProtoUDP, udpTo(9103, f.hostPort)},
			{"an error about another", host, icmpOf(f.v6), errorAbout(f.v6, remoteAt[f.v6], header.ProtoUDP, udpTo(f.udp, 9101))},
			{"a connection of the host", f.gateway, header.ProtoTCP, tcpTo(80, 40000, switchtest.ACK)},
		} {
			p := b.packet(f.v6, src, c.dst, c.proto, c.l4(b.room(f.v6, len(c.l4(0)))))
			b.sent = append(b.sent, crossing{name: c.name + " from " + src, len: len(p), nobody: true})
			inject(b.t, b.world.Outside, "eth0", p)
			ours++
		}
		b.send("the host's own port from "+src, toHost, f.v6, src, header.ProtoUDP, udpTo(9104, f.hostPort))
	}
	return ours
}
