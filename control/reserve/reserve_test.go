package reserve

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
)

func TestF27TakeRefusesWhatAProgramHolds(t *testing.T) {
	at := netip.MustParseAddr
	tests := []struct {
		network, addr string // of the program
		proto         uint8
		at            netip.Addr
		free          bool
	}{
		{"tcp4", "0.0.0.0:8080", tcp, everywhere, false},
		{"tcp4", "127.0.0.1:8080", tcp, everywhere, false},
		{"tcp6", "[::1]:8080", tcp, everywhere, false},
		{"tcp6", "[::]:8080", tcp, everywhere, false},
		{"tcp", "[::]:8080", tcp, everywhere, false},
		{"tcp", "[::]:8080", tcp, at("198.51.100.1"), false}, // dual-stack
		{"tcp6", "[::]:8080", tcp, at("198.51.100.1"), true},
		{"tcp6", "[::]:8080", tcp, at("2001:db8::1"), false},
		{"tcp4", "0.0.0.0:8080", tcp, at("198.51.100.1"), false},
		{"tcp4", "0.0.0.0:8080", tcp, at("2001:db8::1"), true},
		{"tcp4", "127.0.0.1:8080", tcp, at("198.51.100.1"), true},
		{"tcp4", "198.51.100.1:8080", tcp, at("198.51.100.1"), false},
		{"tcp4", "198.51.100.1:8080", tcp, at("::ffff:198.51.100.1"), false},
		{"udp4", "0.0.0.0:8080", udp, everywhere, false},
		{"udp6", "[::1]:8080", udp, everywhere, false},
		{"udp", "[::]:8080", udp, at("198.51.100.1"), false},
		{"udp4", "127.0.0.1:8080", udp, at("198.51.100.1"), true},
		{"udp4", "0.0.0.0:8080", tcp, everywhere, true},
		{"tcp4", "0.0.0.0:8080", udp, everywhere, true},
		{"tcp4", "0.0.0.0:8090", tcp, everywhere, true},
	}
	for _, large := range []bool{false, true} {
		for _, tt := range tests {
			name := fmt.Sprintf("%s %s for %d at %v large=%v", tt.network, tt.addr, tt.proto, tt.at, large)
			first, last := uint16(8079), uint16(8081)
			if large {
				first, last = 8000, 8085
			}
			t.Run(name, func(t *testing.T) {
				inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
					pid, _ := start(t, n, tt.network, tt.addr)
					h, err := p.Take(tt.proto, tt.at, first, last, Keeper{})
					if tt.free {
						if err != nil {
							t.Fatal(err)
						}
						if err := h.Release(); err != nil {
							t.Error(err)
						}
						return
					}
					comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
					want := fmt.Sprintf("port 8080/%s is held by %s (pid %d): stop it or publish another port",
						tt.network[:3], strings.TrimSpace(string(comm)), pid)
					if !errors.Is(err, ErrTaken) || err.Error() != want {
						t.Errorf("got %v, want %s", err, want)
					}
					if len(p.holds) != 0 {
						t.Error("something is held after an error")
					}
					if b, _ := os.ReadFile(reservedPath); len(strings.TrimSpace(string(b))) != 0 {
						t.Errorf("reserved after an error: %s", b)
					}
				})
			})
		}
	}
}

// A program that comes later is refused at bind or at listen, with and without
// SO_REUSEADDR and SO_REUSEPORT; after Release it is not.
func TestHoldKeepsProgramsAway(t *testing.T) {
	options := map[string][]int{
		"plain": nil, "SO_REUSEADDR": {unix.SO_REUSEADDR}, "SO_REUSEPORT": {unix.SO_REUSEPORT},
		"both": {unix.SO_REUSEADDR, unix.SO_REUSEPORT},
	}
	for _, proto := range []uint8{tcp, udp} {
		for _, addr := range []string{"0.0.0.0", "127.0.0.1", "198.51.100.1", "::", "::1", "2001:db8::1"} {
			for name, opts := range options {
				inHost(t, Config{}, func(_ *netlab.NS, p *Ports) {
					h, err := p.Take(proto, everywhere, 80, 80, Keeper{})
					if err != nil {
						t.Fatal(err)
					}
					if err := listen(proto, netip.MustParseAddr(addr), 80, opts); !errors.Is(err, unix.EADDRINUSE) {
						t.Errorf("%d %s with %s: got %v, want EADDRINUSE", proto, addr, name, err)
					}
					if err := errors.Join(h.Release(), h.Release()); err != nil {
						t.Error(err)
					}
					if err := listen(proto, netip.MustParseAddr(addr), 80, opts); err != nil {
						t.Errorf("%d %s with %s after Release: %v", proto, addr, name, err)
					}
				})
			}
		}
	}
}

// A relay that served the port before leaves its connections in TIME_WAIT.
func TestF27TakeAfterTimeWait(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		leaveTimeWait(t, "127.0.0.1:8080")
		if out := timeWait(t, p, 8080); out == 0 {
			t.Fatal("no connection in TIME_WAIT: the test shows nothing")
		}
		h, err := p.Take(tcp, everywhere, 8080, 8080, Keeper{})
		if err != nil {
			t.Fatal(err)
		}
		for _, opts := range [][]int{nil, {unix.SO_REUSEADDR}, {unix.SO_REUSEPORT}} {
			if err := listen(tcp, netip.MustParseAddr("127.0.0.1"), 8080, opts); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("listen with options %v: got %v, want EADDRINUSE", opts, err)
			}
		}
		if err := h.Release(); err != nil {
			t.Error(err)
		}
	})
}

// A port that a living client connection goes out from is not ours to take.
func TestTakeRefusesAClientsPort(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		start(t, n, "tcp4", "127.0.0.1:9000")
		pid, stop := start(t, n, "dial", "127.0.0.1:9001")
		_, err := p.Take(tcp, everywhere, 9001, 9001, Keeper{})
		if want := fmt.Sprintf("(pid %d): stop it", pid); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), want) {
			t.Errorf("while the client lives: %v, want %s", err, want)
		}
		stop() // closes first, so the port is in TIME_WAIT, without SO_REUSEADDR
		_, err = p.Take(tcp, everywhere, 9001, 9001, Keeper{})
		if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "has not ended: try again in a minute") {
			t.Errorf("after the client has ended: %v", err)
		}
	})
}

func TestF27TakeAllOrNothing(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		_, stop := start(t, n, "tcp4", "127.0.0.1:8010")
		fds := openFDs(t)
		for _, last := range []uint16{8010, 8063, 9000} {
			if _, err := p.Take(tcp, everywhere, 8000, last, Keeper{}); !errors.Is(err, ErrTaken) {
				t.Errorf("8000-%d: %v", last, err)
			}
		}
		if got := openFDs(t); got != fds {
			t.Errorf("%d descriptors after failures, %d before", got, fds)
		}
		stop()
		if _, err := p.Take(tcp, everywhere, 8000, 8063, Keeper{}); err != nil {
			t.Fatal(err)
		}
		if got := openFDs(t) - fds; got > HoldMax {
			t.Errorf("64 ports take %d descriptors", got)
		}
		for _, r := range []Range{{8000, 8000}, {8063, 8063}, {7000, 8000}, {8063, 9000}, {1, 65535}} {
			_, err := p.Take(tcp, everywhere, r.First, r.Last, Keeper{})
			if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "published already") {
				t.Errorf("%d-%d again: %v", r.First, r.Last, err)
			}
		}
		if _, err := p.Take(udp, everywhere, 8000, 8063, Keeper{}); err != nil {
			t.Errorf("the same of UDP: %v", err)
		}
	})
}

func TestTakeRefusesNonsense(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		tests := []struct {
			proto       uint8
			addr        netip.Addr
			first, last uint16
			text        string
		}{
			{tcp, everywhere, 0, 10, "no range"},
			{tcp, everywhere, 10, 9, "no range"},
			{header.ProtoICMP, everywhere, 80, 80, "choose tcp, udp or sctp"},
		}
		for _, tt := range tests {
			if _, err := p.Take(tt.proto, tt.addr, tt.first, tt.last, Keeper{}); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%+v: %v", tt, err)
			}
		}
	})
}

// TestTakeWhileAway: the ports of an address are held while the host does not have it, and
// from the moment on in which it has.
func TestTakeWhileAway(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		away, away6 := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
		for _, addr := range []netip.Addr{away, away6} {
			for _, proto := range []uint8{tcp, udp, header.ProtoSCTP} {
				if _, err := p.Take(proto, addr, 80, 81, Keeper{}); err != nil {
					t.Errorf("port 80 of protocol %d at %s: %v", proto, addr, err)
				}
			}
			if _, err := p.Take(tcp, addr, 8000, 9000, Keeper{}); err != nil {
				t.Errorf("a thousand ports at %s: %v", addr, err)
			}
		}
		if err := n.AddAddr("lo", "192.0.2.7/32"); err != nil {
			t.Fatal(err)
		}
		if l, err := n.Listen("tcp4", "192.0.2.7:80"); err == nil {
			l.Close()
			t.Error("a program of the host gets a port that was taken before the address came")
		}
	})
}

func TestIntruders(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		if _, err := p.Take(tcp, everywhere, 10000, 60000, Keeper{}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Take(tcp, everywhere, 80, 81, Keeper{}); err != nil {
			t.Fatal(err)
		}
		start(t, n, "tcp4", "127.0.0.1:20000")
		start(t, n, "udp4", "127.0.0.1:20001")
		got, err := p.Intruders()
		if err != nil || len(got) != 1 || got[0].Port != 20000 {
			t.Errorf("intruders are %+v, %v", got, err)
		}
	})
}

// A datagram that reaches a held UDP port is dropped, and the sender sees
// neither an answer nor an error.
func TestHeldUDPPortQueuesNothing(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		h, err := p.Take(udp, everywhere, 8080, 8080, Keeper{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.Dial("udp4", "127.0.0.1:8080", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 50 {
			if _, err := c.Write(make([]byte, 512)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := unix.Recvfrom(h.sockets[0].fd, make([]byte, 1024), unix.MSG_DONTWAIT); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("the held socket has a datagram: %v", err)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for _, last := range []uint16{10000, 10063, 60000} {
		b.Run(fmt.Sprintf("ports=%d", last-9999), func(b *testing.B) {
			inHost(b, Config{}, func(_ *netlab.NS, p *Ports) {
				for b.Loop() {
					h, err := p.Take(tcp, everywhere, 10000, last, Keeper{})
					if err != nil {
						b.Fatal(err)
					}
					if err := h.Release(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// The relay's own listener is in nobody's way: its port can be published, alone
// or in a range, and is no intruder there.
func TestTheDaemonsOwnSocketIsNotInTheWay(t *testing.T) {
	for _, proto := range []uint8{tcp, udp} {
		inHost(t, Config{}, func(_ *netlab.NS, p *Ports) {
			fd, err := listener(proto, netip.MustParseAddr("127.0.0.1"), 40000, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			for _, r := range []Range{{40000, 40000}, {39999, 40001}, {39000, 41000}} {
				h, err := p.Take(proto, everywhere, r.First, r.Last, Keeper{})
				if err != nil {
					t.Errorf("%v: %v", r, err)
					continue
				}
				if got, err := p.Intruders(); err != nil || len(got) != 0 {
					t.Errorf("%v: intruders %v, %v", r, got, err)
				}
				if err := h.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A socket of our own is the relay's and in nobody's way, unless it is named.
func TestKeptSocketsKeepTheirPorts(t *testing.T) {
	for _, kept := range []bool{false, true} {
		inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
			l, err := n.Listen("tcp", "127.0.0.1:9595")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if kept {
				p.cfg.Kept = []uint32{inodeOf(t, l)}
			}
			h, err := p.Take(tcp, everywhere, 9595, 9595, Keeper{})
			if errors.Is(err, ErrTaken) != kept {
				t.Errorf("kept %v: %v", kept, err)
			}
			if err == nil {
				if err := h.Release(); err != nil {
					t.Error(err)
				}
			}
			for _, addr := range []string{"198.51.100.1", "::1"} {
				if _, err := p.Take(tcp, netip.MustParseAddr(addr), 9595, 9595, Keeper{}); errors.Is(err, ErrTaken) != kept || !kept && err != nil {
					t.Errorf("at %s, kept %v: %v", addr, kept, err)
				}
			}
		})
	}
}

// TestTogether: a program that comes after the list was made is found by the bind, and
// named; one that went since is in nobody's way.
func TestTogether(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		before, stop := start(t, n, "tcp4", "0.0.0.0:8080")
		if err := p.Together(); err != nil {
			t.Fatal(err)
		}
		defer p.Apart()
		after, _ := start(t, n, "tcp4", "0.0.0.0:8081")
		for port, pid := range map[uint16]int{8080: before, 8081: after} {
			if _, err := p.Take(tcp, everywhere, port, port, Keeper{}); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", pid)) {
				t.Errorf("port %d: %v, want one that names process %d", port, err, pid)
			}
		}
		stop()
		if _, err := p.Take(tcp, everywhere, 8080, 8080, Keeper{}); err != nil {
			t.Error(err)
		}
	})
}
