package control

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// waysRig is a daemon with the host forwarding, in a world that has link-local services
// beside the router; each closed way is tried with what it has, and after a kill.
func waysRig(t *testing.T, try func(t *testing.T, r *rig)) {
	for name, bare := range map[string]bool{"flow table": false, "bare": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.cfg.NoFlowTable = bare
			for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				sysctl(t, r.world.Host, key, "1")
			}
			worldIsUp(t, r)
			r.start()
			try(t, r)
		})
	}
}

// macOf is the MAC address of an interface.
func macOf(t *testing.T, ns *netlab.NS, ifname string) header.MAC {
	t.Helper()
	m, err := ns.MAC(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return header.MAC(m)
}

// linkLocalOf waits until an interface has its link-local address.
func linkLocalOf(t *testing.T, ns *netlab.NS, ifname string) (a string) {
	t.Helper()
	a = switchtest.LinkLocal(macOf(t, ns, ifname))
	eventually(t, ifname+" has "+a, func() bool {
		c, err := ns.ListenPacket("udp", net.JoinHostPort(a+"%"+ifname, "0"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return a
}

// A container reaches nothing of the uplink's link by link-local addresses, and metadata
// by the default route.
func TestS78LinkLocalOfTheUplink(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		ll := linkLocalOf(t, r.world.Outside, "eth0")
		for _, a := range []string{"169.254.7.7/32", "169.254.169.254/32"} {
			if err := r.world.Outside.AddAddr("lo", a); err != nil {
				t.Fatal(err)
			}
		}
		router := listenUDP(t, r.world.Outside, net.JoinHostPort(ll+"%eth0", "80"), "router")
		pages := listenUDP(t, r.world.Outside, "169.254.7.7:80", "pages")
		listenUDP(t, r.world.Outside, "169.254.169.254:80", "metadata")
		wantUDP(t, r.world.Host, net.JoinHostPort(ll+"%eth0", "80"), "router")
		wantUDP(t, r.world.Host, "169.254.7.7:80", "pages")
		n, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "dual", IPv6: yes()})
		if err != nil {
			t.Fatal(err)
		}
		mal, ct := r.attach("mal", api.Attach{Networks: []api.Connect{{Network: "dual"}}})
		gw, me := macOf(t, r.world.Host, n.Interface), macOf(t, mal, "eth0")
		for _, phase := range []string{"running", "after a kill"} {
			before := router.count() + pages.count()
			for range 3 {
				inject(t, mal, "eth0", switchtest.Bytes(switchtest.Packet{
					EthSrc: me, EthDst: gw, Src: join(addrsOf(t, ct)[1], "5000"), Dst: join(ll, "80"), Proto: header.ProtoUDP, Payload: []byte("x")}))
				if got := askUDP(mal, "169.254.7.7:80"); got != "" {
					t.Errorf("%s: answered by %q", phase, got)
				}
			}
			wantUDP(t, mal, "169.254.169.254:80", "metadata")
			if after := router.count() + pages.count(); after != before {
				t.Errorf("%s: %d datagrams got out", phase, after-before)
			}
			// The host's own address on the network's link is reached, as with a bridge.
			host := linkLocalOf(t, r.world.Host, n.Interface)
			d := listenUDP(t, r.world.Host, net.JoinHostPort(host+"%"+n.Interface, fmt.Sprint(6000+len(phase))), "host")
			wantUDP(t, mal, net.JoinHostPort(host+"%eth0", fmt.Sprint(6000+len(phase))), "host")
			_ = d
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
	})
}

// No frame of a container in a network without a gateway reaches a service of the host,
// whatever its MAC address and destination.
func TestS77ServicesOfTheHost(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		heard := listenUDP(t, r.world.Host, ":5300", "host")
		off := false
		type entry struct {
			name   string
			c      *netlab.NS
			near   *datagrams // of the neighbour: it hears a frame that is sent after the others
			frames [][]byte
			last   []byte
		}
		var entries []entry
		for _, in := range []api.NetworkCreate{
			{Name: "iso", IPv6: yes(), Mode: api.GatewayIsolated}, {Name: "isoha", IPv6: yes(), Mode: api.GatewayIsolated, HostAccess: &off},
			{Name: "isoint", IPv6: yes(), Mode: api.GatewayIsolated, Internal: true}, {Name: "ha", IPv6: yes(), HostAccess: &off},
		} {
			n, err := r.CreateNetwork(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			c, ct := r.attach("c-"+in.Name, api.Attach{Networks: []api.Connect{{Network: in.Name}}})
			peer, pct := r.attach("p-"+in.Name, api.Attach{Networks: []api.Connect{{Network: in.Name}}})
			gw, me := macOf(t, r.world.Host, n.Interface), macOf(t, c, "eth0")
			a := addrsOf(t, ct)
			e := entry{name: in.Name, c: c, near: listenUDP(t, peer, ":5301", "peer")}
			for _, mac := range []header.MAC{header.Broadcast, gw, switchtest.GroupMAC("224.0.0.1"), {2, 0xaa, 0, 0, 0, 9}} {
				for _, dst := range []string{netlab.HostAddr, "255.255.255.255", "224.0.0.1", "10.88.0.1"} {
					e.frames = append(e.frames, switchtest.Bytes(switchtest.Packet{
						EthSrc: me, EthDst: mac, Src: join(a[0], "4444"), Dst: join(dst, "5300"), Proto: header.ProtoUDP, Payload: []byte("x")}))
				}
				for _, dst := range []string{netlab.HostAddr6, "ff02::1", switchtest.LinkLocal(gw)} {
					for _, src := range []string{a[1], switchtest.LinkLocal(me)} {
						e.frames = append(e.frames, switchtest.Packet6(mac, me, netip.MustParseAddr(src), netip.MustParseAddr(dst), header.ProtoUDP, []byte{0x11, 0x5c, 0x14, 0xb4, 0, 9, 0, 0, 'x'}))
					}
				}
			}
			e.last = switchtest.Bytes(switchtest.Packet{
				EthSrc: me, EthDst: macOf(t, peer, "eth0"), Src: join(a[0], "4444"), Dst: join(addrsOf(t, pct)[0], "5301"), Proto: header.ProtoUDP, Payload: []byte("x")})
			entries = append(entries, e)
		}
		for _, phase := range []string{"running", "after a kill"} {
			before := heard.count()
			for _, e := range entries {
				seen := e.near.count()
				inject(t, e.c, "eth0", e.frames...)
				eventually(t, e.name+": the frame after them reaches the neighbour", func() bool {
					inject(t, e.c, "eth0", e.last)
					return e.near.count() > seen
				})
				if n := heard.count() - before; n != 0 {
					t.Errorf("%s, %s: the host heard %d datagrams", e.name, phase, n)
					before += n
				}
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
		plain, _ := r.attach("plain", api.Attach{})
		wantUDP(t, plain, "10.88.0.1:5300", "host")
	})
}

// A container of an internal network reaches a published port at its own gateway, no other
// way; nothing of it is published.
func TestS79PublishedPortsFromInside(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		n, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "inside", Internal: true})
		if err != nil {
			t.Fatal(err)
		}
		other, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		srv, sct := r.attach("srv", api.Attach{Publish: []string{"9000:9000/udp"}, Networks: []api.Connect{{Network: "other"}}})
		heard := listenUDP(t, srv, ":9000", "srv")
		in := api.Attach{Networks: []api.Connect{{Network: "inside"}}}
		ns, ict := r.attach("in", in)
		gw := join(n.Subnets[0].Gateway, "9000")
		both, _ := r.attach("both", api.Attach{Networks: []api.Connect{{Network: "bridge"}, {Network: "inside"}}})
		for _, phase := range []string{"running", "after a kill"} {
			wantUDP(t, ns, gw, "srv")
			wantUDP(t, both, gw, "srv")
			before := heard.strange()
			for _, at := range []string{join(other.Subnets[0].Gateway, "9000"), join(addr(sct), "9000")} {
				inject(t, ns, "eth0", switchtest.Bytes(switchtest.Packet{
					EthSrc: macOf(t, ns, "eth0"), EthDst: macOf(t, r.world.Host, n.Interface), Proto: header.ProtoUDP, Payload: []byte("x"),
					Src: join(addr(ict), "5000"), Dst: at}))
			}
			wantUDP(t, ns, gw, "srv") // comes after them
			if got := heard.strange() - before; got != 0 {
				t.Errorf("%s: %d datagrams by other ways", phase, got)
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
		in.Publish = []string{"9001:9001/udp"}
		in.Name, in.Netns = "no", labtest.New(t, "no").Path()
		if _, err := r.Attach(t.Context(), in); err == nil {
			t.Error("a port of an internal network was published")
		}
	})
}

// A station of the LAN cannot speak into a connection between two containers.
func TestS76IntoAHairpin(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		srv, sct := r.attach("srv", api.Attach{Publish: []string{"9000:9000/udp"}})
		listenUDP(t, srv, ":9000", "srv")
		cli := labtest.New(t, "cli")
		if _, err := r.Attach(t.Context(), api.Attach{Name: "cli", Netns: cli.Path()}); err != nil {
			t.Fatal(err)
		}
		for _, phase := range []string{"running", "after a kill"} {
			c, err := cli.Dial("udp", netlab.HostAddr+":9000", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			say := func() string {
				c.Write([]byte("?"))
				b := make([]byte, 100)
				c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				n, _ := c.Read(b)
				return string(b[:n])
			}
			eventually(t, "the published port answers", func() bool { return say() == "srv" })
			flows, err := r.NAT(t.Context(), api.NATQuery{Container: "cli"})
			if err != nil || len(flows) == 0 {
				t.Fatalf("%s: %d flows: %v", phase, len(flows), err)
			}
			for _, f := range flows {
				for range 20 {
					inject(t, r.world.Outside, "eth0", switchtest.Bytes(switchtest.Packet{
						EthSrc: macOf(t, r.world.Outside, "eth0"), EthDst: macOf(t, r.world.Host, "eth0"), Proto: header.ProtoUDP, Payload: []byte("forged"),
						Src: addr(sct) + ":9000", Dst: f.NATSource,
					}))
				}
			}
			for range 20 {
				if got := say(); got == "forged" {
					t.Fatalf("%s: the client was told %q", phase, got)
				}
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
	})
}

// S-47 for IPv6 and for networks of every kind, after a kill as well: what the host forwards
// enters none, from addresses of the LAN, of the host and of the gateway.
func TestS47ForwardedEntersNoKindOfNetwork(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		off := false
		type entry struct {
			heard   *datagrams
			at      []string
			gateway []string
		}
		var entries []entry
		for _, in := range []api.NetworkCreate{
			{Name: "plain", IPv6: yes()}, {Name: "inside", IPv6: yes(), Internal: true}, {Name: "apart", IPv6: yes(), HostAccess: &off}, {Name: "alone", IPv6: yes(), Mode: api.GatewayIsolated},
		} {
			n, err := r.CreateNetwork(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			ns, ct := r.attach("c-"+in.Name, api.Attach{Networks: []api.Connect{{Network: in.Name}}})
			e := entry{heard: listenUDP(t, ns, ":5353", "c"), at: addrsOf(t, ct)}
			for _, s := range n.Subnets {
				e.gateway = append(e.gateway, s.Gateway)
			}
			entries = append(entries, e)
		}
		src, dst := macOf(t, r.world.Outside, "eth0"), macOf(t, r.world.Host, "eth0")
		for _, phase := range []string{"running", "after a kill"} {
			before, sent := r.stats().Drops["guard-not-from-host"], uint64(0)
			for _, e := range entries {
				for f, lan := range []string{"198.51.100.77", "2001:db8::77"} {
					for _, from := range []string{lan, []string{netlab.HostAddr, netlab.HostAddr6}[f], e.gateway[f]} {
						if from == "" {
							continue
						}
						inject(t, r.world.Outside, "eth0", switchtest.Bytes(switchtest.Packet{
							EthSrc: src, EthDst: dst, Proto: header.ProtoUDP, Payload: []byte("stranger"), Src: join(from, "4000"), Dst: join(e.at[f], "5353")}))
					}
					if e.gateway[f] != "" {
						sent++ // the host itself may refuse its own addresses
					}
				}
			}
			eventually(t, phase+": forwarded datagrams are refused", func() bool { return r.stats().Drops["guard-not-from-host"]-before >= sent })
			for i, e := range entries {
				if n := e.heard.count(); n != 0 {
					t.Errorf("%s: %d forwarded datagrams entered network %d", phase, n, i)
				}
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
	})
}
