package control

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// What others shape on a container's cable holds, also for what the kernel carries: by
// the root qdisc what goes in, by the ingress qdisc, as CNI's bandwidth plugin makes it,
// what comes out. A slow machine makes transfers only longer than the limit does.
func TestShaping(t *testing.T) {
	labtest.NeedProgram(t, "tc")
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	if !hasTCX(t) {
		labtest.SkipOldKernel(t, 6, 6, "no TCX: the ingress of a cable is taken")
	}
	b := labtest.New(t, "b")
	bct, err := r.attachAs(b, "b", DefaultNetwork, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	veth := bct.Endpoints[0].HostInterface
	data := make([]byte, 2<<20)
	send(t, a, ":80", data)
	send(t, b, ":80", data)
	aa, ba := join("10.88.0.2", "80"), join(addr(bct), "80")
	took := func(from *netlab.NS, to string) time.Duration {
		t.Helper()
		start := time.Now()
		if got, err := fetchAll(from, to); err != nil || len(got) != len(data) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(data), err)
		}
		return time.Since(start)
	}
	const bytes = 4 << 20 // a second
	least := time.Duration(len(data)-128<<10) * time.Second / bytes
	wantLimit := func(way string, from *netlab.NS, to string, carried bool) {
		t.Helper()
		eventually(t, 20*time.Second, way+" is limited", func() bool {
			before := r.stats().Flows.Frames
			d := took(from, to)
			if carried && r.stats().Flows.Frames == before {
				return false
			}
			return d >= least
		})
	}

	r.run("tc", "qdisc", "add", "dev", veth, "root", "tbf", "rate", "32mibit", "burst", "64kb", "latency", "25ms")
	wantLimit("what goes into b", b, aa, true)
	if d := took(a, ba); d > least {
		t.Logf("what comes out of b took %s, and has no limit yet", d)
	}
	r.run("tc", "qdisc", "del", "dev", veth, "root")
	r.run("ip", "link", "add", "limit0", "type", "ifb")
	r.run("ip", "link", "set", "limit0", "up")
	r.run("tc", "qdisc", "add", "dev", veth, "handle", "ffff:", "ingress")
	r.run("tc", "filter", "add", "dev", veth, "parent", "ffff:", "protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "limit0")
	r.run("tc", "qdisc", "add", "dev", "limit0", "root", "tbf", "rate", "32mibit", "burst", "64kb", "latency", "25ms")
	wantLimit("what comes out of b", a, ba, true)

	// The next daemon finds it, and learns when it goes.
	r.kill()
	r.start()
	wantLimit("what comes out of b, after a restart", a, ba, true)
	r.run("ip", "link", "del", "limit0")
	eventually(t, 5*time.Second, "the limit is taken back", func() bool {
		return b.Command("sh", "-c", "tc qdisc show dev eth0 | grep -q tbf").Run() != nil
	})
}
