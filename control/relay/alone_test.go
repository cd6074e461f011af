package relay_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestAloneWaits: who connects while nobody moves the frames of containers is not told that nobody is there, however
// long that takes, and is led on as soon as somebody comes.
func TestAloneWaits(t *testing.T) {
	var alone atomic.Pointer[chan struct{}]
	var dials atomic.Int64
	const timeout = 300 * time.Millisecond
	back := make(chan struct{})
	alone.Store(&back)
	l := newLabWith(t, relay.Config{DialTimeout: timeout}, func(cfg *relay.Config) error {
		dial := cfg.Dial
		cfg.Alone = func() <-chan struct{} { return *alone.Load() }
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			switch dials.Add(1) {
			case 1: // the kernel gives up
				return nil, unix.EHOSTUNREACH
			case 2: // nobody answers
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, addr)
		}
		return nil
	})
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	gone, waits := l.dial("tcp", "127.0.0.1", 8080), l.dial("tcp", "127.0.0.1", 8080)
	gone.Close()
	time.Sleep(4 * timeout) // longer than it would wait for somebody who is there
	waits.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if wasReset(waits) {
		t.Fatal("it is told that nobody is there")
	}
	waits.SetDeadline(time.Now().Add(20 * time.Second))
	var there chan struct{}
	alone.Store(&there)
	close(back)
	if err := say(waits); err != nil {
		t.Errorf("when somebody is there: %v", err)
	}
	// Now one that nobody answers is told so.
	l.leadToNobody()
	if c := l.dial("tcp", "127.0.0.1", 8080); !wasReset(c) {
		t.Error("it is not told that nobody answers")
	}
}
