package port_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestBigTCP: containers that let their devices make super-packets of more than 64 KiB (BIG TCP),
// which have no length in their IP headers, lose none of them: they leave the port as
// super-frames of the size that every device takes.
func TestBigTCP(t *testing.T) {
	a, b, f := twoContainers(t, nil)
	for _, w := range []*wire{a, b} {
		if err := w.host.SetSuper("eth0", 185000); err != nil {
			labtest.SkipOldKernel(t, 6, 3, err.Error())
		}
	}
	for _, c := range []struct {
		name, addr string
		at         *wire
		from, to   *netlab.NS
	}{
		{"IPv4", "10.0.0.2:5000", a, a.host, b.host},
		{"IPv6", "[fd00::1]:5000", b, b.host, a.host},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.longest.Store(0)
			big := labtest.LongestFrame(t, c.at.sw, c.at.ifname)
			transfer(t, c.from, c.to, c.addr, 64<<20)
			if got := big(); got <= frame.MaxLen {
				t.Fatalf("the longest frame of the container has %d bytes, want more than 64 KiB", got)
			}
			if got := f.longest.Load(); got < 60000 || got > frame.MaxLen {
				t.Errorf("longest frame behind the port %d bytes, want some 64 KiB", got)
			}
			for _, ns := range []*netlab.NS{a.host, b.host} {
				if got := snmp(t, ns, "Tcp", "InCsumErrors"); got != 0 {
					t.Errorf("%s: %d wrong TCP checksums", ns.Name(), got)
				}
			}
		})
	}
	for i, p := range f.ports {
		if got := p.InvalidDrops(); got != 0 {
			t.Errorf("port %d: %d frames refused as invalid", i, got)
		}
	}
}
