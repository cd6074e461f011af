package control

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// sniffer keeps what an interface receives, until the end of the test.
type sniffer struct {
	mu     sync.Mutex
	frames [][]byte
}

const packetAuxdata = 8 // linux/if_packet.h

// sniff begins to listen.
func sniff(t testing.TB, ns *netlab.NS, ifname string) *sniffer {
	t.Helper()
	index, err := ns.Index(ifname)
	if err != nil {
		t.Fatal(err)
	}
	const all = syscall.ETH_P_ALL<<8&0xff00 | syscall.ETH_P_ALL>>8
	fd := -1
	err = ns.Do(func() (err error) {
		if fd, err = syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := syscall.SetsockoptInt(fd, syscall.SOL_PACKET, packetAuxdata, 1); err != nil {
			return err
		}
		// Reception ends when the test closes the socket, at the next timeout.
		tv := syscall.NsecToTimeval(int64(50 * time.Millisecond))
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		// A busy machine reads late, and loses nothing all the same.
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20)
		return syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: index})
	})
	if err != nil {
		t.Fatal(err)
	}
	s, stop, done := &sniffer{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer syscall.Close(fd)
		buf, oob := make([]byte, 65536), make([]byte, 128)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, oobn, _, from, err := syscall.Recvmsg(fd, buf, oob, 0)
			if ll, ok := from.(*syscall.SockaddrLinklayer); err != nil || !ok || ll.Pkttype == syscall.PACKET_OUTGOING {
				continue
			}
			s.mu.Lock()
			s.frames = append(s.frames, withTag(bytes.Clone(buf[:n]), oob[:oobn]))
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return s
}

// withTag puts the tag back that the kernel keeps beside a frame, in struct
// tpacket_auxdata.
func withTag(f, oob []byte) []byte {
	const valid, tpidValid = 0x10, 0x40
	all, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(all) != 1 || len(all[0].Data) < 20 {
		return f
	}
	aux := all[0].Data
	status := binary.NativeEndian.Uint32(aux)
	if status&valid == 0 {
		return f
	}
	tpid := header.TypeVLAN
	if status&tpidValid != 0 {
		tpid = binary.NativeEndian.Uint16(aux[18:])
	}
	return switchtest.Tag(f, tpid, binary.NativeEndian.Uint16(aux[16:]))
}

// comes is count once so many have come.
func (s *sniffer) comes(want int, what func([]byte) bool) int {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s.now(what) >= want {
			break
		}
	}
	return s.count(what)
}

// count is the number of received frames that a condition holds for, a moment
// from now.
func (s *sniffer) count(what func([]byte) bool) int {
	time.Sleep(100 * time.Millisecond)
	return s.now(what)
}

func (s *sniffer) now(what func([]byte) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.frames {
		if what(f) {
			n++
		}
	}
	return n
}

func from(mac header.MAC) func([]byte) bool {
	return func(f []byte) bool { return header.MAC(f[6:12]) == mac }
}

func isARP(f []byte) bool { return binary.BigEndian.Uint16(f[12:]) == header.TypeARP }

func ownMAC(t testing.TB, ns *netlab.NS, ifname string) header.MAC {
	t.Helper()
	m, err := ns.MAC(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return header.MAC(m)
}

// dropped is how often frames of a container were dropped for a reason.
func (r *rig) dropped(container, reason string) uint64 {
	r.t.Helper()
	st, err := r.Stats(r.t.Context(), api.StatsQuery{})
	if err != nil {
		r.t.Fatal(err)
	}
	n := uint64(0)
	for _, p := range st.Ports {
		if p.Container == container {
			n += p.Drops[reason]
		}
	}
	return n
}

// wantDropped wants as many frames dropped for a reason.
func (r *rig) wantDropped(container, reason string, want uint64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d frames of %s are dropped: %s", want, container, reason), func() bool { return r.dropped(container, reason) >= want })
	if n := r.dropped(container, reason); n != want {
		r.t.Errorf("%s: %d frames of %s are dropped, want %d", reason, n, container, want)
	}
}

// nstat reads the counters of a namespace's stack.
func nstat(t testing.TB, ns *netlab.NS) map[string]int {
	t.Helper()
	all := make(map[string]int)
	for _, file := range []string{"/proc/net/snmp", "/proc/net/netstat"} {
		var names []string
		for line := range strings.Lines(command(t, ns, "cat", file)) {
			fields := strings.Fields(line)
			if names == nil {
				names = fields
				continue
			}
			for i := 1; i < len(fields); i++ {
				all[strings.TrimSuffix(names[0], ":")+names[i]], _ = strconv.Atoi(fields[i])
			}
			names = nil
		}
	}
	for line := range strings.Lines(command(t, ns, "cat", "/proc/net/snmp6")) {
		if f := strings.Fields(line); len(f) == 2 {
			all[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	return all
}

// wantUnchanged compares counters of the host.
func wantUnchanged(t testing.TB, before, after map[string]int, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, ok := before[name]; !ok {
			t.Errorf("the kernel has no counter %s", name)
		}
		if d := after[name] - before[name]; d != 0 {
			t.Errorf("%s grew by %d, want 0", name, d)
		}
	}
}

// pings reports whether an address answers an echo request within half a second.
func pings(ns *netlab.NS, to string) bool {
	network, any, request, reply := "ip4:icmp", "0.0.0.0", byte(8), byte(0)
	msg := []byte{8, 0, 0, 0, 0, 7, 0, 1}
	if strings.Contains(to, ":") {
		// The kernel fills in the checksum of a raw ICMPv6 socket (RFC 3542 3.1).
		network, any, request, reply = "ip6:ipv6-icmp", "::", 128, 129
	}
	msg[0] = request
	if request == 8 {
		binary.BigEndian.PutUint16(msg[2:], ^uint16(0x0800+7+1))
	}
	conn, err := ns.ListenPacket(network, any)
	if err != nil {
		return false
	}
	defer conn.Close()
	if _, err := conn.WriteTo(msg, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return false
	}
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for b := make([]byte, 1500); ; {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return false
		}
		if n >= 8 && b[0] == reply && from.String() == to {
			return true
		}
	}
}

// wantPing wants an address to answer, on a busy machine too.
func wantPing(t testing.TB, ns *netlab.NS, to string) {
	t.Helper()
	eventually(t, ns.Name()+" pings "+to, func() bool { return pings(ns, to) })
}

// onNetwork is a request for one network, with more options.
func onNetwork(name string, change ...func(*api.Connect)) api.Attach {
	c := api.Connect{Network: name}
	for _, fn := range change {
		fn(&c)
	}
	return api.Attach{Networks: []api.Connect{c}}
}

func unguarded(c *api.Connect) { c.Guard = api.GuardOff }

// createDual makes a network of both families.
func (r *rig) createDual(name string, change ...func(*api.NetworkCreate)) api.Network {
	r.t.Helper()
	in := api.NetworkCreate{Name: name, IPv6: yes()}
	for _, fn := range change {
		fn(&in)
	}
	n, err := r.CreateNetwork(r.t.Context(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}
