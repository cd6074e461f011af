package control

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// holePort is the port that both use inside.
const holePort = 4000

// meeting is one of two containers that meet by the host's address.
type meeting struct {
	t  *testing.T
	ns *netlab.NS
	at string // as the outside knows it
}

// reuse lets a socket have the port of another: a program asks somebody outside and meets its peer
// from one port.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}); failed != nil {
		return failed
	}
	return err
}

// dial connects from holePort.
func (m *meeting) dial(to string, wait time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{Port: holePort}, Control: reuse}
	doErr := m.ns.Do(func() error {
		c, err = d.Dial("tcp", to)
		return nil
	})
	if doErr != nil {
		return nil, doErr
	}
	return c, err
}

// tells answers connections and datagrams with what it sees of who asks.
func tells(t *testing.T, ns *netlab.NS, at string) {
	t.Helper()
	l, err := ns.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) {
		fmt.Fprintf(c, "%s\n", c.RemoteAddr())
		_, _ = io.Copy(io.Discard, c) // until who asked has had enough
	})
	u, err := ns.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, peer, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(peer.String()), peer)
		}
	}()
}

// TestN10N27HolePunchingInALab: two containers that were told by a server outside how each is known
// meet by that, over UDP and TCP, within a network and across two.
func TestN10N27HolePunchingInALab(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		r.createDual("near")
		r.createDual("far")
		tells(t, r.world.Outside, ":3478")
		a, _ := r.attach("a", onNetwork("near"))
		for name, network := range map[string]string{"b": "near", "c": "far"} {
			b, _ := r.attach(name, onNetwork(network))
			for _, server := range []string{netlab.OutsideAddr, netlab.OutsideAddr6} {
				both := [2]*meeting{{t: t, ns: a}, {t: t, ns: b}}
				meetUDP(both, at(server, 3478))
				meetTCP(both, at(server, 3478))
				why, err := r.Why(t.Context(), api.WhyQuery{From: name, To: both[0].at})
				if err != nil || why.Reason != "prerouting-uninvited" || why.Fix == "" {
					t.Errorf("why %s does not reach %s from another port: %+v, %v", name, both[0].at, why, err)
				}
			}
		}
		if n := r.stats().Drops["guard-forged-source"]; n != 0 {
			t.Errorf("%d packets were taken for forged ones", n)
		}
	})
}

// meetUDP has both send until each has heard the other. The first of them is not let in.
func meetUDP(both [2]*meeting, server string) {
	t := both[0].t
	t.Helper()
	var conns [2]net.PacketConn
	to := netip.MustParseAddrPort(server)
	for i, m := range both {
		c, err := m.ns.ListenPacket("udp", fmt.Sprintf(":%d", holePort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
		m.at = ""
		eventually(t, "somebody outside tells "+m.ns.Name()+" how it is known", func() bool {
			said, from := exchange(c, to, "?")
			if from == to {
				m.at = said
			}
			return m.at != ""
		})
	}
	heard := [2]bool{}
	eventually(t, fmt.Sprintf("%s as %s and %s as %s meet", both[0].ns.Name(), both[0].at, both[1].ns.Name(), both[1].at), func() bool {
		for i := range both {
			said, from := exchange(conns[i], netip.MustParseAddrPort(both[1-i].at), "hello")
			heard[i] = heard[i] || said == "hello" && from.String() == both[1-i].at
		}
		return heard[0] && heard[1]
	})
}

// exchange sends a datagram and returns the next one that comes.
func exchange(c net.PacketConn, to netip.AddrPort, says string) (said string, from netip.AddrPort) {
	_, _ = c.WriteTo([]byte(says), net.UDPAddrFromAddrPort(to))
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	b := make([]byte, 100)
	n, peer, err := c.ReadFrom(b)
	if err != nil {
		return "", from
	}
	from = peer.(*net.UDPAddr).AddrPort()
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// meetTCP has both connect to each other at once (RFC 9293, 3.5).
func meetTCP(both [2]*meeting, server string) {
	t := both[0].t
	t.Helper()
	for _, m := range both {
		c, err := m.dial(server, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		m.at = strings.TrimSpace(line)
	}
	type met struct {
		c   net.Conn
		err error
	}
	came := [2]chan met{make(chan met, 1), make(chan met, 1)}
	for i, m := range both {
		to := both[1-i].at
		go func() {
			c, err := m.dial(to, 20*time.Second)
			came[i] <- met{c, err}
		}()
	}
	for i, m := range both {
		got := <-came[i]
		if got.err != nil {
			t.Errorf("%s as %s meets %s: %v", m.ns.Name(), m.at, both[1-i].at, got.err)
			continue
		}
		if peer := got.c.RemoteAddr().String(); peer != both[1-i].at {
			t.Errorf("%s met %s, want %s", m.ns.Name(), peer, both[1-i].at)
		}
		_ = got.c.Close()
	}
}
