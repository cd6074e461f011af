package control

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// wantFrame waits until a capture has a frame of an interface whose name begins so. The
// container sends all the while.
func wantFrame(t *testing.T, cap server.Capture, ns *netlab.NS, to, iface string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		to, err := ns.Dial("udp", net.JoinHostPort(to, "9"), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		to.Write([]byte("x"))
		to.Close()
		time.Sleep(20 * time.Millisecond)
		for {
			f, ok := cap.Ready()
			if !ok {
				break
			}
			if at := cap.Interfaces()[f.Interface].Name; strings.HasPrefix(at, iface) {
				return
			}
		}
	}
	t.Errorf("no frame of %s in 5 s", iface)
}

func attachIn(t *testing.T, c *Controller, name string) (ns *netlab.NS, gateway string) {
	t.Helper()
	ns = labtest.New(t, name)
	ct, err := c.Attach(t.Context(), api.Attach{Name: name, Netns: ns.Path()})
	if err != nil {
		t.Fatal(err)
	}
	return ns, ct.Endpoints[0].Gateway
}

// A capture that waits for a name begins when a container gets it by being renamed.
func TestCaptureWaitsForARename(t *testing.T) {
	c := inProcess(t)
	cap, err := c.observer.Capture(t.Context(), server.CaptureConfig{Targets: []string{"web"}, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	defer cap.Close()
	ns, gw := attachIn(t, c, "f82309")
	if _, err := c.UpdateContainer(t.Context(), "f82309", api.ContainerUpdate{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, cap, ns, gw, "web/eth0")
	if err := c.Detach(t.Context(), "web"); err != nil {
		t.Error(err)
	}
}

// A capture of a container goes on when the container has another name, also after
// something else has changed, and under that name.
func TestCaptureFollowsARename(t *testing.T) {
	c := inProcess(t)
	ns, gw := attachIn(t, c, "web")
	cap, err := c.observer.Capture(t.Context(), server.CaptureConfig{Targets: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	defer cap.Close()
	wantFrame(t, cap, ns, gw, "web/eth0")
	if _, err := c.UpdateContainer(t.Context(), "web", api.ContainerUpdate{Name: "db"}); err != nil {
		t.Fatal(err)
	}
	attachIn(t, c, "other")
	wantFrame(t, cap, ns, gw, "db/eth0")
	for _, name := range []string{"db", "other"} {
		if err := c.Detach(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}
