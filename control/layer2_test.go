package control

import (
	"bytes"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// Between kernels nobody else hears who asks for whom, in both families, and the
// host's kernel is answered as well.
func TestL10L11NobodyElseHearsQuestions(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("dual")
	c1, _ := r.attach("c1", onNetwork("dual"))
	_, ct2 := r.attach("c2", onNetwork("dual"))
	c3, _ := r.attach("c3", onNetwork("dual"))
	time.Sleep(200 * time.Millisecond) // announcements of the new stations
	got := sniff(t, c3, "eth0")
	for _, a := range addrsOf(t, ct2) {
		wantPing(t, c1, a)
		wantPing(t, r.world.Host, a)
	}
	// Of c2's addresses; what a kernel says of its own link-local one is its affair.
	var targets [][]byte
	for _, a := range addrsOf(t, ct2) {
		targets = append(targets, netip.MustParseAddr(a).AsSlice())
	}
	questions := func(f []byte) bool {
		if isARP(f) {
			return bytes.Equal(f[38:42], targets[0])
		}
		return f[12] == 0x86 && f[13] == 0xdd && len(f) >= 78 && f[20] == header.ProtoICMPv6 &&
			f[54] == header.ICMP6NeighborSolicit && bytes.Equal(f[62:78], targets[1])
	}
	if n := got.count(questions); n != 0 {
		t.Errorf("c3 heard %d questions, want none", n)
	}
}

// A container that accepts advertisements gets none from another; without the
// guard it would.
func TestL12ContainerTakesNoRouterAdvertisement(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("dual")
	victim, _ := r.attach("victim", onNetwork("dual"))
	good, _ := r.attach("good", onNetwork("dual"))
	router, _ := r.attach("router", onNetwork("dual", unguarded))
	sysctl(t, victim, "ipv6/conf/eth0/accept_ra", "2")
	took := func() bool {
		return strings.Contains(command(t, victim, "ip", "-6", "route", "show", "table", "all"), "2001:db8:bad::/64")
	}
	ra := routerAdvertisement(ownMAC(t, good, "eth0"))
	inject(t, good, "eth0", ra, ra, ra)
	time.Sleep(300 * time.Millisecond)
	if took() {
		t.Error("an advertisement of a guarded container was taken")
	}
	r.wantDropped("good", "guard-router-message", 3)
	inject(t, router, "eth0", routerAdvertisement(ownMAC(t, router, "eth0")))
	eventually(t, "the advertisement of the unguarded container is taken", took)
}

// Networks do not reach each other by whatever frame a kernel or a program
// sends.
func TestL15NetworksOfKernelsAreIsolated(t *testing.T) {
	r := newRig(t)
	r.start()
	a, b := r.createDual("a"), r.createDual("b")
	c1, ct1 := r.attach("c1", onNetwork("a"))
	in4 := onNetwork("b")
	in4.Publish = []string{"8080:80"}
	c4, ct4 := r.attach("c4", in4)
	serve(t, c4, ":80", "c4")
	serve(t, c4, ":81", "c4")
	me, it := ownMAC(t, c1, "eth0"), ownMAC(t, c4, "eth0")
	gwA, _ := header.ParseMAC(a.GatewayMAC)
	gwB, _ := header.ParseMAC(b.GatewayMAC)
	got := sniff(t, c4, "eth0")
	src, dst := addr(ct1), addr(ct4)
	for _, to := range []header.MAC{it, gwA, gwB, header.Broadcast} {
		for _, d := range []string{dst, b.Gateway, netlab.HostAddr, "255.255.255.255", "239.1.2.3"} {
			inject(t, c1, "eth0", switchtest.Bytes(switchtest.Packet{EthSrc: me, EthDst: to, Src: src + ":5000", Dst: d + ":81", Proto: header.ProtoUDP, Payload: []byte("x")}))
		}
		ll1, ll4 := switchtest.LinkLocal(me), switchtest.LinkLocal(it)
		inject(t, c1, "eth0",
			switchtest.Ethernet(to, me, 0x88b5, []byte("x")),
			switchtest.ARP(to, me, 1, me, src, header.MAC{}, dst),
			switchtest.V6(to, me, ll1, ll4, header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0}),
			switchtest.V6(to, me, addrsOf(t, ct1)[1], addrsOf(t, ct4)[1], header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0}))
	}
	for _, d := range addrsOf(t, ct4) {
		if pings(c1, d) {
			t.Errorf("%s answers", d)
		}
		if got, err := fetchFast(c1, join(d, "80")); err == nil {
			t.Errorf("%s: %s", d, got)
		}
	}
	if got, err := fetchFast(c1, join(netlab.HostAddr, "81")); err == nil {
		t.Errorf("an unpublished port answers: %s", got)
	}
	if n := got.count(func(f []byte) bool {
		return header.MAC(f[6:12]) == me || strings.Contains(string(f), string(me[:])) || strings.Contains(string(f), "\x0a"+string(srcTail(src)))
	}); n != 0 {
		t.Errorf("c4 received %d frames of c1", n)
	}
	// By the published port it does, as everybody.
	wantFetch(t, c1, netlab.HostAddr+":8080", "c4", netlab.HostAddr)
}

// srcTail is the last three bytes of an IPv4 address that begins with 10.
func srcTail(a string) []byte {
	var b []byte
	for _, s := range strings.Split(a, ".")[1:] {
		n, _ := strconv.Atoi(s)
		b = append(b, byte(n))
	}
	return b
}

// With icc=false containers reach the gateway and the world, not each other, also
// after a restart.
func TestL16ICC(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	n := r.createDual("apart", func(in *api.NetworkCreate) { in.ICC = no() })
	if n.ICC {
		t.Errorf("network %+v", n)
	}
	c1, ct1 := r.attach("c1", onNetwork("apart"))
	in2 := onNetwork("apart")
	in2.Publish = []string{"8080:80"}
	c2, ct2 := r.attach("c2", in2)
	serve(t, c2, ":80", "c2")
	serve(t, r.world.Host, ":7000", "host")
	check := func() {
		t.Helper()
		me := ownMAC(t, c1, "eth0")
		got := sniff(t, c2, "eth0")
		for f, a := range addrsOf(t, ct2) {
			if pings(c1, a) {
				t.Errorf("%s answers", a)
			}
			if got, err := fetchFast(c1, join(a, "80")); err == nil {
				t.Errorf("%s: %s", a, got)
			}
			gw := ct1.Endpoints[0].Gateways[f]
			wantFetch(t, c1, join(gw, "7000"), "host", addrsOf(t, ct1)[f])
			wantFetch(t, c2, join(gw, "7000"), "host", a)
			wantFetch(t, c1, join([]string{netlab.OutsideAddr, netlab.OutsideAddr6}[f], "9999"), "outside", "")
			wantFetch(t, r.world.Host, join(a, "80"), "c2", gw)
		}
		inject(t, c1, "eth0", switchtest.Ethernet(ownMAC(t, c2, "eth0"), me, 0x88b5, []byte("x")), switchtest.Ethernet(header.Broadcast, me, 0x88b5, []byte("x")))
		if n := got.count(from(me)); n != 0 {
			t.Errorf("c2 received %d frames of c1", n)
		}
		wantFetch(t, c1, netlab.HostAddr+":8080", "c2", netlab.HostAddr) // published
	}
	check()
	r.kill()
	r.start()
	check()
}

// Frames with tags of a real cable, which the kernel hands over beside the frame,
// reach access ports of their VLAN only, also after a restart; tags of an access
// port are dropped.
func TestL17VLANsOfCables(t *testing.T) {
	r := newRig(t)
	r.start()
	inVLAN := func(vlan int) api.Attach {
		return onNetwork(model.DefaultNetwork, func(c *api.Connect) { c.VLAN = vlan })
	}
	a, ctA := r.attach("a", inVLAN(10))
	b, ctB := r.attach("b", inVLAN(20))
	vm, ctVM := r.attach("vm", onNetwork(model.DefaultNetwork, func(c *api.Connect) { c.Trunk = "20-29,10" }))
	e := ctVM.Endpoints[0]
	if e.Trunk != "10,20-29" || e.Guard != api.GuardOff || ctA.Endpoints[0].VLAN != 10 || ctA.Endpoints[0].Guard != api.GuardOn {
		t.Errorf("endpoints %+v, %+v", e, ctA.Endpoints[0])
	}
	guest := header.MAC{2, 7, 7, 7, 7, 7} // a machine behind the trunk
	macA, macB := ownMAC(t, a, "eth0"), ownMAC(t, b, "eth0")
	check := func() {
		t.Helper()
		atA, atB, atVM := sniff(t, a, "eth0"), sniff(t, b, "eth0"), sniff(t, vm, "eth0")
		f := switchtest.Ethernet(header.Broadcast, guest, 0x88b5, []byte("from the trunk"))
		inject(t, vm, "eth0", switchtest.Tag(f, header.TypeVLAN, 10), switchtest.Tag(f, header.TypeVLAN, 30))
		same := func(want []byte) func([]byte) bool {
			return func(got []byte) bool { return bytes.Equal(got, want) }
		}
		if n := atA.comes(1, same(f)); n != 1 {
			t.Errorf("VLAN 10 got %d frames without a tag, want 1", n)
		}
		if n := atB.count(from(guest)); n != 0 {
			t.Errorf("VLAN 20 got %d frames of VLAN 10", n)
		}
		back := switchtest.Ethernet(guest, macA, 0x88b5, []byte("to the machine behind the trunk"))
		inject(t, a, "eth0", back)
		if n := atVM.comes(1, same(switchtest.Tag(back, header.TypeVLAN, 10))); n != 1 {
			t.Errorf("the trunk got %d frames with the tag of VLAN 10, want 1", n)
		}
		inject(t, b, "eth0", switchtest.Ethernet(macA, macB, 0x88b5, []byte("hello?")))
		if n := atA.count(from(macB)); n != 0 {
			t.Errorf("VLAN 10 got %d frames of VLAN 20", n)
		}
		wantPing(t, a, "10.88.0.1")
		wantPing(t, b, "10.88.0.1")
		if pings(a, addr(ctB)) {
			t.Error("VLAN 10 reaches VLAN 20 by the gateway")
		}
	}
	check()
	r.kill()
	r.start()
	check()

	got := sniff(t, b, "eth0")
	f := switchtest.Ethernet(header.Broadcast, macA, 0x88b5, make([]byte, 50))
	before := r.dropped("a", "vlan-tagged")
	inject(t, a, "eth0", switchtest.Tag(f, header.TypeVLAN, 20), switchtest.Tag(f, header.TypeQinQ, 20), switchtest.Tag(switchtest.Tag(f, header.TypeVLAN, 20), header.TypeVLAN, 10))
	if n := got.count(from(macA)); n != 0 {
		t.Errorf("%d tagged frames hopped into VLAN 20", n)
	}
	r.wantDropped("a", "vlan-tagged", before+3)
}

// Frames of a guarded container with another's address go nowhere, on real
// kernels, and the daemon says so once.
func TestL04L14SpoofedFramesOfAKernel(t *testing.T) {
	r := newRig(t)
	r.start()
	bad, _ := r.attach("bad", api.Attach{})
	peer, ctP := r.attach("peer", api.Attach{})
	got := sniff(t, peer, "eth0")
	out := sniff(t, r.world.Outside, "eth0")
	gw, _ := header.ParseMAC(gatewayOf(t, r))
	me, it := ownMAC(t, bad, "eth0"), ownMAC(t, peer, "eth0")
	for range 5 {
		inject(t, bad, "eth0",
			switchtest.Ethernet(it, header.MAC{2, 9, 9, 9, 9, 9}, 0x88b5, []byte("x")),
			switchtest.Bytes(switchtest.Packet{EthSrc: me, EthDst: it, Src: "10.88.0.99:1", Dst: addr(ctP) + ":2", Proto: header.ProtoUDP}),
			switchtest.Bytes(switchtest.Packet{EthSrc: me, EthDst: gw, Src: addr(ctP) + ":1", Dst: netlab.OutsideAddr + ":2", Proto: header.ProtoUDP}),
			switchtest.ARP(it, me, 2, me, "10.88.0.1", it, addr(ctP)))
	}
	if n := got.count(func(f []byte) bool { return from(me)(f) || from(header.MAC{2, 9, 9, 9, 9, 9})(f) }); n != 0 {
		t.Errorf("peer received %d frames", n)
	}
	if n := out.count(func(f []byte) bool { return f[12] == 8 && f[13] == 0 && f[23] == header.ProtoUDP }); n != 0 {
		t.Errorf("%d packets went outside", n)
	}
	for reason, want := range map[string]uint64{"guard-spoofed-mac": 5, "guard-spoofed-ip": 10, "guard-spoofed-arp": 5} {
		r.wantDropped("bad", reason, want)
	}
	eventually(t, "the event is logged", func() bool { return strings.Contains(r.log.String(), "event=mac-spoof") })
	if n := strings.Count(r.log.String(), "event=mac-spoof"); n != 1 {
		t.Errorf("the event is logged %d times, want once", n)
	}
}

// A container that bridges two of its ports: the storm is capped, told of, and
// costs little.
func TestL09BridgedPorts(t *testing.T) {
	r := newRig(t)
	r.start()
	quiet, _ := r.attach("quiet", api.Attach{})
	other, ctO := r.attach("other", api.Attach{})
	serve(t, other, ":80", "other")
	loop, _ := r.attach("loop", onNetwork(model.DefaultNetwork, unguarded))
	command(t, loop, "ip", "route", "del", "default")
	in := onNetwork(model.DefaultNetwork, unguarded, func(c *api.Connect) { c.Ifname = "eth9" })
	in.Name, in.Netns = "loop9", loop.Path()
	if _, err := r.Attach(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if err := loop.Bridge("br0", "eth0", "eth9"); err != nil {
		t.Fatal(err)
	}
	got := sniff(t, quiet, "eth0")
	before := cpuTime(t, r.cmd.Process.Pid)
	src := header.MAC{2, 7, 7, 7, 7, 7}
	me := ownMAC(t, quiet, "eth0")
	start := time.Now()
	for i := range 20 {
		src[5] = byte(i)
		inject(t, loop, "eth0", switchtest.Ethernet(header.Broadcast, src, 0x88b5, []byte("round and round")))
		inject(t, quiet, "eth0", switchtest.Ethernet(header.Broadcast, me, 0x88b5, []byte("of a pinned station")))
		time.Sleep(100 * time.Millisecond)
	}
	wantFetch(t, quiet, addr(ctO)+":80", "other", "")
	spent, took := cpuTime(t, r.cmd.Process.Pid)-before, time.Since(start)
	if n, most := got.count(func([]byte) bool { return true }), int(2*(2000+1000*took.Seconds())); n > most {
		t.Errorf("a station saw %d frames of the loop in %v, want at most %d", n, took, most)
	} else {
		t.Logf("%d frames of the loop in %v, the daemon used %v", n, took.Round(time.Millisecond), spent)
	}
	if spent > took/2 {
		t.Errorf("the daemon used %v of CPU in %v, want at most half a core", spent, took)
	}
	eventually(t, "the loop is told of", func() bool {
		return strings.Contains(r.log.String(), "event=loop") || strings.Contains(r.log.String(), "event=mac-flap")
	})
}

// cpuTime is what a process has used.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))
	user, _ := strconv.Atoi(f[12])
	system, _ := strconv.Atoi(f[13])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ
}
