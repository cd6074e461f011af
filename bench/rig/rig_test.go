package rig_test

import (
	"context"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	gen.RunIfAgent()
	labtest.Main(m)
}

func build(t *testing.T, system, binary string) *rig.Rig {
	t.Helper()
	labtest.Need(t)
	if system == rig.VSwitch {
		labtest.NeedBPF(t)
	}
	if err := rig.Available(system); err != nil {
		labtest.Skip(t, err.Error())
	}
	r, err := rig.Build(t.Context(), system, rig.Options{Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

const window = 300 * time.Millisecond

func ping(t *testing.T, from gen.Namespace, addr string, port uint16) error {
	t.Helper()
	x, err := gen.Ping(t.Context(), from, netip.AddrPortFrom(netip.MustParseAddr(addr), port), window)
	if err == nil && (x.Count == 0 || x.Elapsed < window || x.P50 <= 0 || x.P50 > x.P99 || x.P99 > x.P999) {
		t.Errorf("ping %s: got %+v", addr, x)
	}
	return err
}

func TestBridgeJoinsTheContainersAndNothingElse(t *testing.T) {
	r := build(t, rig.Bridge, "")
	if err := ping(t, r.A.NS, r.B.Addr.String(), gen.PingPort); err != nil {
		t.Error(err)
	}
	if err := ping(t, r.A.NS, netlab.FarAddr, gen.PingPort); err == nil {
		t.Error("a container reaches outside over a bridge without NAT")
	}
}

func TestNFTDoesWhatDockerDoes(t *testing.T) {
	r := build(t, rig.Docker, "")
	if err := ping(t, r.A.NS, netlab.FarAddr, gen.PingPort); err != nil {
		t.Errorf("masquerade: %v", err)
	}
	if err := ping(t, r.World.Outside, netlab.HostAddr, gen.PingPort+rig.PublishOffset); err != nil {
		t.Errorf("published port: %v", err)
	}
	if err := ping(t, r.World.Outside, netlab.HostAddr, gen.PingPort); err == nil {
		t.Error("a port that is not published answers")
	}
}

func TestLoads(t *testing.T) {
	r := build(t, rig.Bridge, "")
	to := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(r.B.Addr, port) }
	for _, streams := range []int{1, 3} {
		b, err := gen.Bulk(t.Context(), r.A.NS, to(gen.BulkPort), window, streams)
		if err != nil {
			t.Fatal(err)
		}
		// On a busy machine a sender may begin late.
		if b.Bytes < 1<<20 || b.Elapsed <= 0 || b.Elapsed > 60*window {
			t.Errorf("%d streams: got %+v", streams, b)
		}
	}
	back, err := gen.Fetch(t.Context(), r.A.NS, to(gen.SourcePort), window, 2)
	if err != nil || back.Bytes < 1<<20 || back.Elapsed <= 0 || back.Elapsed > 60*window {
		t.Errorf("from the server: got %+v, %v", back, err)
	}
	// How fast TCP becomes depends on the machine; that it paces itself does not.
	const rate = 80e6
	paced, err := gen.Paced(t.Context(), r.A.NS, to(gen.BulkPort), rate, 5*window)
	if err != nil || paced.BitsPerSecond() > 2*rate {
		t.Errorf("paced: got %+v, %v", paced, err)
	}
	u, err := gen.UDPPing(t.Context(), r.A.NS, to(gen.PingPort), window)
	if err != nil || u.Count == 0 || u.P50 <= 0 || u.P50 > u.P99 {
		t.Errorf("UDP: got %+v, %v", u, err)
	}
	x, err := gen.Connect(t.Context(), r.A.NS, to(gen.ConnectPort), window)
	if err != nil || x.Count == 0 {
		t.Errorf("connect: got %+v, %v", x, err)
	}
	before, err := r.B.NS.Statistics(r.B.Ifname)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := gen.Frames(t.Context(), r.A.NS, gen.FrameSpec{
		Ifname: r.A.Ifname, Src: r.A.MAC, Dst: r.B.MAC, Size: 64,
		From: netip.AddrPortFrom(r.A.Addr, 9), To: to(9),
	}, window)
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.B.NS.Statistics(r.B.Ifname)
	if err != nil {
		t.Fatal(err)
	}
	arrived := after.RxPackets - before.RxPackets
	// A few frames are the kernels' own: neighbours, groups.
	if arrived == 0 || arrived > sent.Frames+20 {
		t.Errorf("frames: sent %+v, arrived %d", sent, arrived)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	r := build(t, rig.Bridge, "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := gen.Ping(ctx, r.A.NS, netip.AddrPortFrom(r.B.Addr, gen.PingPort), 30*time.Second)
	if err != context.DeadlineExceeded {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v to end", d)
	}
}

// Each of the others carries the paths that it is compared on.
func TestOthersCarryTheirPaths(t *testing.T) {
	labtest.NeedRoot(t)
	inside := func(r *rig.Rig) (gen.Namespace, string, uint16) { return r.A.NS, r.B.Addr.String(), gen.PingPort }
	outward := func(r *rig.Rig) (gen.Namespace, string, uint16) { return r.A.NS, netlab.FarAddr, gen.PingPort }
	inward := func(r *rig.Rig) (gen.Namespace, string, uint16) {
		return r.World.Outside, netlab.HostAddr, gen.PingPort + rig.PublishOffset
	}
	local := func(r *rig.Rig) (gen.Namespace, string, uint16) {
		return r.World.Host, "127.0.0.1", gen.PingPort + rig.PublishOffset
	}
	hairpin := func(r *rig.Rig) (gen.Namespace, string, uint16) {
		return r.A.NS, netlab.HostAddr, gen.PingPort + rig.PublishOffset
	}
	type path = func(*rig.Rig) (gen.Namespace, string, uint16)
	for system, paths := range map[string]map[string]path{
		rig.Docker:      {"inside": inside, "outward": outward, "inward": inward, "local": local, "hairpin": hairpin},
		rig.OVS:         {"inside": inside},
		rig.VDE:         {"inside": inside},
		rig.DockerProxy: {"inward": inward, "local": local, "hairpin": hairpin},
		rig.Pasta:       {"outward": outward, "inward": inward, "local": local},
		rig.Slirp:       {"outward": outward, "inward": inward, "local": local},
	} {
		t.Run(system, func(t *testing.T) {
			r := build(t, system, "")
			for name, p := range paths {
				from, addr, port := p(r)
				if err := ping(t, from, addr, port); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestVisitorComesAndGoes(t *testing.T) {
	for _, system := range []string{rig.Bridge, rig.VSwitch} {
		binary := ""
		if system == rig.VSwitch {
			binary = program(t)
		}
		t.Run(system, func(t *testing.T) {
			r := build(t, system, binary)
			v, err := r.Visitor()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := v.Attach(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := ping(t, v.NS, r.B.Addr.String(), gen.PingPort); err != nil {
					t.Error(err)
				}
				if err := v.Detach(t.Context()); err != nil {
					t.Fatal(err)
				}
				if links, err := v.NS.Links(); err != nil || len(links) != 1 {
					t.Errorf("links after it went: %v, %v", links, err)
				}
			}
		})
	}
}

func TestUnknownSystem(t *testing.T) {
	labtest.Need(t)
	if _, err := rig.Build(t.Context(), "abacus", rig.Options{}); err == nil {
		t.Error("got no error")
	}
}

// program builds vswitch.
func program(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "vswitch")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/vswitch/vswitch/cmd/vswitch").CombinedOutput()
	if err != nil {
		t.Fatalf("build vswitch: %v\n%s", err, out)
	}
	return binary
}

func TestVSwitchCarriesEveryPath(t *testing.T) {
	r := build(t, rig.VSwitch, program(t))
	for _, c := range []struct {
		name string
		from gen.Namespace
		addr string
		port uint16
	}{
		{"containers", r.A.NS, r.B.Addr.String(), gen.PingPort},
		{"host", r.World.Host, r.B.Addr.String(), gen.PingPort},
		{"localhost", r.World.Host, "127.0.0.1", gen.PingPort + rig.PublishOffset},
		{"hairpin", r.A.NS, netlab.HostAddr, gen.PingPort + rig.PublishOffset},
		{"masquerade", r.A.NS, netlab.FarAddr, gen.PingPort},
		{"published", r.World.Outside, netlab.HostAddr, gen.PingPort + rig.PublishOffset},
	} {
		if err := ping(t, c.from, c.addr, c.port); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	stats, err := r.API.Stats(t.Context(), api.StatsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range stats.Ports {
		t.Logf("%s %s: %d frames in, %d out", p.Kind, p.Port, p.RxFrames, p.TxFrames)
		if p.Kind == "container" && p.RxFrames < 100 {
			t.Errorf("port %s of %s: %d frames in after three loads", p.Port, p.Container, p.RxFrames)
		}
	}
}
