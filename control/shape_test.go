package control

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
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
	bct, err := r.attachAs(b, "b", model.DefaultNetwork, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	// Of 64 KiB each, as a busy machine makes them, 3 MiB are 48 frames, and those before
	// the kernel carries the flow are half of them. Of 8 KiB they are 384.
	for _, ns := range []*netlab.NS{a, b} {
		if out, err := ns.Command("ip", "link", "set", "eth0", "gso_max_size", "8192").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	veth := bct.Endpoints[0].HostInterface
	data := make([]byte, 3<<20)
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
	wantLimit := func(way string, from *netlab.NS, to string) {
		t.Helper()
		// The daemon hears of it a moment later.
		eventually(t, way+" is limited", func() bool { return took(from, to) >= least })
		// Each transfer keeps to the limit, until one was the kernel's: on a busy machine
		// the daemon may write the row when a transfer is over.
		carried := make([]uint64, 0, 5)
		for range cap(carried) {
			before := r.stats().Flows.Frames
			if d := took(from, to); d < least {
				t.Errorf("%s took %s, not %s", way, d, least)
			}
			n := r.stats().Flows.Frames - before
			if carried = append(carried, n); n >= 100 {
				return
			}
		}
		t.Errorf("%s: the kernel carried %v frames", way, carried)
	}

	r.run("tc", "qdisc", "add", "dev", veth, "root", "tbf", "rate", "32mibit", "burst", "64kb", "latency", "25ms")
	wantLimit("what goes into b", b, aa)
	r.wantQueued(a, b, addr(bct), bytes)
	r.run("tc", "qdisc", "del", "dev", veth, "root")
	r.run("ip", "link", "add", "limit0", "type", "ifb")
	r.run("ip", "link", "set", "limit0", "up")
	r.run("tc", "qdisc", "add", "dev", veth, "handle", "ffff:", "ingress")
	r.run("tc", "filter", "add", "dev", veth, "parent", "ffff:", "protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "limit0")
	r.run("tc", "qdisc", "add", "dev", "limit0", "root", "tbf", "rate", "32mibit", "burst", "64kb", "latency", "25ms")
	wantLimit("what comes out of b", a, ba)

	// The next daemon finds it, and learns when it goes.
	r.kill()
	r.start()
	wantLimit("what comes out of b, after a restart", a, ba)
	r.run("ip", "link", "del", "limit0")
	eventually(t, "the limit is taken back", func() bool {
		return b.Command("sh", "-c", "tc qdisc show dev eth0 | grep -q tbf").Run() != nil
	})
}

// wantQueued has the kernel carry a slow flow to b, which becomes fast then: it must not
// get more than rate bytes a second and what the queue holds.
func (r *rig) wantQueued(a, b *netlab.NS, to string, rate int64) {
	r.t.Helper()
	in, err := b.ListenPacket("udp", ":5353")
	if err != nil {
		r.t.Fatal(err)
	}
	var got atomic.Int64
	var reader sync.WaitGroup
	reader.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, _, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			got.Add(int64(n))
		}
	})
	defer reader.Wait()
	defer in.Close()
	out, err := a.Dial("udp", to+":5353", time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	data := make([]byte, 1000)
	before := r.stats().Flows.Frames
	eventually(r.t, "the kernel carries a slow flow", func() bool {
		for range 20 {
			time.Sleep(2 * time.Millisecond)
			out.Write(data)
		}
		return r.stats().Flows.Frames > before+100
	})
	got.Store(0)
	start := time.Now()
	for range 4 << 10 {
		out.Write(data)
	}
	time.Sleep(100 * time.Millisecond)
	n := got.Load() // before the time: more may come meanwhile
	if most := rate*int64(time.Since(start))/int64(time.Second) + 256<<10; n > most {
		r.t.Errorf("%d bytes came in %s, at most %d may", n, time.Since(start), most)
	}
}
