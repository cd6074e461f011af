package control

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// border is a rig that counts who receives what comes in by the uplink. Each frame that is
// sent has a length of its own, by which it is known.
type border struct {
	*rig
	c      *netlab.NS // a container of both families
	addrs  map[bool]string
	atHost func(length int) int
	atC    *sniffer
	sent   []crossing
	next   int // number of a frame
}

// crossing is a frame that one of both has to receive, or nobody.
type crossing struct {
	name               string
	len                int
	host, nobody, both bool
}

const (
	toHost      = true
	toContainer = false
)

// The ends of the border, by whether they are of IPv6.
var (
	hostAt   = map[bool]string{false: netlab.HostAddr, true: netlab.HostAddr6}
	remoteAt = map[bool]string{false: netlab.OutsideAddr, true: netlab.OutsideAddr6}
	farAt    = map[bool]string{false: netlab.FarAddr, true: netlab.FarAddr6}
)

// addrsByFamily are a container's addresses, by whether they are of IPv6.
func addrsByFamily(ct api.Container) map[bool]string {
	m := make(map[bool]string)
	for _, a := range ct.Endpoints[0].Addresses {
		p := netip.MustParsePrefix(a)
		m[p.Addr().Is6()] = p.Addr().String()
	}
	return m
}

func at(addr string, port int) string { return net.JoinHostPort(addr, fmt.Sprint(port)) }

// familyOf is the name of a family, "4" or "6".
func familyOf(v6 bool) string {
	if v6 {
		return "6"
	}
	return "4"
}

// newBorder begins with what the host has before the daemon starts.
func newBorder(t *testing.T, cfg daemonSpec, before func(*border), publish ...string) *border {
	t.Helper()
	b := &border{rig: newRig(t)}
	b.cfg.Cgroup, b.cfg.NoFlowTable, b.cfg.MasqueradePorts = cfg.Cgroup, cfg.NoFlowTable, cfg.MasqueradePorts
	before(b)
	b.start()
	b.createDual("dual")
	var ct api.Container
	in := onNetwork("dual")
	in.Publish = publish
	b.c, ct = b.attach("c", in)
	b.addrs = addrsByFamily(ct)
	b.atHost = labtest.CountFrames(t, b.world.Host, "eth0")
	b.atC = sniff(t, b.c, "eth0")
	return b
}

// send sends a packet of a protocol from outside; l4 gives it, padded by n bytes.
func (b *border) send(name string, want bool, v6 bool, src string, proto uint8, l4 func(n int) []byte) {
	b.t.Helper()
	b.sendFrame(name, want, b.packet(v6, src, hostAt[v6], proto, l4(b.room(v6, len(l4(0))))))
}

// room is how much padding gives the next frame its length.
func (b *border) room(v6 bool, l4 int) int {
	l3 := 20
	if v6 {
		l3 = 40
	}
	return b.length(1) - header.EthernetLen - l3 - l4
}

// length is one that no other frame has. Whole frames, first pieces of both families and
// later ones differ in what is left when it is divided by 8.
func (b *border) length(rest int) int {
	b.next++
	n := 160 + 8*b.next + rest
	if n > header.EthernetLen+1500 {
		b.t.Fatal("too many frames")
	}
	return n
}

func (b *border) sendFrame(name string, want bool, f []byte) {
	b.t.Helper()
	b.sent = append(b.sent, crossing{name: name, len: len(f), host: want})
	inject(b.t, b.world.Outside, "eth0", f)
}

// sendPieces sends a datagram in two pieces.
func (b *border) sendPieces(name string, want bool, v6 bool, src string, proto uint8, l4 func(int) []byte) {
	b.t.Helper()
	l3, rest := 20, 2
	if v6 {
		l3, rest = 48, 6
	}
	first := b.length(rest) - header.EthernetLen - l3
	later := b.length(3) - header.EthernetLen - l3
	id := uint32(b.next)
	b.sendFrame(name+", first piece", want, b.piece(v6, src, proto, id, 0, true, l4(first-len(l4(0)))))
	b.sendFrame(name+", later piece", want, b.piece(v6, src, proto, id, first, false, make([]byte, later)))
}

// packet is a frame from outside to the host.
func (b *border) packet(v6 bool, src, dst string, proto uint8, l4 []byte) []byte {
	return append(b.ether(v6), ipPacket(src, dst, proto, l4)...)
}

func (b *border) piece(v6 bool, src string, proto uint8, id uint32, offset int, more bool, part []byte) []byte {
	var flag uint16
	if !v6 {
		if more {
			flag = 0x2000
		}
		ip := ipPacket(src, hostAt[v6], proto, part)
		binary.BigEndian.PutUint16(ip[4:], uint16(id))
		binary.BigEndian.PutUint16(ip[6:], flag|uint16(offset/8))
		binary.BigEndian.PutUint16(ip[10:], 0)
		header.FinishChecksum(ip[:20], 0, 10)
		return append(b.ether(v6), ip...)
	}
	if more {
		flag = 1
	}
	h := []byte{proto, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(offset)|flag)
	h = binary.BigEndian.AppendUint32(h, id)
	return append(b.ether(v6), ipPacket(src, hostAt[v6], 44, append(h, part...))...)
}

func (b *border) ether(v6 bool) []byte {
	to, from := ownMAC(b.t, b.world.Host, "eth0"), ownMAC(b.t, b.world.Outside, "eth0")
	typ := header.TypeIPv4
	if v6 {
		typ = header.TypeIPv6
	}
	return binary.BigEndian.AppendUint16(append(append([]byte{}, to[:]...), from[:]...), typ)
}

// ipPacket is an IP packet, whose transport checksum is right where it has one.
func ipPacket(src, dst string, proto uint8, l4 []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if field, ok := map[uint8]int{header.ProtoTCP: 16, header.ProtoUDP: 6, header.ProtoICMPv6: 2, header.ProtoICMP: 2}[proto]; ok && len(l4) > field+1 {
		sum := uint32(0)
		if proto != header.ProtoICMP {
			sum = uint32(proto) + uint32(len(l4))
			pseudo := append(s.AsSlice(), d.AsSlice()...)
			for i := 0; i < len(pseudo); i += 2 {
				sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
			}
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(l4[field:], uint16(sum>>16+sum))
		header.FinishChecksum(l4, 0, field)
	}
	if s.Is4() {
		h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(l4)))
		h = append(append(h, s.AsSlice()...), d.AsSlice()...)
		header.FinishChecksum(h, 0, 10)
		return append(h, l4...)
	}
	h := []byte{0x60, 0, 0, 0, 0, 0, proto, 64}
	binary.BigEndian.PutUint16(h[4:], uint16(len(l4)))
	return append(append(append(h, s.AsSlice()...), d.AsSlice()...), l4...)
}

// udpTo, tcpTo, plain and errorAbout are what packets carry, with padding.
func udpTo(src, dst int) func(int) []byte {
	return func(n int) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(src))
		b = binary.BigEndian.AppendUint16(b, uint16(dst))
		b = binary.BigEndian.AppendUint16(b, uint16(8+n))
		return append(append(b, 0, 0), make([]byte, n)...)
	}
}

func tcpTo(src, dst int, flags byte) func(int) []byte {
	return func(n int) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(src))
		b = binary.BigEndian.AppendUint16(b, uint16(dst))
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0, 100, 0, 0, 0, 0)
		return append(b, make([]byte, n)...)
	}
}

func plain(head []byte) func(int) []byte {
	return func(n int) []byte { return append(append([]byte{}, head...), make([]byte, n)...) }
}

// errorAbout quotes a packet that the host sent.
func errorAbout(v6 bool, to string, proto uint8, l4 func(int) []byte) func(int) []byte {
	return func(n int) []byte {
		b := []byte{3, 3, 0, 0, 0, 0, 0, 0}
		if v6 {
			b[0], b[1] = 1, 4
		}
		return append(b, ipPacket(hostAt[v6], to, proto, l4(n))...)
	}
}

func icmpOf(v6 bool) uint8 {
	if v6 {
		return header.ProtoICMPv6
	}
	return header.ProtoICMP
}

// check wants each frame received by one of both, and by whom it says.
func (b *border) check() {
	b.t.Helper()
	received := func(s crossing) (atHost, atC int) {
		b.atC.mu.Lock()
		defer b.atC.mu.Unlock()
		for _, f := range b.atC.frames {
			if len(f) == s.len {
				atC++
			}
		}
		return b.atHost(s.len), atC
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, s := range b.sent {
		h, c := received(s)
		for h+c == 0 && !s.nobody && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
			h, c = received(s)
		}
	}
	time.Sleep(100 * time.Millisecond) // what comes twice
	for _, s := range b.sent {
		h, c := received(s)
		want := map[bool][2]int{toHost: {1, 0}, toContainer: {0, 1}}[s.host]
		switch {
		case s.nobody:
			want = [2]int{}
		case s.both:
			want = [2]int{1, 1}
		}
		if [2]int{h, c} != want {
			b.t.Errorf("%s: the host received %d and the container %d, want %v", s.name, h, c, want)
		}
	}
	b.sent = nil
}

// flow begins a flow of the container, from a port to one of a server outside, and returns
// the port of the host that it left from.
func (b *border) flow(network string, v6 bool, from, to int) int {
	b.t.Helper()
	return b.flowOf(b.c, b.addrs[v6], network, v6, from, to)
}

// flowOf is flow for any container.
func (b *border) flowOf(container *netlab.NS, addr, network string, v6 bool, from, to int) int {
	b.t.Helper()
	network += familyOf(v6)
	var port int
	got := make(chan int, 1)
	if network[:3] == "tcp" {
		l, err := b.world.Outside.Listen(network, at(remoteAt[v6], to))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { l.Close() })
		go func() {
			if c, err := l.Accept(); err == nil {
				b.t.Cleanup(func() { c.Close() })
				got <- c.RemoteAddr().(*net.TCPAddr).Port
			}
		}()
	} else {
		l, err := b.world.Outside.ListenPacket(network, at(remoteAt[v6], to))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { l.Close() })
		go func() {
			if _, peer, err := l.ReadFrom(make([]byte, 100)); err == nil {
				got <- peer.(*net.UDPAddr).Port
			}
		}()
	}
	c, err := container.DialFrom(network, at(addr, from), at(remoteAt[v6], to), 20*time.Second)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	for range 100 { // the first may wait for a neighbour, and be lost
		if network[:3] == "udp" {
			c.Write([]byte("?"))
		}
		select {
		case port = <-got:
			return port
		case <-time.After(200 * time.Millisecond):
		}
	}
	b.t.Fatalf("%s to port %d: nothing arrived outside", network, to)
	return 0
}

// rawFlow sends a packet of a protocol from the container to the next hop.
func (b *border) rawFlow(v6 bool, proto uint8, payload []byte) {
	b.t.Helper()
	b.rawTo(v6, remoteAt[v6], proto, payload)
}

func (b *border) rawTo(v6 bool, addr string, proto uint8, payload []byte) {
	b.t.Helper()
	family, to := unix.AF_INET, unix.Sockaddr(nil)
	if v6 {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.MustParseAddr(addr).As16()}
	} else {
		to = &unix.SockaddrInet4{Addr: netip.MustParseAddr(addr).As4()}
	}
	err := b.c.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, payload, 0, to)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// hostRaw opens a raw socket of the host until the end of the test, connected to an address
// or to none.
func (b *border) hostRaw(v6 bool, proto uint8, to unix.Sockaddr) {
	b.t.Helper()
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd := -1
	err := b.world.Host.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		return err
	})
	if err == nil && to != nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { unix.Close(fd) })
}

// hostBinds has a program of the host bind a port on all addresses.
func (b *border) hostBinds(network string, v6 bool, port int) {
	b.t.Helper()
	any := map[bool]string{false: "0.0.0.0", true: "::"}[v6]
	if network == "tcp" {
		l, err := b.world.Host.Listen(network+familyOf(v6), at(any, port))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { l.Close() })
		return
	}
	c, err := b.world.Host.ListenPacket(network+familyOf(v6), at(any, port))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
}
