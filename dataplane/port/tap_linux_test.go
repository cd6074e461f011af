package port_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func openTAP(t testing.TB, ns *netlab.NS, cfg port.TAPConfig) *port.TAP {
	t.Helper()
	var p *port.TAP
	err := ns.Do(func() (err error) {
		p, err = port.OpenTAP(cfg)
		return err
	})
	if errors.Is(err, unix.EACCES) {
		labtest.SkipRights(t, "no rights on /dev/net/tun in this user namespace: "+err.Error())
	}
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// The host's stack behind the TAP and a container behind a veth: what a network
// with a gateway address is.
func TestTAPCarriesSuperFramesBothWays(t *testing.T) {
	sw := labtest.New(t, "switch")
	host := labtest.New(t, "host")
	tap := openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.Sysctl("ipv6.conf.vsw0.accept_dad", "0"))
	must(t, host.AddAddr("vsw0", "10.0.0.1/24"))
	must(t, host.AddAddr("vsw0", "fd00::1/64"))
	must(t, host.SetUp("vsw0"))
	c := newWire(t, sw, "p0", 1500)
	must(t, c.host.AddAddr("eth0", "10.0.0.2/24"))
	must(t, c.host.AddAddr("eth0", "fd00::2/64"))
	f := startForwarder(t, tap, c.open(t, port.PacketConfig{}), nil)
	for _, d := range []struct {
		name, addr string
		from, to   *netlab.NS
	}{
		{"host to container", "10.0.0.2:5000", host, c.host},
		{"container to host", "10.0.0.1:5000", c.host, host},
		{"host to container, IPv6", "[fd00::2]:5000", host, c.host},
		{"container to host, IPv6", "[fd00::1]:5000", c.host, host},
	} {
		t.Run(d.name, func(t *testing.T) {
			f.longest.Store(0)
			const size = 32 << 20
			s := transfer(t, d.from, d.to, d.addr, size)
			t.Logf("%.1f Gbit/s, longest frame %d", size*8/s/1e9, f.longest.Load())
			if got := f.longest.Load(); got < 60000 {
				t.Errorf("longest frame %d bytes, want super-frames of some 64 KiB", got)
			}
		})
	}
	for _, ns := range []*netlab.NS{host, c.host} {
		if got := snmp(t, ns, "Tcp", "InCsumErrors"); got != 0 {
			t.Errorf("%s: %d wrong TCP checksums", ns.Name(), got)
		}
	}
	if got := tap.InvalidDrops(); got != 0 {
		t.Errorf("%d frames refused as invalid", got)
	}
}

// UDP segmentation offload reaches the other side whole where the kernel has it
// and in datagrams where not. What a container sends has to be in datagrams then.
func TestTAPCarriesUDPSegmentation(t *testing.T) {
	sw := labtest.New(t, "switch")
	host := labtest.New(t, "host")
	tap := openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.Sysctl("ipv6.conf.vsw0.disable_ipv6", "1"))
	must(t, host.AddAddr("vsw0", "10.0.0.1/24"))
	must(t, host.SetUp("vsw0"))
	c := newWire(t, sw, "p0", 1500)
	must(t, c.host.AddAddr("eth0", "10.0.0.2/24"))
	f := startForwarder(t, tap, c.open(t, port.PacketConfig{}), nil)
	for _, d := range []struct {
		name     string
		from, to *netlab.NS
		addr     string
	}{
		{"host to container", host, c.host, "10.0.0.2:5000"},
		{"container to host", c.host, host, "10.0.0.1:5000"},
	} {
		t.Run(d.name, func(t *testing.T) {
			if !tap.USO() && d.from == c.host {
				labtest.NeedProgram(t, "ethtool")
				out, err := c.host.Command("ethtool", "-K", "eth0", "tx-udp-segmentation", "off").CombinedOutput()
				if err != nil {
					t.Fatalf("ethtool: %v: %s", err, out)
				}
			}
			f.longest.Store(0)
			l, err := d.to.ListenPacket("udp", d.addr)
			must(t, err)
			defer l.Close()
			conn, err := d.from.Dial("udp", d.addr, time.Second)
			must(t, err)
			defer conn.Close()
			rc, err := conn.(*net.UDPConn).SyscallConn()
			must(t, err)
			must(t, errors.Join(err, rc.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)
			}), err))
			want := testFrame(40*1000, 3)
			_, err = conn.Write(want)
			must(t, err)
			var got []byte
			buf := make([]byte, 2000)
			must(t, l.SetReadDeadline(time.Now().Add(20*time.Second)))
			for len(got) < len(want) {
				n, _, err := l.ReadFrom(buf)
				if err != nil {
					break
				}
				if n != 1000 {
					t.Fatalf("datagram of %d bytes, want 1000", n)
				}
				got = append(got, buf[:n]...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, want the %d sent", len(got), len(want))
			}
			t.Logf("longest frame %d", f.longest.Load())
		})
	}
}

func TestTAPTakeover(t *testing.T) {
	host := labtest.New(t, "host")
	first := openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.Sysctl("ipv6.conf.vsw0.disable_ipv6", "1"))
	must(t, host.AddAddr("vsw0", "10.0.0.1/24"))
	must(t, host.SetUp("vsw0"))
	index, err := host.Index("vsw0")
	must(t, err)

	err = host.Do(func() error {
		_, err := port.OpenTAP(port.TAPConfig{Name: "vsw0"})
		return err
	})
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("while held: got %v, want %v", err, unix.EBUSY)
	}

	// A copy of the descriptor outlives the process: its device stays as it is.
	copied := func(p *port.TAP) int {
		fd, err := unix.FcntlInt(uintptr(p.FD()), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	adopt := func(name string, fd int, stale bool) (tap *port.TAP, err error) {
		err = errors.Join(err, host.Do(func() (err error) {
			tap, err = port.AdoptTAP(name, fd, stale)
			return err
		}))
		return tap, err
	}
	waits, stale := copied(first), copied(first)
	must(t, first.Close())
	request := func() {
		c, err := host.Dial("udp", "10.0.0.77:9", time.Second)
		must(t, err)
		defer c.Close()
		_, err = c.Write([]byte("x")) // asks for the address
		must(t, err)
	}
	request()
	second, err := adopt("vsw0", waits, false)
	must(t, err)
	if got, err := host.Index("vsw0"); got != index || err != nil {
		t.Errorf("interface %d, %v after takeover, want %d still", got, err, index)
	}
	if !asksFor(t, second, []byte{10, 0, 0, 77}) {
		t.Error("a frame that waited is lost")
	}
	// The virtio header is on: a frame for the host's stack arrives, and the
	// answer can be read.
	mac, err := host.MAC("vsw0")
	must(t, err)
	if got := second.Send(port.NewTx(), []*frame.Frame{arpRequest(mac)}); got != 1 {
		t.Errorf("sent %d, want 1", got)
	}
	if !answered(t, second) {
		t.Error("the host does not answer ARP through a device taken over")
	}
	must(t, second.Close())

	b := testFrame(60, 1)
	r := newRaw(t, host, "vsw0")
	for range 700 {
		_, err := unix.Write(r.fd, b)
		must(t, err)
	}
	third, err := adopt("vsw0", stale, true)
	must(t, err)
	for _, f := range collect(t, third, 1) { // or the request again
		if bytes.Equal(f, b) {
			t.Error("a frame that is stale is received")
		}
	}
	if got := third.Send(port.NewTx(), []*frame.Frame{arpRequest(mac)}); got != 1 || !answered(t, third) {
		t.Errorf("sent %d, and no answer", got)
	}
	if _, err := adopt("other", copied(third), false); err == nil || !strings.Contains(err.Error(), "is called vsw0") {
		t.Errorf("under another name: %v", err)
	}
	must(t, third.Close())
	if _, err := host.Index("vsw0"); err == nil {
		t.Error("the device survives its last descriptor")
	}
	gone := openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.DelLink("vsw0"))
	if _, err := adopt("vsw0", copied(gone), true); !errors.Is(err, unix.EBADFD) {
		t.Errorf("of a device that was deleted: %v, want %v", err, unix.EBADFD)
	}
}

func asksFor(t *testing.T, p port.Port, addr []byte) bool {
	t.Helper()
	for range 10 {
		for _, f := range collect(t, p, 1) {
			if binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 1 && bytes.Equal(f[38:42], addr) {
				return true
			}
		}
	}
	return false
}

// arpRequest asks for 10.0.0.1.
func arpRequest(dst net.HardwareAddr) *frame.Frame {
	b := make([]byte, frame.Headroom+42)
	d := b[frame.Headroom:]
	copy(d, dst)
	copy(d[6:], []byte{2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9})
	copy(d[38:], []byte{10, 0, 0, 1})
	return &frame.Frame{Buf: b}
}

func answered(t *testing.T, p port.Port) bool {
	t.Helper()
	for range 10 {
		for _, f := range collect(t, p, 1) {
			if binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 2 {
				return true
			}
		}
	}
	return false
}

func TestTAPGoneDownAndFull(t *testing.T) {
	host := labtest.New(t, "host")
	tap := openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.Sysctl("ipv6.conf.vsw0.disable_ipv6", "1"))
	must(t, host.AddAddr("vsw0", "10.0.0.1/24"))
	tx := port.NewTx()
	mac, err := host.MAC("vsw0")
	must(t, err)
	if got := tap.Send(tx, []*frame.Frame{arpRequest(mac)}); got != 0 {
		t.Errorf("sent %d into a device that is down, want 0", got)
	}
	quiet(t, tap)
	must(t, host.SetUp("vsw0"))
	bad := arpRequest(mac)
	bad.Offload = frame.Offload{GSOType: 77, GSOSize: 1}
	if got := tap.Send(tx, []*frame.Frame{bad, arpRequest(mac), bad}); got != 1 {
		t.Errorf("sent %d, want the one that the kernel accepts", got)
	}
	if !answered(t, tap) {
		t.Error("no answer to the frame behind one that was refused")
	}

	// Nobody reads: the host's sends overflow the queue and are counted.
	r := newRaw(t, host, "vsw0")
	const sent = 3000
	for i := range sent {
		unix.Write(r.fd, testFrame(60, i)) // ENOBUFS when full
	}
	delivered := 0
	for range sent {
		n := len(collect(t, tap, sent))
		delivered += n
		if n == 0 {
			break
		}
	}
	if drops := tap.KernelDrops(); delivered+int(drops) != sent || drops == 0 {
		t.Errorf("delivered %d, dropped %d, sent %d, want some dropped", delivered, drops, sent)
	}

	must(t, host.DelLink("vsw0"))
	if !readable(t, tap, 20*time.Second) {
		t.Error("the end of the device wakes nobody")
	}
	b := new(frame.Batch)
	b.Begin(frame.Unlimited)
	if err := tap.Receive(b, port.NewArena()); !errors.Is(err, port.ErrGone) {
		t.Errorf("got %v, want %v", err, port.ErrGone)
	}
}

func TestTAPErrorsLeakNothing(t *testing.T) {
	host := labtest.New(t, "host")
	other := labtest.New(t, "other")
	must(t, netlab.Veth(host, "veth0", other, "eth0", 0))
	openTAP(t, host, port.TAPConfig{Name: "held"})
	before := countFDs(t)
	for name, want := range map[string]string{
		"":                 `tap "": the name must have 1 to 15 bytes`,
		"sixteen-bytes-16": `tap "sixteen-bytes-16": the name must have 1 to 15 bytes`,
		"veth0":            "tap veth0: attach: a device of that name exists and is no multi-queue TAP: ",
		"held":             "tap held: another process holds the device: ",
	} {
		err := host.Do(func() error {
			_, err := port.OpenTAP(port.TAPConfig{Name: name})
			return err
		})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q...", err, want)
		}
	}
	for range 3 {
		p := openTAP(t, host, port.TAPConfig{Name: "vsw1"})
		must(t, p.Close())
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	links, err := host.Links()
	must(t, err)
	if got := strings.Join(links, " "); strings.Contains(got, "vsw1") {
		t.Errorf("devices left: %s", got)
	}
}
