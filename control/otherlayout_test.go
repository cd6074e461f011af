package control

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"github.com/vswitch/vswitch/internal/talk"
)

// elder is a connection of a container and the world that is older than the daemon.
type elder struct {
	what             string
	container, world net.Conn
	mark             string // of what its ends say
	worldFirst       bool
}

// says has one end say something in which the mark is.
func (e *elder) says(t testing.TB, from net.Conn) {
	t.Helper()
	if _, err := io.WriteString(from, e.mark); err != nil {
		t.Errorf("%s: %v", e.what, err)
	}
}

// hears waits until one end has heard what the other one said.
func (e *elder) hears(t testing.TB, at net.Conn) {
	t.Helper()
	got := make([]byte, len(e.mark))
	at.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(at, got); err != nil || string(got) != e.mark {
		t.Errorf("%s: %q, %v, want %q", e.what, got, err, e.mark)
	}
}

// acks is a segment of the world that bears nothing and comes after one that it has sent. Its
// container does not answer, and a host without the connection would reset it.
func acks(t testing.TB, sent []byte) []byte {
	t.Helper()
	s, at := switchtest.See(t, sent), 14+20
	if !s.Src.Is4() {
		at = 14 + 40
	}
	return switchtest.Bytes(switchtest.Packet{
		EthSrc: s.EthSrc, EthDst: s.EthDst, Src: s.From(), Dst: s.To(), Proto: header.ProtoTCP, Flags: switchtest.ACK,
		Seq: binary.BigEndian.Uint32(sent[at+4:]) + uint32(len(s.Payload)), Ack: binary.BigEndian.Uint32(sent[at+8:]), DF: true,
	})
}

// keepsSaying sends frames again and again from an interface, until it is told to stop.
func keepsSaying(t testing.TB, from *netlab.NS, frames [][]byte) (stop func()) {
	t.Helper()
	index, err := from.Index("eth0")
	fd := -1
	if err == nil {
		err = from.Do(func() (err error) {
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index})
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			for _, f := range frames {
				_, _ = unix.Write(fd, f) // the queue may be full
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(end); <-done })
	t.Cleanup(stop)
	return stop
}

// TestOtherLayout: a start with another layout of the flow table. The world speaks all the while, and the host
// resets none of the connections of before, for it goes on with their claims. They are learnt again from
// the segments of their containers, and published ones from either end.
func TestOtherLayout(t *testing.T) {
	r := newRig(t)
	r.cfg.IPv6 = true
	worldIsUp(t, r)
	r.start()
	l := talk.New(t, r.world, r.Client)
	const port = "7001"
	if _, err := r.Publish(t.Context(), "a", []string{port + ":" + port}); err != nil {
		t.Fatal(err)
	}
	sent, received := sniff(t, r.world.Host, "eth0"), sniff(t, r.world.Outside, "eth0")
	var all []*elder
	var frames [][]byte
	for family, host := range []string{netlab.HostAddr, netlab.HostAddr6} {
		outside := []string{netlab.OutsideAddr, netlab.OutsideAddr6}[family]
		for i := range 4 {
			e := &elder{worldFirst: i%2 == 0, mark: fmt.Sprintf("<said %d %d>", family, i)}
			var err error
			if i < 2 {
				e.what = "masqueraded to " + outside
				e.container, e.world, err = talk.Pair(l.A, join(outside, port), l.Outside, port)
			} else {
				e.what = "published at " + host
				e.world, e.container, err = talk.Pair(l.Outside, join(host, port), l.A, port)
			}
			if err != nil {
				t.Fatalf("%s: %v", e.what, err)
			}
			if e.worldFirst {
				e.what += ", the world speaks first"
			}
			t.Cleanup(func() { e.container.Close(); e.world.Close() })
			e.says(t, e.world)
			e.hears(t, e.container)
			if e.worldFirst {
				eventually(t, "it is on the wire: "+e.what, func() bool { return len(sent.tagged(e.mark)) > 0 })
				frames = append(frames, acks(t, sent.tagged(e.mark)[0]))
			}
			all = append(all, e)
		}
	}
	r.stop()
	c, err := state.Peek(r.cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	labtest.OtherLayout(t, c.Identity)
	stop := keepsSaying(t, r.world.Outside, frames)
	r.start()
	stop()
	for _, e := range all {
		masqueraded := e == all[0] || e == all[4]
		first, other := e.container, e.world
		if e.worldFirst {
			first, other = other, first
		}
		e.mark = "later " + e.mark
		e.says(t, first)
		if masqueraded { // nobody knows whose it is: the world tries again
			eventually(t, "nobody resets it: "+e.what, func() bool { return len(sent.tagged(e.mark)) > 1 })
			e.says(t, e.container)
			e.hears(t, e.world)
		}
		e.hears(t, other)
		e.says(t, other)
		e.hears(t, first)
	}
	isReset := func(b []byte) bool {
		l := header.Layers{}
		return header.Parse(b, &l) && l.Tuple.Proto == header.ProtoTCP && l.Kind == header.KindL4 && l.TCPFlags&header.TCPRST != 0
	}
	if in, out := sent.count(isReset), received.count(isReset); in+out > 0 {
		t.Errorf("the world sent %d resets, and was sent %d", in, out)
	}
}
