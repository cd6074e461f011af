package dataplane_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net/netip"
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

func TestMain(m *testing.M) { labtest.Main(m) }

// kernelLab is a switch on real veths: containers c0, c1, ... at 10.1.0.10,
// .11, ... on network 1. There is no host port and no uplink.
type kernelLab struct {
	sw         *dataplane.Switch
	host       *netlab.NS
	containers []*netlab.NS
	cfg        dataplane.SnapshotConfig
	raw        map[int]int // packet sockets of send
}

func newKernelLab(t testing.TB, containers int) *kernelLab {
	t.Helper()
	labtest.Need(t)
	l := &kernelLab{host: labtest.New(t, "host")}
	sw, err := dataplane.New(dataplane.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.sw = sw
	t.Cleanup(func() {
		if err := sw.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l.cfg.Networks = []dataplane.NetworkConfig{{
		ID: 1, HostPort: frame.NoPort, GatewayMAC: header.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500,
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
	}}
	for i := range containers {
		l.add(t, i)
	}
	l.install(t)
	sw.Start()
	return l
}

func (l *kernelLab) add(t testing.TB, i int) {
	t.Helper()
	c := labtest.New(t, fmt.Sprintf("c%d", i))
	l.containers = append(l.containers, c)
	name := fmt.Sprintf("veth%d", i)
	must(t, netlab.Veth(l.host, name, c, "eth0", 1500))
	must(t, l.host.SetUp(name))
	must(t, c.SetUp("eth0"))
	must(t, c.AddAddr("eth0", fmt.Sprintf("10.1.0.%d/24", 10+i)))
	mac, err := c.MAC("eth0")
	must(t, err)
	index, err := l.host.Index(name)
	must(t, err)
	var k *port.Socket
	must(t, l.host.Do(func() (err error) {
		k, err = port.OpenSocket(port.PacketConfig{Ifindex: index, Name: name, FilterFD: -1})
		return err
	}))
	id := frame.PortID(i)
	must(t, l.sw.AddPort(id, k.Descriptor()))
	must(t, k.Close())
	l.cfg.Ports = append(l.cfg.Ports, dataplane.PortConfig{ID: id, Network: 1, MAC: header.MAC(mac)})
	l.cfg.Stations = append(l.cfg.Stations, dataplane.StationConfig{
		Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + i)}), Network: 1, MAC: header.MAC(mac), Port: id,
	})
}

func (l *kernelLab) install(t testing.TB) {
	t.Helper()
	l.cfg.Revision++
	l.cfg.Rules = policy.Compile(&l.cfg, nil)
	must(t, l.sw.Install(l.cfg))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The packet sockets of real cables do not hear what the switch sends by them: a
// station stays where it spoke, whatever is flooded.
func TestL21OwnTransmissionsOfCables(t *testing.T) {
	l := newKernelLab(t, 3)
	station := header.MAC{2, 0xaa, 0, 0, 0, 9}
	l.send(t, 0, l2(header.Broadcast, station, "here"))
	where := func() (at frame.PortID, known bool) {
		for _, e := range l.sw.FDB() {
			if e.MAC == station {
				return e.Port, true
			}
		}
		return 0, false
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, known := where(); !known; _, known = where() {
		if time.Now().After(deadline) {
			t.Fatal("the station was not learned")
		}
		time.Sleep(time.Millisecond)
	}
	const frames = 1500 // of each kind; storm control lets 2000 pass at once
	for range frames {
		l.send(t, 0, l2(header.Broadcast, station, "flooded"))
		l.send(t, 1, l2(station, l.cfg.Ports[1].MAC, "known"))
	}
	// On a busy machine a ring may overflow: that too was heard.
	heard := func(p dataplane.PortStats) uint64 { return p.Rx + p.KernelDrops }
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if all := l.sw.Stats().Ports; heard(all[0]) >= frames && heard(all[1]) >= frames {
			break
		}
	}
	time.Sleep(100 * time.Millisecond) // what it hears of itself
	if at, known := where(); !known || at != l.cfg.Ports[0].ID {
		t.Errorf("the station is at port %d (%v), want it to stay at %d", at, known, l.cfg.Ports[0].ID)
	}
	for i, p := range l.sw.Stats().Ports {
		if n := heard(p); i < 2 && n < frames {
			t.Errorf("port %d received %d frames, want at least %d", p.ID, n, frames)
		}
		if p.Rx > frames+100 || p.Drops[dataplane.DropFlapping] > 0 || p.Drops[dataplane.DropSpoofedMAC] > 0 {
			t.Errorf("port %d heard itself: %d frames, %v", p.ID, p.Rx, p.Drops)
		}
	}
}

// send sends a frame from a container.
func (l *kernelLab) send(t testing.TB, i int, f []byte) {
	t.Helper()
	if l.raw == nil {
		l.raw = make(map[int]int)
	}
	fd, ok := l.raw[i]
	if !ok {
		must(t, l.containers[i].Do(func() (err error) {
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			return err
		}))
		t.Cleanup(func() { unix.Close(fd) })
		l.raw[i] = fd
	}
	index, err := l.containers[i].Index("eth0")
	must(t, err)
	must(t, unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: index}))
}

func TestTwoContainersExchangeABigFile(t *testing.T) {
	l := newKernelLab(t, 2)
	data := make([]byte, 64<<20)
	rand.New(rand.NewSource(1)).Read(data)
	want := sha256.Sum256(data)

	ln, err := l.containers[1].Listen("tcp", ":80")
	must(t, err)
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write(data)
	}()
	c, err := l.containers[0].Dial("tcp", "10.1.0.11:80", 20*time.Second)
	must(t, err)
	defer c.Close()
	start := time.Now()
	h := sha256.New()
	n, err := io.Copy(h, c)
	must(t, err)
	t.Logf("%d bytes in %v", n, time.Since(start))
	if [32]byte(h.Sum(nil)) != want {
		t.Errorf("%d bytes came, not those that were sent", n)
	}
	for _, p := range l.sw.Stats().Ports {
		t.Logf("port %d: rx %d tx %d kernel drops %d", p.ID, p.Rx, p.Tx, p.KernelDrops)
		for r, n := range p.Drops {
			// A kernel that was not told otherwise looks for IPv6 routers.
			if n > 0 && dataplane.DropReason(r) != dataplane.DropNoIPv6 {
				t.Errorf("port %d: %d frames dropped: %v", p.ID, n, dataplane.DropReason(r))
			}
		}
	}
}
