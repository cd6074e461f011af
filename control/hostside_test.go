package control

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// TestHostFlow: the kernel carries what the host sends until the daemon dies, and for
// the next one; the rows of a dead one carry nothing.
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
	done := make(chan struct{})
	defer func() { out.Close(); <-done }()
	go func() {
		defer close(done)
		var err error
		for err = nil; !errors.Is(err, net.ErrClosed); time.Sleep(time.Millisecond) {
			_, err = out.Write([]byte("news"))
		}
	}()
	for _, life := range []string{"first", "second"} {
		if life == "second" {
			r.start()
		}
		eventually(t, 4*time.Second, "the kernel carries the stream for the "+life+" daemon", func() bool { return r.stats().Flows.Frames > 100 })
		if life == "first" {
			r.kill()
			buf := make([]byte, 64)
			eventually(t, 4*time.Second, "nothing reaches the container", func() bool {
				in.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				_, _, err := in.ReadFrom(buf)
				return errors.Is(err, os.ErrDeadlineExceeded)
			})
		}
	}
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.wantNoTrace()
}
