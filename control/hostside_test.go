package control

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// TestHostFlow: the kernel carries what the host sends, goes on while nobody is there, and
// does for the next daemon.
func TestHostFlow(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{})
	in, err := web.ListenPacket("udp", ":5353")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := r.world.Host.Dial("udp", addr(ct)+":5353", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var says atomic.Value
	says.Store("first")
	done := make(chan struct{})
	defer func() { out.Close(); <-done }()
	go func() {
		defer close(done)
		var err error
		for err = nil; !errors.Is(err, net.ErrClosed); time.Sleep(time.Millisecond) {
			_, err = out.Write([]byte(says.Load().(string)))
		}
	}()
	for _, life := range []string{"first", "second"} {
		if life == "second" {
			r.start()
		}
		eventually(t, "the kernel carries the stream for the "+life+" daemon", func() bool { return r.stats().Flows.Frames > 100 })
		if life == "first" {
			r.kill()
			const alone = "nobody is there"
			says.Store(alone)
			buf := make([]byte, 64)
			in.SetReadDeadline(time.Now().Add(30 * time.Second))
			for n := 0; n < len(alone); { // what was under way comes first
				if n, _, err = in.ReadFrom(buf); err != nil {
					t.Fatalf("nothing reaches the container after kill -9: %v", err)
				}
			}
		}
	}
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.wantNoTrace()
}
