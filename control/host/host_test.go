package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	goleak.VerifyTestMain(m)
}

// inHost runs fn with a Host of n, on a thread in n.
func inHost(t testing.TB, n *netlab.NS, fn func(h *Host)) {
	t.Helper()
	err := n.Do(func() error {
		h, err := New()
		if err != nil {
			return err
		}
		defer h.Close()
		fn(h)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func openNS(t testing.TB, n *netlab.NS) *Netns {
	t.Helper()
	ns, err := OpenNetns(n.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// dropAll loads a program that drops every frame, for the seal.
func dropAll(t testing.TB) int {
	t.Helper()
	labtest.NeedBPF(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* TC_ACT_SHOT */), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog.FD()
}

func spec(name string, seal Seal) VethSpec {
	return VethSpec{
		Name: name, Alias: "vswitch web", Ifname: "eth0", MTU: 1400,
		MAC:      net.HardwareAddr{0x02, 0x42, 10, 1, 0, 2},
		Addrs:    []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00:1::2/64")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")},
		Seal:     seal,
	}
}

// run runs a command in n and returns its output.
func run(t testing.TB, n *netlab.NS, name string, arg ...string) string {
	t.Helper()
	out, err := n.Command(name, arg...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(arg, " "), err, out)
	}
	return string(out)
}

func contains(t testing.TB, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, got)
		}
	}
}

func TestAddVethMakesBothEnds(t *testing.T) {
	host, web := labtest.New(t, "host"), labtest.New(t, "web")
	seal := dropAll(t)
	inHost(t, host, func(h *Host) {
		index, err := h.AddVeth(openNS(t, web), spec("veth00000001", h.FilterSeal(seal)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := h.Link("veth00000001")
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != index || got.Alias != "vswitch web" || got.Kind != "veth" || got.MTU != 1400 || !got.Up || !got.Running || !got.Ethernet {
			t.Errorf("host end is %+v", got)
		}
		inside := run(t, web, "ip", "-d", "addr", "show", "dev", "eth0")
		contains(t, "container end", inside, "02:42:0a:01:00:02", "mtu 1400", "state UP", "inet 10.1.0.2/24 brd 10.1.0.255", "inet6 fd00:1::2/64 scope global nodad")
		contains(t, "routes", run(t, web, "ip", "route"), "default via 10.1.0.1 dev eth0 proto static")
		contains(t, "IPv6 routes", run(t, web, "ip", "-6", "route"), "default via fd00:1::1 dev eth0")
		outside := run(t, host, "ip", "-d", "addr", "show", "dev", "veth00000001")
		contains(t, "host end", outside, "NOARP")
		if strings.Contains(outside, "inet") {
			t.Errorf("the host end has an address:\n%s", outside)
		}
		for _, key := range []string{"disable_ipv6", "addr_gen_mode" /* 1: none */} {
			if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/veth00000001/" + key); err != nil || string(b) != "1\n" {
				t.Errorf("%s of the host end is %q, %v", key, b, err)
			}
		}
		if err := h.DelLink("veth00000001", index); err != nil {
			t.Fatal(err)
		}
		if err := h.DelLink("veth00000001", index); err != nil {
			t.Errorf("removed again: %v", err)
		}
		if links, _ := web.Links(); !slices.Equal(links, []string{"lo"}) {
			t.Errorf("in the container remain %v", links)
		}
	})
}

// A frame to the broadcast MAC needs no answer to an ARP request to reach the
// host's stack; an unsealed veth hands it over.
func TestSealKeepsFramesFromTheHost(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			host, web := labtest.New(t, "host"), labtest.New(t, "web")
			if err := host.AddAddr("lo", "10.1.0.1/32"); err != nil {
				t.Fatal(err)
			}
			inHost(t, host, func(h *Host) {
				var seal Seal
				if sealed {
					seal = h.FilterSeal(dropAll(t))
				}
				if _, err := h.AddVeth(openNS(t, web), spec("veth00000001", seal)); err != nil {
					t.Fatal(err)
				}
				run(t, web, "ip", "neigh", "replace", "10.1.0.1", "lladdr", "ff:ff:ff:ff:ff:ff", "dev", "eth0")
				before := inPackets(t)
				send(t, host, web, "veth00000001", "10.1.0.1:9")
				// The device has counted them before the stack does.
				for deadline := time.Now().Add(20 * time.Second); !sealed && inPackets(t) == before; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the host's stack receives nothing")
					}
				}
				if got := inPackets(t) - before; sealed && got != 0 {
					t.Errorf("the host's stack received %d packets", got)
				}
			})
		})
	}
}

// send sends datagrams from one namespace until a good number of frames has
// arrived at an interface of another.
func send(t testing.TB, to, from *netlab.NS, ifname, addr string) {
	t.Helper()
	c, err := from.Dial("udp", addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		_, _ = c.Write([]byte("x"))
		if s, err := to.Statistics(ifname); err != nil {
			t.Fatal(err)
		} else if s.RxPackets > 30 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no frames arrive at %s", ifname)
}

// inPackets is Ip: InReceives of the thread's namespace.
func inPackets(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var n, skip int
	lines := strings.Split(string(b), "\n")
	if _, err := fmt.Sscanf(lines[1], "Ip: %d %d %d", &skip, &skip, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAddVethWithoutIPv6(t *testing.T) {
	for _, mtu := range []int{1500, 1000} { // under 1280 the kernel has no IPv6 on it at all
		host, web := labtest.New(t, "host"), labtest.New(t, "web")
		s := spec("veth00000001", nil)
		s.MTU, s.Addrs, s.Gateways = mtu, s.Addrs[:1], s.Gateways[:1]
		inHost(t, host, func(h *Host) {
			if _, err := h.AddVeth(openNS(t, web), s); err != nil {
				t.Fatalf("MTU %d: %v", mtu, err)
			}
			if got := run(t, web, "ip", "-6", "addr", "show", "dev", "eth0"); strings.Contains(got, "inet6") {
				t.Errorf("MTU %d: the container end made itself an address:\n%s", mtu, got)
			}
		})
	}
}

func TestAddVethFailsWhole(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *VethSpec)
		is     error
		text   string
	}{
		{"name taken in the container", func(s *VethSpec) { s.Ifname = "taken0" }, ErrExists, "choose another with --ifname"},
		{"name taken on the host", func(s *VethSpec) { s.Name = "taken1" }, ErrExists, "taken1 on the host"},
		{"host name too long", func(s *VethSpec) { s.Name = "veth0123456789ab" }, nil, "longer than 15 bytes"},
		{"container name too long", func(s *VethSpec) { s.Ifname = "eth0123456789abc" }, nil, "longer than 15 bytes"},
		{"name with a slash", func(s *VethSpec) { s.Ifname = "a/b" }, nil, "the kernel refuses"},
		{"multicast MAC", func(s *VethSpec) { s.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }, nil, "no unicast Ethernet address"},
		{"MTU of 0", func(s *VethSpec) { s.MTU = 0 }, nil, "MTU 0"},
		{"bad gateway", func(s *VethSpec) { s.Gateways = []netip.Addr{netip.MustParseAddr("10.9.9.9")} }, nil, "default route via 10.9.9.9"},
		{"second default route", func(s *VethSpec) { s.Gateways = append(s.Gateways, s.Gateways[0]) }, nil, "a default route is there already"},
		{"seal is no program", func(s *VethSpec) { s.Seal = FilterSeal{} }, nil, "seal"},
		{"address of length 33", func(s *VethSpec) { s.Addrs[0] = netip.PrefixFrom(s.Addrs[0].Addr(), 33) }, nil, "address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host, web := labtest.New(t, "host"), labtest.New(t, "web")
			if err := netlab.Veth(web, "taken0", host, "taken1", 1500); err != nil {
				t.Fatal(err)
			}
			inHost(t, host, func(h *Host) {
				ns := openNS(t, web)
				s := spec("veth00000001", nil)
				tt.change(&s)
				if s.Seal != nil {
					s.Seal = h.FilterSeal(0)
				}
				_, err := h.AddVeth(ns, s)
				if err == nil {
					t.Fatal("no error")
				}
				t.Log(err)
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("error %q is not %q", err, tt.is)
				}
				contains(t, "error", err.Error(), tt.text)
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("error has more than one line: %q", err)
				}
			})
			for n, want := range map[*netlab.NS][]string{host: {"lo", "taken1"}, web: {"lo", "taken0"}} {
				got, err := n.Links()
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("links of %s (-want +got):\n%s", n.Name(), diff)
				}
			}
		})
	}
}

func TestOpenNetnsRefusesWhatIsNone(t *testing.T) {
	labtest.Need(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), filepath.Join(file, "below"), file, dir, "/proc/self/ns/mnt", ""} {
		if _, err := OpenNetns(path); !errors.Is(err, ErrNoNetns) {
			t.Errorf("OpenNetns(%q) = %v, want ErrNoNetns", path, err)
		}
	}
	if _, err := OpenNetnsPID(1 << 30); !errors.Is(err, ErrNoNetns) {
		t.Errorf("OpenNetnsPID of nobody = %v, want ErrNoNetns", err)
	}
	ns, err := OpenNetnsPID(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ns.Close(), ns.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.AddVeth(ns, spec("veth00000001", nil)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("AddVeth into a closed Netns: %v", err)
	}
}

// Neither threads nor descriptors may be left in another namespace.
func TestNothingIsLeftBehind(t *testing.T) {
	host := labtest.New(t, "host")
	home := threads(t)
	fds := openFDs(t)
	inHost(t, host, func(h *Host) {
		for range 20 {
			web, err := netlab.New("web")
			if err != nil {
				t.Fatal(err)
			}
			ns, err := OpenNetns(web.Path())
			if err != nil {
				t.Fatal(err)
			}
			if err := h.SetLoopbackUp(ns); err != nil {
				t.Error(err)
			}
			if _, err := h.AddVeth(ns, spec("veth00000001", nil)); err != nil {
				t.Error(err)
			}
			if err := errors.Join(h.DelLink("veth00000001", 0), ns.Close(), web.Close()); err != nil {
				t.Error(err)
			}
		}
	})
	for ns := range threads(t) {
		if !home[ns] {
			t.Errorf("a thread is in %s", ns)
		}
	}
	if got := openFDs(t); got > fds {
		t.Errorf("%d descriptors are open, %d before", got, fds)
	}
}

// threads returns the network namespaces of all threads.
func threads(t testing.TB) map[string]bool {
	t.Helper()
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]bool{}
	for _, l := range links {
		if ns, err := os.Readlink(l); err == nil {
			in[ns] = true
		}
	}
	return in
}

func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
