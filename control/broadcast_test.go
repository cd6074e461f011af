package control

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// A station of the LAN asks all others at a UDP port. The container that it is published to answers from
// the host's address, and a program of the host that hears broadcasts there hears it as well. A port
// that is published at an address alone hears none.
func TestBroadcastToAPublishedPort(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		a, _ := r.attach("a", api.Attach{Publish: []string{"7359:80/udp", netlab.HostAddr + ":7360:80/udp"}})
		heard := listenUDP(t, a, ":80", "a")
		r.ip(r.world.Outside, "route", "add", "255.255.255.255", "dev", "eth0")
		raw := hearsAll(t, r.world.Host)
		for _, phase := range []string{"running", "after a kill"} {
			for _, all := range []string{"198.51.100.255", "255.255.255.255"} {
				eventually(t, fmt.Sprintf("%s: %s is heard", phase, all), func() bool { return askAll(t, r.world.Outside, all, 7359) == netlab.HostAddr+":7359" })
			}
			wantUDP(t, r.world.Outside, netlab.HostAddr+":7359", "a") // and as ever
			before := heard.count()
			if from := askAll(t, r.world.Outside, "198.51.100.255", 7360); from != "" || heard.count() != before {
				t.Errorf("%s: published at one address, %s answered a broadcast", phase, from)
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
		if n := raw(); n < 4 {
			t.Errorf("the host itself heard %d broadcasts", n)
		}
	})
}

// askAll sends a datagram to all and says who answers, "" for nobody.
func askAll(t *testing.T, ns *netlab.NS, to string, port int) string {
	t.Helper()
	c, err := ns.ListenPacket("udp4", "0.0.0.0:0") // may send to all
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.WriteTo([]byte("who is there?"), &net.UDPAddr{IP: net.ParseIP(to), Port: port})
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, from, err := c.ReadFrom(make([]byte, 100))
	if err != nil {
		return ""
	}
	return from.String()
}

// hearsAll counts the datagrams to port 7359 that come through the host's own stack.
func hearsAll(t *testing.T, ns *netlab.NS) (heard func() int) {
	t.Helper()
	var fd int
	if err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() (n int) {
		b := make([]byte, 2048)
		for {
			k, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return n
			}
			if strings.HasSuffix(string(b[:k]), "who is there?") && int(b[22])<<8|int(b[23]) == 7359 {
				n++
			}
		}
	}
}
