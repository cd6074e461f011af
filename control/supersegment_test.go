package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// injectSuper sends frames out of an interface as super-frames.
func injectSuper(t testing.TB, ns *netlab.NS, ifname string, off frame.Offload, frames ...[]byte) {
	t.Helper()
	send := superSocket(t, ns, ifname)
	for _, f := range frames {
		if err := send(off, f); err != nil {
			t.Fatal(err)
		}
	}
}

// superSocket sends frames out of an interface, each with an offload.
func superSocket(t testing.TB, ns *netlab.NS, ifname string) func(frame.Offload, []byte) error {
	t.Helper()
	index, err := ns.Index(ifname)
	fd := -1
	if err == nil {
		err = ns.Do(func() (err error) {
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		t.Fatal(err)
	}
	return func(off frame.Offload, f []byte) error {
		b := append(make([]byte, frame.VnetHdrLen), f...)
		frame.EncodeVnetHdr(b, off)
		proto := binary.BigEndian.Uint16(f[12:])
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: index, Protocol: proto<<8 | proto>>8})
	}
}

// A container sends super-frames of thousands of segments: they are refused where they come
// in, and a neighbour goes on.
func TestC43TinySegmentsOfAContainer(t *testing.T) {
	for _, cfg := range []daemonSpec{{}, {NoFlowTable: true}} {
		t.Run(fmt.Sprintf("no flow table %v", cfg.NoFlowTable), func(t *testing.T) {
			r := newRig(t)
			r.cfg.NoFlowTable = cfg.NoFlowTable
			r.start()
			attacker, ct := r.attach("attacker", api.Attach{})
			victim, _ := r.attach("victim", api.Attach{})
			serve(t, r.world.Outside, ":9000", "outside")
			wantFetch(t, attacker, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
			src, gw := macs(t, attacker, "eth0", gatewayOf(t, r))
			tcp := switchtest.Bytes(switchtest.Packet{
				EthSrc: src, EthDst: gw, Src: addr(ct) + ":5000", Dst: netlab.FarAddr + ":9",
				Proto: header.ProtoTCP, Flags: switchtest.ACK, Payload: make([]byte, 60_000),
			})
			const n = 20
			for range n {
				injectSuper(t, attacker, "eth0", frame.Offload{
					Csum: frame.CsumPartial, CsumStart: 34, CsumOffset: 16, GSOType: frame.GSOTCPv4, GSOSize: 8, HdrLen: 54,
				}, tcp)
			}
			eventually(t, "the frames are refused", func() bool {
				return r.stats().Drops["receive-invalid-offload"] == n
			})
			wantFetch(t, victim, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
		})
	}
}

// A receiver wants segments of 88 bytes, the least that Linux sets: all arrives, though
// super-frames of that size may have too many segments.
func TestSmallSegmentsArrive(t *testing.T) {
	for _, cfg := range []daemonSpec{{}, {NoFlowTable: true}} {
		t.Run(fmt.Sprintf("no flow table %v", cfg.NoFlowTable), func(t *testing.T) {
			r := newRig(t)
			r.cfg.NoFlowTable = cfg.NoFlowTable
			r.start()
			from, _ := r.attach("from", api.Attach{})
			l, err := r.world.Outside.Listen("tcp", ":9000")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			raw, err := l.(*net.TCPListener).SyscallConn()
			if err == nil {
				err = errors.Join(raw.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 88)
				}), err)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, 2<<20)
			rand.NewChaCha8([32]byte{2}).Read(want)
			got := make(chan []byte, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					got <- nil
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(60 * time.Second))
				b, _ := io.ReadAll(c)
				got <- b
			}()
			c, err := from.Dial("tcp", netlab.FarAddr+":9000", 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(60 * time.Second))
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if b := <-got; !bytes.Equal(b, want) {
				t.Errorf("%d of %d bytes arrived; drops %v", len(b), len(want), r.stats().Drops)
			}
			t.Log(r.stats().Drops)
		})
	}
}
