package kernel

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// receiver counts who receives frames that are sent from outside.
type receiver struct {
	*uplink
	t      *testing.T
	atHost func(length int) int
	out    int
	to     unix.SockaddrLinklayer
	mac    []byte
	n      int
	// patience is how long to wait for what should come.
	patience time.Duration
}

func newReceiver(t *testing.T, cfg Config) *receiver {
	r := &receiver{uplink: uplinkOf(t, openWith(t, cfg)), t: t, patience: 20 * time.Second}
	r.atHost = labtest.CountFrames(t, r.Host, "eth0")
	err := r.Host.Do(func() error { return r.k.ShieldUplink(r.ifindex) })
	if err != nil {
		t.Fatal(err)
	}
	index, err := r.Outside.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := r.Host.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	r.mac, r.to.Ifindex = mac, index
	err = r.Outside.Do(func() (err error) {
		r.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(r.out) })
	return r
}

// send sends a frame with a length of its own, and returns how often host and tap received
// it.
func (r *receiver) send(frame []byte) (host, tap int) {
	r.t.Helper()
	r.n++
	length := 600 + r.n
	tag := 0
	if frame[12] == 0x81 {
		tag = 4 // which the kernel takes off
	}
	frame = append(patch(slices.Clone(frame), 0, r.mac...), make([]byte, length+tag-len(frame))...)
	if err := unix.Sendto(r.out, frame, 0, &r.to); err != nil {
		r.t.Fatal(err)
	}
	b := make([]byte, 2048)
	received := func() bool {
		for {
			n, _, err := unix.Recvfrom(r.tap, b, unix.MSG_DONTWAIT)
			if err != nil {
				return r.atHost(length)+tap > 0
			}
			if n == length { // others are what the kernels say to one another
				tap++
			}
		}
	}
	for deadline := time.Now().Add(r.patience); !received() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // what comes twice
	received()
	return r.atHost(length), tap
}

// priority puts a tag of VLAN 0 into a frame.
func priority(f []byte) []byte {
	return slices.Concat(f[:12], []byte{0x81, 0, 0xe0, 0}, f[12:])
}

// TestSocketsOfTheHost: what a socket of the host would receive is the host's although a
// claim says that it is ours. The switch gets the first packet of a flow as well, and the
// flow is ours again when the socket has gone.
func TestSocketsOfTheHost(t *testing.T) {
	t.Run("with a flow table", func(t *testing.T) { testSocketsOfTheHost(t, newReceiver(t, Config{})) })
	t.Run("without", func(t *testing.T) { testSocketsOfTheHost(t, newReceiver(t, Config{NoFlowTable: true})) })
}

func testSocketsOfTheHost(t *testing.T, r *receiver) {
	const udpPort, tcpPort, there = 7100, 7101, 7000
	for _, v6 := range []bool{false, true} {
		host, far := netlab.HostAddr, netlab.OutsideAddr
		wrap := func(s segment) []byte { return eth(ip4(far, host, s)) }
		quote := func(s segment) []byte { return eth(ip4(far, host, icmp4(3, 3, 0, ip4(host, far, s)...))) }
		unusual := func(s segment) []byte { return eth(ip4(far, host, s, options4(8))) }
		first := func(s segment) []byte { return eth(ip4(far, host, s, frag4(0, true), id4(77))) }
		later := func(s segment) []byte { return eth(ip4(far, host, s, frag4(72, false), id4(77))) }
		if v6 {
			host, far = netlab.HostAddr6, netlab.OutsideAddr6
			wrap = func(s segment) []byte { return eth(ip6(far, host, s)) }
			quote = func(s segment) []byte { return eth(ip6(far, host, icmp6(1, 4, 0, ip6(host, far, s)...))) }
			unusual = func(s segment) []byte { return eth(ip6(far, host, ext(60, 0, s))) }
			first = func(s segment) []byte { return eth(ip6(far, host, frag6id(77, 0, true, s))) }
			later = func(s segment) []byte { return eth(ip6(far, host, frag6id(77, 72, false, s))) }
		}
		at := func(port int) string {
			if v6 {
				return fmt.Sprintf("[%s]:%d", host, port)
			}
			return fmt.Sprintf("%s:%d", host, port)
		}
		remote := strings.Replace(at(there), host, far, 1)
		frames := []struct {
			name string
			from func(s func(src, dst uint16) segment, port uint16) []byte
		}{
			{"plain", func(s func(_, _ uint16) segment, p uint16) []byte { return wrap(s(there, p)) }},
			{"with options", func(s func(_, _ uint16) segment, p uint16) []byte { return unusual(s(there, p)) }},
			{"of VLAN 0", func(s func(_, _ uint16) segment, p uint16) []byte { return priority(wrap(s(there, p))) }},
			{"an error", func(s func(_, _ uint16) segment, p uint16) []byte { return quote(s(p, there)) }},
			{"the first piece", func(s func(_, _ uint16) segment, p uint16) []byte { return first(s(there, p)) }},
			{"a later piece", func(s func(_, _ uint16) segment, p uint16) []byte { return later(s(there, p)) }},
		}
		for _, kind := range []struct {
			name    string
			proto   uint8
			segment func(src, dst uint16) segment
			open    func() (io.Closer, error)
			port    uint16
		}{
			{"udp, bound", header.ProtoUDP, udp, func() (io.Closer, error) { return r.Host.ListenPacket("udp", at(udpPort)) }, udpPort},
			{"udp, connected", header.ProtoUDP, udp, func() (io.Closer, error) { return r.Host.DialFrom("udp", at(udpPort), remote, time.Second) }, udpPort},
			{"tcp, connected", header.ProtoTCP, tcp, func() (io.Closer, error) { return r.Host.DialFrom("tcp", at(tcpPort), remote, answer) }, tcpPort},
		} {
			l, err := r.Outside.Listen("tcp", remote)
			if err != nil {
				t.Fatal(err)
			}
			var socket io.Closer
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // addresses of IPv6 are new
				if socket, err = kind.open(); err == nil || time.Now().After(deadline) {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			peer := peerOf(t, r.k, far, host, kind.proto, kind.port, there)
			for _, f := range frames {
				if err := openPeers(t, r.k).Claim(peer); err != nil {
					t.Fatal(err)
				}
				if f.name != "a later piece" { // which follows the first
					forgetSockets(t, r.k)
				}
				frame := f.from(kind.segment, kind.port)
				for again := range 2 {
					h, tap := r.send(frame)
					if want := again == 0 && f.name != "a later piece"; h != 1 || (tap == 1) != want {
						t.Errorf("v6 %v, %s, %s, number %d: the host received %d, the tap %d", v6, kind.name, f.name, again+1, h, tap)
					}
				}
			}
			l.Close()
			if err := socket.Close(); err != nil {
				t.Fatal(err)
			}
			if kind.proto == header.ProtoTCP {
				continue // TIME_WAIT is a connection
			}
			r.patience = 100 * time.Millisecond // nobody receives the first
			h1, tap1 := r.send(wrap(kind.segment(there, kind.port)))
			r.patience = 20 * time.Second
			h2, tap2 := r.send(wrap(kind.segment(there, kind.port)))
			if h1 != 0 || tap1 != 0 || h2 != 0 || tap2 != 1 {
				t.Errorf("v6 %v, %s, gone: the host received %d and %d, the tap %d and %d", v6, kind.name, h1, h2, tap1, tap2)
			}
		}
	}
	r.k.Published().Set(flowmap.WildcardSlot, header.ProtoUDP, 7200)
	c, err := r.Host.ListenPacket("udp4", netlab.HostAddr+":7200")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if h, tap := r.send(eth(ip4(netlab.OutsideAddr, netlab.HostAddr, udp(there, 7200)))); h != 0 || tap != 1 {
			t.Errorf("a published port: the host received %d, the tap %d", h, tap)
		}
	}
}

// TestConnectionsThatComeLater: once a flow of ours was asked about, or no connection is noted at a
// published port, sockets are looked for no more. A connection of the host that begins then is the
// host's all the same, from its first segment on, and for as long as there is one.
func TestConnectionsThatComeLater(t *testing.T) {
	const flowPort, port, before, there = 7101, 7102, 7103, 7000
	r := newReceiver(t, Config{})
	remote := fmt.Sprintf("%s:%d", netlab.OutsideAddr, there)
	l, err := r.Outside.Listen("tcp", remote)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func(port uint16) {
		t.Helper()
		c, err := r.Host.DialFrom("tcp", fmt.Sprintf("%s:%d", netlab.HostAddr, port), remote, 5*time.Second)
		if err != nil {
			t.Fatalf("port %d: the host hears no answer: %v", port, err)
		}
		t.Cleanup(func() { c.Close() })
	}
	expect := func(when string, port uint16, host, tap int) {
		t.Helper()
		seg := tcp(there, port)
		seg.bytes[13] = 0x10 // ACK
		if h, n := r.send(eth(ip4(netlab.OutsideAddr, netlab.HostAddr, seg))); h != host || n != tap {
			t.Errorf("%s, port %d: the host received %d, the tap %d, want %d and %d", when, port, h, n, host, tap)
		}
	}
	peer := peerOf(t, r.k, netlab.OutsideAddr, netlab.HostAddr, header.ProtoTCP, flowPort, there)
	known := func(want uint8) {
		t.Helper()
		var got uint8
		key := peer.Key()
		if err := r.k.planes.peers.Lookup(&key, &got); err != nil || got != want {
			t.Errorf("of the flow is known %d, %v, want %d", got, err, want)
		}
	}
	if err := openPeers(t, r.k).Claim(peer); err != nil {
		t.Fatal(err)
	}
	connect(before)
	for _, p := range []uint16{port, before} {
		r.k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, p)
	}
	expect("nothing is listed", port, 0, 1)
	expect("nothing is listed", before, 1, 1)
	if err := r.k.Renote(func() ([]uint16, error) { return []uint16{before}, nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		expect("nobody has connected", flowPort, 0, 1)
		expect("nobody has connected", port, 0, 1)
		known(flowmap.PeerAsked)
	}
	connect(flowPort)
	connect(port)
	known(flowmap.PeerClaimed)
	if r.k.bound.tcp[port] == 0 {
		t.Error("the connection is not noted")
	}
	for _, p := range []uint16{flowPort, port, before} {
		expect("connected", p, 1, 0)
	}
	forgetSockets(t, r.k)
	for _, p := range []uint16{flowPort, port, before} {
		expect("connected, after a while", p, 1, 1)
	}
}

// forgetSockets lets the programs find sockets anew.
func forgetSockets(t *testing.T, k *Kernel) {
	t.Helper()
	var key flowmap.PeerKey
	var one uint8
	for it := k.planes.sockets.Iterate(); it.Next(&key, &one); {
		if err := k.planes.sockets.Delete(&key); err != nil {
			t.Fatal(err)
		}
	}
}
