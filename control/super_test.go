package control

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestSuperPackets: containers and a station outside send super-packets of more than 64 KiB to
// each other, by IPv4 and IPv6, bridged and masqueraded. All arrive, also when the stages see
// each frame.
func TestSuperPackets(t *testing.T) {
	for _, noTable := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", noTable), func(t *testing.T) {
			b := newBorder(t, daemonSpec{NoFlowTable: noTable}, func(*border) {})
			other, ct := b.attach("d", onNetwork("dual"))
			to := addrsByFamily(ct)
			for _, ns := range []*netlab.NS{b.c, other, b.world.Outside} {
				if err := ns.SetSuper("eth0", 185000); err != nil {
					labtest.SkipOldKernel(t, 6, 3, err.Error())
				}
			}
			data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
			for _, ns := range []*netlab.NS{b.c, other, b.world.Outside} {
				send(t, ns, ":80", data)
				drain(t, ns, ":81", len(data))
			}
			for _, v6 := range []bool{false, true} {
				for name, far := range map[string]string{"a container": to[v6], "the outside": remoteAt[v6]} {
					big := labtest.LongestFrame(t, b.c, "eth0")
					if got, err := fetchAll(b.c, at(far, 80)); err != nil || !bytes.Equal(got, data) {
						t.Errorf("IPv%s, from %s: %d bytes of %d, %v", familyOf(v6), name, len(got), len(data), err)
					}
					if err := pour(b.c, at(far, 81), data); err != nil {
						t.Errorf("IPv%s, to %s: %v", familyOf(v6), name, err)
					}
					if got := big(); got <= frame.MaxLen {
						t.Errorf("IPv%s, to %s: no frame had more than %d bytes", familyOf(v6), name, got)
					}
				}
			}
			for _, p := range b.stats().Ports {
				if p.Drops["parse-malformed"]+p.Drops["receive-invalid-offload"]+p.Drops["receive-invalid"] > 0 {
					t.Errorf("%s: dropped %v", p.Port, p.Drops)
				}
			}
		})
	}
}

// drain serves a sink: it says when it has read all that there was.
func drain(t testing.TB, ns *netlab.NS, at string, size int) {
	t.Helper()
	l, err := ns.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) {
		if n, _ := io.Copy(io.Discard, c); n == int64(size) {
			_, _ = c.Write([]byte("all"))
		}
	})
}

// pour sends data to a sink.
func pour(ns *netlab.NS, at string, data []byte) error {
	c, err := ns.Dial("tcp", at, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := c.Write(data); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "all" {
		return fmt.Errorf("the sink says %q, %v", got, err)
	}
	return nil
}
