package control

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestBulkOfBothFamilies: super-frames, partial checksums and fragments arrive
// whole on every way through the switch.
func TestBulkOfBothFamilies(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "dual", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	on := []api.Connect{{Network: "dual"}}
	a, _ := r.attach("a", api.Attach{Networks: on})
	b, bct := r.attach("b", api.Attach{Networks: on, Publish: []string{"8080:80", "5353:5353/udp"}})
	data := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{7}).Read(data)
	want := sha256.Sum256(data)
	for ns, at := range map[*netlab.NS]string{b: ":80", r.world.Outside: ":9000"} {
		send(t, ns, at, data)
		echoUDP(t, ns, ":5353")
	}
	for f, host := range []string{netlab.HostAddr, netlab.HostAddr6} {
		out := []string{netlab.OutsideAddr, netlab.OutsideAddr6}[f]
		inside := addrsOf(t, bct)[f]
		for _, way := range []struct {
			name     string
			from     *netlab.NS
			tcp, udp string
		}{
			{"between containers", a, join(inside, "80"), join(inside, "5353")},
			{"masqueraded", a, join(out, "9000"), join(out, "5353")},
			{"published", r.world.Outside, join(host, "8080"), join(host, "5353")},
			{"hairpinned", a, join(host, "8080"), join(host, "5353")},
			{"from the host", r.world.Host, join(inside, "80"), join(inside, "5353")},
			{"relayed", r.world.Host, join(host, "8080"), join(host, "5353")},
		} {
			t.Run(fmt.Sprint(way.name, " ", model.Families[f]), func(t *testing.T) {
				start := time.Now()
				got, err := fetchAll(way.from, way.tcp)
				if err != nil || sha256.Sum256(got) != want {
					t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
				}
				t.Logf("%.1f Gbit/s", float64(len(got))*8/time.Since(start).Seconds()/1e9)
				for _, size := range []int{1, 1400, 8000} { // the last in fragments
					if err := roundTrip(way.from, way.udp, data[:size]); err != nil {
						t.Errorf("datagram of %d: %v", size, err)
					}
				}
			})
		}
	}
}

// send gives every TCP client the data.
func send(t testing.TB, ns *netlab.NS, at string, data []byte) {
	t.Helper()
	l, err := ns.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) { _, _ = c.Write(data) })
}

func fetchAll(ns *netlab.NS, at string) ([]byte, error) {
	c, err := ns.Dial("tcp", at, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return io.ReadAll(c)
}

func echoUDP(t testing.TB, ns *netlab.NS, at string) {
	t.Helper()
	c, err := ns.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
}

func roundTrip(ns *netlab.NS, at string, data []byte) error {
	c, err := ns.Dial("udp", at, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 1<<16)
	for try := 0; ; try++ { // UDP may lose one
		if _, err := c.Write(data); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Read(b)
		switch e, ok := err.(net.Error); {
		case err == nil && string(b[:n]) == string(data):
			return nil
		case err == nil:
			return fmt.Errorf("%d other bytes came back", n)
		case !ok || !e.Timeout() || try == 39:
			return err
		}
	}
}
