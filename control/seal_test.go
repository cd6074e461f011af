package control

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// The host's stack does not answer ARP on a container's cable: the gateway is
// answered once, by the switch, other addresses of the host by nobody.
func TestL40HostAnswersNoARP(t *testing.T) {
	r := newRig(t)
	r.start()
	c1, ct := r.attach("c1", api.Attach{})
	sysctl(t, r.world.Host, "ipv4/conf/all/arp_ignore", "0")
	me, gw := macs(t, c1, "eth0", gatewayOf(t, r))
	got := sniff(t, c1, "eth0")
	ask := func(target string) []byte {
		return switchtest.ARP(header.Broadcast, me, 1, me, addr(ct), header.MAC{}, target)
	}
	inject(t, c1, "eth0", ask(netlab.HostAddr), ask(netlab.OutsideAddr), ask("127.0.0.1"))
	if n := got.count(isARP); n != 0 {
		t.Errorf("%d answers for addresses that are not of the network, want none", n)
	}
	inject(t, c1, "eth0", ask("10.88.0.1"))
	if n := got.comes(1, func(f []byte) bool { return isARP(f) && header.MAC(f[22:28]) == gw }); n != 1 {
		t.Errorf("%d answers for the gateway, want that of the switch alone", n)
	}
}

func gatewayOf(t *testing.T, r *rig) string {
	t.Helper()
	n, err := r.Network(t.Context(), model.DefaultNetwork)
	if err != nil {
		t.Fatal(err)
	}
	return n.GatewayMAC
}

// What a container sends to the MAC address of its cable's host end is neither
// accepted nor forwarded by the host's stack, even when that forwards.
func TestL41HostForwardsNothing(t *testing.T) {
	r := newRig(t)
	r.start()
	c1, ct := r.attach("c1", api.Attach{})
	_, ct2 := r.attach("c2", api.Attach{})
	sysctl(t, r.world.Host, "ipv4/ip_forward", "1")
	sysctl(t, r.world.Host, "ipv4/conf/all/accept_local", "1")
	out := sniff(t, r.world.Outside, "eth0")
	me := ownMAC(t, c1, "eth0")
	veth, err := header.ParseMAC(hostMAC(t, r, ct.Endpoints[0].HostInterface))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // reports of groups that were joined
	before := nstat(t, r.world.Host)
	for _, dst := range []string{netlab.HostAddr, "10.88.0.1", addr(ct2), netlab.OutsideAddr, netlab.FarAddr, "127.0.0.1", "255.255.255.255"} {
		for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
			inject(t, c1, "eth0", switchtest.Bytes(switchtest.Packet{
				EthSrc: me, EthDst: veth, Src: addr(ct) + ":5000", Dst: dst + ":7000", Proto: proto, Flags: switchtest.SYN,
			}))
		}
	}
	if n := out.count(func(f []byte) bool { return !isARP(f) && f[12] == 8 }); n != 0 {
		t.Errorf("%d packets went out of the host", n)
	}
	wantUnchanged(t, before, nstat(t, r.world.Host), "IpInReceives", "IpForwDatagrams", "IpInDelivers", "IpInAddrErrors", "TcpOutRsts", "IcmpOutMsgs")
}

// Thousands of translated connections, and the strays behind them: the host's
// stack answers none with RST or port unreachable.
func TestL42HostSendsNoReset(t *testing.T) {
	r := newRig(t)
	r.start()
	c1, _ := r.attach("c1", api.Attach{Publish: []string{"8080:80"}})
	serve(t, c1, ":80", "c1")
	serve(t, r.world.Outside, ":9000", "outside")
	listenUDP(t, r.world.Outside, ":9001", "outside")
	before := nstat(t, r.world.Host)
	const workers, each = 4, 500
	var wg sync.WaitGroup
	failed := make([]int, workers)
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				var err error
				switch {
				case i%10 == 9: // abandoned by a reset, with data under way
					var c net.Conn
					if c, err = c1.Dial("tcp", netlab.FarAddr+":9000", 10*time.Second); err == nil {
						c.(*net.TCPConn).SetLinger(0)
						c.Close()
					}
				case i%10 == 8:
					_, err = fetch(r.world.Outside, netlab.HostAddr+":8080")
				default:
					_, err = fetch(c1, netlab.FarAddr+":9000")
				}
				if err != nil {
					failed[w]++
				}
			}
		})
	}
	wg.Wait()
	for range 20 {
		wantUDP(t, c1, netlab.OutsideAddr+":9001", "outside")
	}
	if failed[0]+failed[1]+failed[2]+failed[3] > 0 {
		t.Errorf("connections failed: %v", failed)
	}
	wantUnchanged(t, before, nstat(t, r.world.Host), "TcpOutRsts", "IcmpOutDestUnreachs", "IcmpOutMsgs", "IpForwDatagrams")
}

// The host end of a cable speaks no IPv6, and neither it nor the network's device
// takes anything from a router advertisement, also of an unguarded container.
func TestL43HostTakesNoIPv6(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("dual")
	_, ct1 := r.attach("c1", onNetwork("dual"))
	c2, ct2 := r.attach("c2", onNetwork("dual", unguarded))
	for _, ct := range []api.Container{ct1, ct2} {
		veth := ct.Endpoints[0].HostInterface
		if out := command(t, r.world.Host, "ip", "-6", "addr", "show", "dev", veth); out != "" {
			t.Errorf("%s has an IPv6 address: %s", veth, out)
		}
		out := command(t, r.world.Host, "sysctl", "-n", "net.ipv6.conf."+veth+".disable_ipv6")
		if strings.TrimSpace(out) != "1" {
			t.Errorf("disable_ipv6 of %s is %s, want 1", veth, out)
		}
	}
	n, err := r.Network(t.Context(), "dual")
	if err != nil {
		t.Fatal(err)
	}
	if out := strings.TrimSpace(command(t, r.world.Host, "sysctl", "-n", "net.ipv6.conf."+n.Interface+".accept_ra")); out != "0" {
		t.Errorf("accept_ra of %s is %s, want 0", n.Interface, out)
	}
	routes := func() string { return command(t, r.world.Host, "ip", "-6", "route", "show", "table", "all") }
	// Addresses are new: an address gets its routes when the kernel has found nobody who has it.
	for range 200 {
		if command(t, r.world.Host, "ip", "-6", "addr", "show", "tentative") == "" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	before := routes()
	ra := routerAdvertisement(ownMAC(t, c2, "eth0"))
	inject(t, c2, "eth0", ra, ra, ra)
	time.Sleep(300 * time.Millisecond)
	if after := routes(); after != before {
		t.Errorf("routes of the host were\n%s\nand are\n%s", before, after)
	}
}

// Masquerade takes no port that a program of the host holds, and a program gets
// none that is published.
func TestL44PortsHaveOneOwner(t *testing.T) {
	r := newRig(t)
	r.start()
	c1, ct := r.attach("c1", api.Attach{Publish: []string{"8080:80", "20000-20100:20000-20100/udp"}})
	held := make(map[uint16]bool)
	for p := 61000; p < 61200; p++ {
		c, err := r.world.Host.ListenPacket("udp", fmt.Sprint(":", p))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held[uint16(p)] = true
	}
	time.Sleep(3 * time.Second) // the daemon looks once a second
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, c1, netlab.FarAddr+":9000", "outside", "") // the next hop is known
	for i := range 300 {
		// The container asks for the very ports.
		c, err := c1.DialFrom("udp", fmt.Sprintf("%s:%d", addr(ct), 61000+i), netlab.FarAddr+":9001", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		c.Close()
	}
	var nat []api.NATEntry
	eventually(t, "the flows are tracked", func() bool {
		var err error
		nat, err = r.NAT(t.Context(), api.NATQuery{})
		return err == nil && len(nat) >= 300
	})
	seen := make(map[string]bool)
	for _, e := range nat {
		ap, err := netip.ParseAddrPort(e.NATSource)
		if err != nil || e.Kind != "masquerade" {
			continue
		}
		p := ap.Port()
		if held[p] || p == 8080 || p >= 20000 && p <= 20100 || p >= 32768 && p <= 60999 {
			t.Errorf("masquerade uses port %d, which is somebody else's", p)
		}
		own := fmt.Sprint(e.Proto, " ", p) // each protocol has ports of its own
		if seen[own] {
			t.Errorf("masquerade uses port %s twice", own)
		}
		seen[own] = true
	}
	if l, err := r.world.Host.Listen("tcp", ":8080"); err == nil {
		l.Close()
		t.Error("a program got the published port")
	}
}
