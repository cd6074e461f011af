package control

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// stream is a paced flow of numbered datagrams, from 1 up, until the test ends.
type stream struct {
	t    testing.TB
	sent atomic.Uint64 // the last number that was given to the kernel, or is just being

	mu      sync.Mutex
	arrived []uint64 // in the order in which they came
}

// streamed begins a stream of some 10 datagrams in a millisecond to a socket.
func streamed(t testing.TB, from *netlab.NS, to string, in net.PacketConn) *stream {
	t.Helper()
	c, err := from.Dial("udp", to, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t}
	done := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() {
		var b [8]byte
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			for range 10 {
				binary.BigEndian.PutUint64(b[:], s.sent.Add(1))
				c.Write(b[:]) // an ICMP error from before is no news
			}
		}
	})
	both.Go(func() {
		b := make([]byte, 64)
		for {
			n, _, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			if n == 8 {
				s.mu.Lock()
				s.arrived = append(s.arrived, binary.BigEndian.Uint64(b))
				s.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		in.Close()
		both.Wait()
		c.Close()
	})
	return s
}

// listen is a socket for a stream.
func listen(t testing.TB, ns *netlab.NS, at string) net.PacketConn {
	t.Helper()
	in, err := ns.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// passes waits until n more datagrams have been sent, and returns the last of them.
func (s *stream) passes(n uint64) uint64 {
	s.t.Helper()
	until := s.sent.Load() + n
	eventually(s.t, "the stream goes on", func() bool { return s.sent.Load() >= until })
	return until
}

// after is how many of the datagrams that were sent after number have arrived.
func (s *stream) after(number uint64) (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.arrived) - 1; i >= 0; i-- {
		if s.arrived[i] > number {
			n++
		}
	}
	return n
}
