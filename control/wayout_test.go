package control

import (
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestLeavesByRules: rules of policy routing come while a container speaks. What they lead into a
// tunnel does not leave beside it, whether its flow began before or after, and goes out again without.
func TestLeavesByRules(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	out := func() bool {
		got, err := fetchFast(web, netlab.FarAddr+":9000")
		return err == nil && strings.HasPrefix(got, "outside "+netlab.HostAddr+":")
	}
	eventually(t, "the outside is reached", out)
	before, err := web.DialFrom("udp", "", netlab.FarAddr+":9001", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	far, err := r.world.Outside.ListenPacket("udp4", netlab.FarAddr+":9001")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	hears := func() bool {
		_, _ = before.Write([]byte("x"))
		far.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, _, err := far.ReadFrom(make([]byte, 10))
		return err == nil
	}
	eventually(t, "a flow goes on", hears)
	r.run("ip", "tuntap", "add", "vpn0", "mode", "tun")
	r.run("ip", "link", "set", "vpn0", "up")
	r.run("ip", "route", "add", "default", "dev", "vpn0", "table", "52")
	r.run("ip", "route", "add", "throw", "198.51.100.0/24", "table", "52")
	r.run("ip", "rule", "add", "prio", "5270", "lookup", "52")
	eventually(t, "the flow leaves no more", func() bool { return !hears() })
	if out() {
		t.Error("a new connection leaves beside the tunnel")
	}
	if got, err := fetchFast(web, netlab.OutsideAddr+":9000"); err != nil || !strings.HasPrefix(got, "outside "+netlab.HostAddr+":") {
		t.Errorf("what the rules except: %q, %v", got, err)
	}
	if got, err := fetchFast(r.world.Outside, netlab.HostAddr+":8080"); err != nil || !strings.HasPrefix(got, "web") {
		t.Errorf("a published port: %q, %v", got, err)
	}
	r.run("ip", "rule", "del", "prio", "5270")
	eventually(t, "out again without the rule", out)
	eventually(t, "the flow goes on", hears)
	for _, kind := range []string{"blackhole", "prohibit", "unreachable"} {
		r.run("ip", "route", "add", kind, netlab.FarAddr, "table", "53")
		r.run("ip", "rule", "add", "prio", "10", "lookup", "53")
		eventually(t, "no way by "+kind, func() bool { return !out() })
		r.run("ip", "rule", "del", "prio", "10")
		r.run("ip", "route", "flush", "table", "53")
		eventually(t, "out again without "+kind, out)
	}
}

// TestAnswersByTheUplinkAsked: a host with two uplinks and a rule for the address of the second
// answers there by it, and so does a published port, though the main table leads by the first.
func TestAnswersByTheUplinkAsked(t *testing.T) {
	r := newRig(t)
	r.cfg.Uplinks = []string{"eth0", "eth9"}
	h, far := r.world.Host, r.world.Outside
	for _, err := range []error{
		netlab.Veth(h, "eth9", far, "eth9", 1500), h.AddAddr("eth9", "192.0.2.1/24"), far.AddAddr("eth9", "192.0.2.2/24"),
		h.SetUp("eth9"), far.SetUp("eth9"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.run("ip", "rule", "add", "from", "192.0.2.1", "lookup", "252")
	r.run("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "eth9", "table", "252")
	// Its router lets nothing in that is of another network.
	if out, err := far.Command("nft", "add table ip f; add chain ip f c { type filter hook prerouting priority -300; }; add rule ip f c iifname eth0 ip saddr 192.0.2.1 drop").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	for _, at := range []string{"192.0.2.1:8080", netlab.HostAddr + ":8080"} {
		eventually(t, "the client gets its answer at "+at, func() bool {
			c, err := far.DialFrom("tcp", netlab.FarAddr+":0", at, time.Second)
			if err != nil {
				return false
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Second))
			b := make([]byte, 3)
			_, err = c.Read(b)
			return err == nil && string(b) == "web"
		})
	}
}
