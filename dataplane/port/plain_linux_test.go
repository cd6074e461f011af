package port_test

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A device that speaks IP alone has frames here: what comes in gets a header of the link, and what goes
// out leaves it behind, with what is left to do for the checksum at its place.
func TestPlainLink(t *testing.T) {
	sw := labtest.New(t, "switch")
	var tun *os.File
	must(t, sw.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("tun0")
		if err == nil {
			ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		tun = os.NewFile(uintptr(fd), "tun0")
		return nil
	}))
	t.Cleanup(func() { tun.Close() })
	must(t, sw.Sysctl("ipv6.conf.tun0.disable_ipv6", "1"))
	must(t, sw.SetUp("tun0"))
	w := &wire{sw: sw, ifname: "tun0"}
	var err error
	w.index, err = sw.Index("tun0")
	must(t, err)
	p := w.open(t, port.PacketConfig{Packets: true})
	packet := func(size int) []byte {
		return switchtest.Bytes(switchtest.Packet{EthSrc: header.MAC{2, 0, 0, 0, 0, 1}, EthDst: header.MAC{2, 0, 0, 0, 0, 2}, Src: "10.0.0.2:4000", Dst: "10.0.0.1:5000", Proto: header.ProtoUDP, Payload: bytes.Repeat([]byte("x"), size)})
	}
	must(t, tun.SetDeadline(time.Now().Add(20*time.Second)))
	for _, size := range []int{1, 1400, 9000, 65000} { // in a slot, and by the receive queue
		sent := packet(size)
		if _, err := tun.Write(sent[header.EthernetLen:]); err != nil {
			t.Fatal(err)
		}
		got := collect(t, p, 1)
		if len(got) != 1 || !bytes.Equal(got[0], sent) {
			t.Fatalf("%d bytes: got %d frames, %x, want %x", size, len(got), head(got), sent[:60])
		}
	}
	if _, err := tun.Write(append([]byte{0x00}, make([]byte, 40)...)); err == nil {
		if got := collect(t, p, 1); len(got) > 0 {
			t.Errorf("what is no IP came in: %x", got[0])
		}
	}
	whole := packet(1000)
	partial := bytes.Clone(whole)
	l4 := header.EthernetLen + 20
	sum := whole[l4+6 : l4+8]
	off := frame.Offload{Csum: frame.CsumPartial, CsumStart: uint16(l4), CsumOffset: 6}
	copy(partial[l4+6:], pseudoSum(whole))
	arp := testFrame(60, 1)
	frames := []*frame.Frame{
		{Buf: append(make([]byte, frame.Headroom), whole...)},
		{Buf: append(make([]byte, frame.Headroom), arp...)},
		{Buf: append(make([]byte, frame.Headroom), partial...), Offload: off},
	}
	if n := p.Send(port.NewTx(), frames); n != 2 {
		t.Errorf("sent %d, want the two that are IP", n)
	}
	for range 2 {
		b := make([]byte, 2000)
		n, err := tun.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:n], whole[header.EthernetLen:]) {
			t.Errorf("left as %x, want %x (checksum %x)", b[:min(n, 40)], whole[header.EthernetLen:header.EthernetLen+40], sum)
		}
	}
}

func head(frames [][]byte) []byte {
	if len(frames) == 0 {
		return nil
	}
	return frames[0][:min(60, len(frames[0]))]
}

// pseudoSum is what the checksum field of a UDP packet holds while the rest is left to do.
func pseudoSum(b []byte) []byte {
	ip := b[header.EthernetLen:]
	sum := uint32(header.ProtoUDP) + uint32(len(ip)-20)
	for i := 12; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return []byte{byte(sum >> 8), byte(sum)}
}
