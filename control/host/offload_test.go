package host

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// features returns what ethtool says of an interface: "on", "off" or
// "off [fixed]" by name.
func features(t testing.TB, n *netlab.NS, ifname string) map[string]string {
	t.Helper()
	labtest.NeedProgram(t, "ethtool") // the independent observer
	list := make(map[string]string)
	for line := range strings.Lines(run(t, n, "ethtool", "-k", ifname)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			list[name] = value
		}
	}
	return list
}

// Nothing but the undescribable changes, and that in the container alone.
func TestAddVethTurnsOffWhatCannotBeDescribed(t *testing.T) {
	host, web, plain := labtest.New(t, "host"), labtest.New(t, "web"), labtest.New(t, "plain")
	if err := netlab.Veth(plain, "eth0", plain, "other", 1400); err != nil {
		t.Fatal(err)
	}
	inHost(t, host, func(h *Host) {
		if _, err := h.AddVeth(openNS(t, web), spec("veth00000001", nil)); err != nil {
			t.Fatal(err)
		}
	})
	byDefault := features(t, plain, "eth0")
	inside, outside := features(t, web, "eth0"), features(t, host, "veth00000001")
	for _, name := range []string{"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-gre-segmentation", "tx-ipxip4-segmentation"} {
		if byDefault[name] != "on" {
			t.Errorf("%s of a new veth is %q: the test compares nothing", name, byDefault[name])
		}
	}
	want := maps.Clone(byDefault)
	for _, name := range undescribable {
		if want[name] == "on" {
			want[name] = "off"
		}
	}
	for name, value := range byDefault {
		if inside[name] != want[name] {
			t.Errorf("container end: %s is %q, want %q", name, inside[name], want[name])
		}
		if outside[name] != value {
			t.Errorf("host end: %s is %q, want %q", name, outside[name], value)
		}
	}
	for _, name := range []string{"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation", "tx-checksum-ip-generic"} {
		if byDefault[name] == "off [fixed]" {
			continue // a veth of Linux 5.10 cannot segment UDP
		}
		if inside[name] != "on" || outside[name] != "on" {
			t.Errorf("%s is %q in the container and %q on the host, want on", name, inside[name], outside[name])
		}
	}
}

// Before Linux 6.2 a packet socket gets no frame with UDP segmentation, so the
// container must not send one.
func TestAddVethTurnsUDPSegmentationOff(t *testing.T) {
	host, web := labtest.New(t, "host"), labtest.New(t, "web")
	inHost(t, host, func(h *Host) {
		s := spec("veth00000001", nil)
		s.NoUSO = true
		if _, err := h.AddVeth(openNS(t, web), s); err != nil {
			t.Fatal(err)
		}
	})
	got := features(t, web, "eth0")
	for name, want := range map[string]string{udpSegmentation: "off", "tx-gre-segmentation": "off", "tx-tcp-segmentation": "on"} {
		if !strings.HasPrefix(got[name], want) { // "off [fixed]" on Linux 5.10
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestUnknownFeaturesAreLeftOut(t *testing.T) {
	host := labtest.New(t, "host")
	inHost(t, host, func(h *Host) {
		known, err := h.route.featureBits("lo", []string{"tx-gre-segmentation", "tx-udp_tnl-segmentation"})
		if err != nil {
			t.Fatal(err)
		}
		more, err := h.route.featureBits("lo", []string{"tx-carrier-pigeon", "tx-gre-segmentation", "tx-udp_tnl-segmentation"})
		if err != nil {
			t.Fatal(err)
		}
		if *more != *known || known.set == [len(known.set)]featureWord{} {
			t.Errorf("request is %+v with unknown names, %+v without", more, known)
		}
		if _, err := h.route.featureBits("none", undescribable); !errors.Is(err, unix.ENODEV) {
			t.Errorf("of no interface: %v", err)
		}
	})
}

// A kernel that names no features, or refuses to change them, gets its veth as
// well.
func TestAddVethWithoutFeatures(t *testing.T) {
	for name, request := range map[string]*ethtoolFeatures{
		"unnamed": nil,
		"refused": {cmd: unix.ETHTOOL_SFEATURES, words: maxFeatures}, // EINVAL
	} {
		t.Run(name, func(t *testing.T) {
			host, web := labtest.New(t, "host"), labtest.New(t, "web")
			inHost(t, host, func(h *Host) {
				h.undescribable = request
				if _, err := h.AddVeth(openNS(t, web), spec("veth00000001", nil)); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TCP in a VXLAN between two containers fills super-frames of two headers. With
// the tunnel's offloads on the kernel describes them as plain TCP, the switch drops
// them as malformed, and TCP is left with the segments that it sends again one by
// one.
func TestTunnelBetweenContainers(t *testing.T) {
	for _, tt := range []struct{ family, checksum string }{
		{"IPv4", "noudpcsum"},
		{"IPv4", "udpcsum"},
		{"IPv6", "noudp6zerocsumtx"},
	} {
		t.Run(tt.family+" "+tt.checksum, func(t *testing.T) {
			pair := newContainers(t)
			for i, c := range pair {
				local, remote := fmt.Sprintf("10.1.0.%d", 10+i), fmt.Sprintf("10.1.0.%d", 11-i)
				if tt.family == "IPv6" {
					local, remote = fmt.Sprintf("fd00:1::%d", 10+i), fmt.Sprintf("fd00:1::%d", 11-i)
				}
				out, err := c.Command("ip", "link", "add", "vxlan0", "type", "vxlan", "id", "7", "dstport", "4789",
					"dev", "eth0", "local", local, "remote", remote, tt.checksum).CombinedOutput()
				if bytes.Contains(out, []byte("Unknown device type")) {
					labtest.Skip(t, "the kernel has no VXLAN")
				}
				err = errors.Join(err, c.AddAddr("vxlan0", fmt.Sprintf("10.7.0.%d/24", 10+i)), c.SetUp("vxlan0"))
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			transfer(t, pair[0], pair[1], "10.7.0.11:80", 8<<20)
		})
	}
}

// newContainers attaches two containers at .10 and .11 of 10.1.0.0/24 and
// fd00:1::/64 to a switch.
func newContainers(t testing.TB) (pair [2]*netlab.NS) {
	t.Helper()
	host := labtest.New(t, "host")
	sw, err := dataplane.New(dataplane.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sw.Close() })
	cfg := dataplane.SnapshotConfig{Revision: 1, Networks: []dataplane.NetworkConfig{{
		ID: 1, HostPort: frame.NoPort, GatewayMAC: header.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400,
		Subnets:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")},
	}}}
	for i := range pair {
		pair[i] = labtest.New(t, fmt.Sprintf("c%d", i))
		s := spec(fmt.Sprintf("veth%08x", i), nil)
		s.MAC = net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}
		s.Addrs = []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.1.0.%d/24", 10+i)), netip.MustParsePrefix(fmt.Sprintf("fd00:1::%d/64", 10+i)),
		}
		var k *port.Socket
		inHost(t, host, func(h *Host) {
			index, err := h.AddVeth(openNS(t, pair[i]), s)
			if err != nil {
				t.Fatal(err)
			}
			k, err = port.OpenSocket(port.PacketConfig{Ifindex: index, Name: s.Name, FilterFD: -1})
			if err != nil {
				t.Fatal(err)
			}
		})
		id := frame.PortID(i)
		if err := errors.Join(sw.AddPort(id, k.Descriptor()), k.Close()); err != nil {
			t.Fatal(err)
		}
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: id, Network: 1, MAC: header.MAC(s.MAC)})
		for _, a := range s.Addrs {
			cfg.Stations = append(cfg.Stations, dataplane.StationConfig{Addr: a.Addr(), Network: 1, MAC: header.MAC(s.MAC), Port: id})
		}
	}
	cfg.Rules = policy.Compile(&cfg, nil)
	if err := sw.Install(cfg); err != nil {
		t.Fatal(err)
	}
	sw.Start()
	return pair
}

// transfer sends size bytes by TCP and compares what arrives by hash. It gives
// them 5 seconds.
func transfer(t testing.TB, from, to *netlab.NS, addr string, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	l, err := to.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := from.Dial("tcp", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()

	start := time.Now()
	if err := errors.Join(in.SetDeadline(start.Add(30*time.Second)), out.SetDeadline(start.Add(30*time.Second))); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := out.Write(data)
		sent <- errors.Join(err, out.Close())
	}()
	h := sha256.New()
	n, err := io.Copy(h, in)
	if err = errors.Join(err, <-sent); err != nil {
		t.Fatalf("%d of %d bytes after %v: %v", n, size, time.Since(start), err)
	}
	if [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("%d bytes came, not those that were sent", n)
	}
	t.Logf("%d bytes in %v", n, time.Since(start))
}
