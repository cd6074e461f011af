package control

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestS30PingsOfTheHost: a program of the host pings with an identifier that containers ping the same
// station with. It gets each answer once, and so do they.
func TestS30PingsOfTheHost(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", bare), func(t *testing.T) {
			const ident = 4242
			b := newBorder(t, daemonSpec{NoFlowTable: bare}, func(*border) {})
			for _, v6 := range []bool{false, true} {
				b.flow("udp", v6, 21030, 9030) // the next hop is known
				for who, ns := range map[string]*netlab.NS{"container": b.c, "host": b.world.Host, "container again": b.c} {
					fd := pinger(t, ns, v6)
					for seq := range uint16(5) {
						if got := ping(t, fd, v6, remoteAt[v6], ident, seq, who); got != 1 {
							t.Errorf("IPv%s: %s has %d answers to its ping", familyOf(v6), who, got)
						}
					}
				}
			}
		})
	}
}

// pinger is a raw socket for ICMP.
func pinger(t *testing.T, ns *netlab.NS, v6 bool) (fd int) {
	t.Helper()
	family := map[bool]int{false: unix.AF_INET, true: unix.AF_INET6}[v6]
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(icmpOf(v6)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// ping sends a query and counts the answers that bear its text.
func ping(t *testing.T, fd int, v6 bool, to string, ident, seq uint16, text string) (answers int) {
	t.Helper()
	query, answer, head := byte(8), byte(0), 20
	if v6 {
		query, answer, head = 128, 129, 0
	}
	b := append([]byte{query, 0, 0, 0}, make([]byte, 4)...)
	binary.BigEndian.PutUint16(b[4:], ident)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, text...)
	addr := netip.MustParseAddr(to)
	station := unix.Sockaddr(&unix.SockaddrInet6{Addr: addr.As16()})
	if !v6 {
		b = ipPacket(to, to, header.ProtoICMP, b)[head:] // with its checksum, which the kernel makes of ICMPv6
		station = &unix.SockaddrInet4{Addr: addr.As4()}
	}
	if err := unix.Sendto(fd, b, 0, station); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		got := buf[:n]
		if len(got) >= head+8 && got[head] == answer && string(got[head+8:]) == text && binary.BigEndian.Uint16(got[head+6:]) == seq {
			answers++
		}
	}
	return answers
}
