package control

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
)

// rawSocket speaks one IP protocol in a namespace, until the end of the test. The
// kernel here has no SCTP of its own.
type rawSocket struct {
	t  testing.TB
	fd int
}

func rawSocketIn(t testing.TB, ns *netlab.NS, proto int) *rawSocket {
	t.Helper()
	r := &rawSocket{t: t, fd: -1}
	err := ns.Do(func() (err error) {
		if r.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		tv := unix.NsecToTimeval(int64(time.Second))
		return unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(r.fd) })
	return r
}

func (r *rawSocket) send(to string, payload []byte) {
	r.t.Helper()
	if err := unix.Sendto(r.fd, payload, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4()}); err != nil {
		r.t.Fatal(err)
	}
}

// want receives a packet of such a source and payload; others may come before it.
func (r *rawSocket) want(from string, payload []byte) {
	r.t.Helper()
	b := make([]byte, 2048)
	for deadline := time.Now().Add(20 * time.Second); ; {
		n, err := r.receive(b)
		if err == unix.EAGAIN && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			r.t.Errorf("nothing came from %s: %v", from, err)
			return
		}
		if n >= 20 && net.IP(b[12:16]).String() == from && bytes.Equal(b[20:n], payload) {
			return
		}
		r.t.Logf("from %v came % x", net.IP(b[12:16]), b[20:n])
	}
}

// receive waits a second for a packet. A signal of the runtime's scheduler ends a call
// with a timeout, SA_RESTART or not (signal(7)).
func (r *rawSocket) receive(b []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(r.fd, b, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func (r *rawSocket) wantNothing() {
	r.t.Helper()
	b := make([]byte, 2048)
	if n, err := r.receive(b); err == nil {
		r.t.Errorf("% x came", b[:n])
	}
}

func sctpPacket(src, dst uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = append(b, 1, 2, 3, 4, 0, 0, 0, 0)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// SCTP and a protocol that has no ports go out, their answers come back to the
// container and not to the host, whose kernel would refuse them; SCTP ports are
// published.
func TestN84ProtocolsOfCables(t *testing.T) {
	r := newRig(t)
	r.start()
	a, act := r.attach("a", api.Attach{Publish: []string{"8132:80/sctp"}})
	b, _ := r.attach("b", api.Attach{})
	const sctp, other = int(header.ProtoSCTP), 253
	world, inA, inB := rawSocketIn(t, r.world.Outside, sctp), rawSocketIn(t, a, sctp), rawSocketIn(t, b, sctp)
	errors := sniff(t, r.world.Outside, "eth0")

	inA.send(netlab.OutsideAddr, sctpPacket(5000, 3868, "from a"))
	world.want(netlab.HostAddr, sctpPacket(5000, 3868, "from a"))
	world.send(netlab.HostAddr, sctpPacket(3868, 5000, "to a"))
	inA.want(netlab.OutsideAddr, sctpPacket(3868, 5000, "to a"))
	inB.send(netlab.OutsideAddr, sctpPacket(5001, 3868, "from b"))
	world.want(netlab.HostAddr, sctpPacket(5001, 3868, "from b"))
	world.send(netlab.HostAddr, sctpPacket(3868, 5001, "to b"))
	inB.want(netlab.OutsideAddr, sctpPacket(3868, 5001, "to b"))

	world.send(netlab.HostAddr, sctpPacket(4000, 8132, "client"))
	inA.want(netlab.OutsideAddr, sctpPacket(4000, 80, "client"))
	inA.send(netlab.OutsideAddr, sctpPacket(80, 4000, "server"))
	world.want(netlab.HostAddr, sctpPacket(8132, 4000, "server"))
	inB.send(netlab.HostAddr, sctpPacket(4000, 8132, "neighbour"))
	inA.want(netlab.HostAddr, sctpPacket(4000, 80, "neighbour"))
	inA.send(netlab.HostAddr, sctpPacket(80, 4000, "server"))
	inB.want(netlab.HostAddr, sctpPacket(8132, 4000, "server"))

	worldX, aX, bX := rawSocketIn(t, r.world.Outside, other), rawSocketIn(t, a, other), rawSocketIn(t, b, other)
	aX.send(netlab.OutsideAddr, []byte("from a"))
	worldX.want(netlab.HostAddr, []byte("from a"))
	worldX.send(netlab.HostAddr, []byte("to a"))
	aX.want(netlab.OutsideAddr, []byte("to a"))
	bX.send(netlab.OutsideAddr, []byte("from b")) // a has the peer
	bX.wantNothing()

	isUnreachable := func(f []byte) bool { return len(f) > 34 && f[23] == header.ProtoICMP && f[34] == 3 }
	if n := errors.count(isUnreachable); n != 0 {
		t.Errorf("the host refused %d packets that are the switch's", n)
	}
	nat, err := r.NAT(t.Context(), api.NATQuery{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range nat {
		seen[e.Proto+" "+e.Kind]++
	}
	if seen["sctp masquerade"] != 2 || seen["sctp publish"] != 1 || seen["sctp hairpin"] != 1 || seen["253 masquerade"] != 1 {
		t.Errorf("NAT table %v", seen)
	}
	if p := act.Ports; len(p) != 1 || p[0].Proto != "sctp" {
		t.Errorf("ports %+v", p)
	}

	flush := func() {
		t.Helper()
		if _, err := r.FlushNAT(t.Context(), api.NATFlush{}); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	bX.send(netlab.OutsideAddr, []byte("from b")) // the peer is free
	worldX.want(netlab.HostAddr, []byte("from b"))

	// What is nobody's is the host's, as ever, and its peer no container's for a while.
	flush()
	world.send(netlab.HostAddr, sctpPacket(3868, 5000, "late"))
	worldX.send(netlab.HostAddr, []byte("late"))
	if n := errors.comes(2, isUnreachable); n != 2 {
		t.Errorf("the host refused %d packets, want 2", n)
	}
	aX.send(netlab.OutsideAddr, []byte("from a"))
	worldX.wantNothing()

	if _, err := r.Publish(t.Context(), "b", []string{"8132:80/sctp"}); err == nil {
		t.Error("an SCTP port was published twice")
	}
	if _, err := r.Publish(t.Context(), "b", []string{"8132:80/tcp"}); err != nil {
		t.Error(err)
	}
	r.stop()
	r.start()
	world.send(netlab.HostAddr, sctpPacket(4001, 8132, "client"))
	inA.want(netlab.OutsideAddr, sctpPacket(4001, 80, "client"))
}
