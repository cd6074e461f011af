package control

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestPortWaitsForItsAddress: a port on an address that is away when the daemon starts waits for
// it, is shown so, and comes with it; nobody publishes it meanwhile.
func TestPortWaitsForItsAddress(t *testing.T) {
	m := newMachine(t)
	second := netip.MustParsePrefix("198.51.100.9/24")
	m.AddAddr("eth0", host.Addr{Prefix: second})
	m.start()
	m.container("web", publish("198.51.100.9:8080:80", "9090:80"))
	waits := func() (list []bool) {
		ports, err := m.Ports(t.Context(), "web")
		m.ok(err)
		for _, p := range ports {
			list = append(list, p.Waits)
		}
		return list
	}
	want := func(what string, first bool) {
		t.Helper()
		m.until(what, func() bool { list := waits(); return len(list) == 2 && list[0] == first && !list[1] })
	}
	want("it is there", false)
	m.DelAddr("eth0", second)
	want("it waits while the address is away", true)
	m.stop()
	m.start()
	want("it waits after a start", true)
	m.AddAddr("eth0", host.Addr{Prefix: second})
	want("it came with the address", false)
	m.dials(tcp, "198.51.100.9:8080", "10.88.0.2:80")
}

// TestGatewayAddressComesBack: a manager of networks takes the gateway's address from the device of
// a network, which has it again soon; an event says so.
func TestGatewayAddressComesBack(t *testing.T) {
	m := newMachine(t).start()
	n, err := m.Network(t.Context(), "bridge")
	m.ok(err)
	before := m.Facts()
	for range 2 {
		m.DelAddr(n.Interface, netip.MustParsePrefix("10.88.0.1/24"))
		m.until("it is back", func() bool { return slices.Equal(before, m.Facts()) })
	}
	list, err := m.Events(t.Context(), api.EventQuery{SinceTime: time.Unix(1, 0), Once: true})
	m.ok(err)
	told := 0
	for {
		got, err := list.Next(t.Context())
		if err != nil || len(got) == 0 {
			break
		}
		for _, e := range got {
			if e.Type == api.EventGatewayBack && e.Network == "bridge" && strings.Contains(e.Message, "10.88.0.1/24") {
				told++
			}
		}
	}
	if told != 2 {
		t.Errorf("%d events, want 2", told)
	}
}

// TestSameAddressOtherMAC: neighbours that know an address by the MAC address of a container that
// has gone are told that another has it.
func TestSameAddressOtherMAC(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("dual", func(in *api.NetworkCreate) { in.Subnets = []string{"10.99.0.0/24", "fd99::/64"} })
	in := func(mac string) api.Attach {
		return onNetwork("dual", func(c *api.Connect) { c.IP, c.IP6, c.MAC = "10.99.0.50", "fd99::50", mac })
	}
	b, _ := r.attach("b", onNetwork("dual"))
	first, _ := r.attach("a1", in("02:00:00:00:00:a1"))
	serve(t, first, "[::]:80", "first")
	for _, at := range []string{"10.99.0.50:80", "[fd99::50]:80"} {
		if _, err := fetchFast(b, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Detach(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	r.attach("a2", in("02:00:00:00:00:a2"))
	for _, a := range []string{"10.99.0.50", "fd99::50"} {
		eventually(t, "the neighbour knows the new one of "+a, func() bool {
			_, mac, err := b.Neighbor("eth0", a)
			return err == nil && mac == "02:00:00:00:00:a2"
		})
	}
}

// TestServerSpeaksOn: the host's address changes while a server in a container speaks to its peer:
// nothing leaves with the address that is gone, and the peer is let in by the new one.
func TestServerSpeaksOn(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"5000:5000/udp"}})
	server, err := web.ListenPacket("udp4", ":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	peer, err := r.world.Outside.ListenPacket("udp4", netlab.OutsideAddr+":4444")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	buf := make([]byte, 100)
	ask := func(at string) {
		t.Helper()
		eventually(t, "the peer is let in at "+at, func() bool {
			_, _ = peer.WriteTo([]byte("hello"), udpAt(t, at+":5000"))
			server.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, from, err := server.ReadFrom(buf)
			if err != nil {
				return false
			}
			_, _ = server.WriteTo([]byte("answer"), from)
			for {
				peer.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				_, from, err = peer.ReadFrom(buf)
				if err != nil {
					return false
				}
				if from.String() == at+":5000" {
					return true
				}
			}
		})
	}
	ask(netlab.HostAddr)
	h := r.world.Host
	for _, err := range []error{h.AddAddr("eth0", "198.51.100.33/24"), h.DelAddr("eth0", netlab.HostAddr+"/24")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = h.AddAddr("eth0", "198.51.100.33/24") // it went with the first, as a secondary
	_ = h.AddRoute("default", netlab.OutsideAddr, "eth0")
	eventually(t, "the daemon knows", func() bool {
		info, err := r.Info(t.Context())
		return err == nil && len(info.Uplinks) == 1 && slices.Equal(info.Uplinks[0].Addresses, []string{"198.51.100.33", netlab.HostAddr6})
	})
	for range 5 {
		_, _ = server.WriteTo([]byte("keepalive"), udpAt(t, netlab.OutsideAddr+":4444"))
		peer.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, from, err := peer.ReadFrom(buf); err == nil && strings.HasPrefix(from.String(), netlab.HostAddr+":") {
			t.Fatalf("it leaves from %s, which is gone", from)
		}
	}
	ask("198.51.100.33")
}

func udpAt(t *testing.T, at string) net.Addr {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
