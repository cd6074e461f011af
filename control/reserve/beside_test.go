package reserve

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

// A port of one address and the same port of all addresses are taken and given
// back in any order; whoever remains keeps programs away, from its addresses and
// from no others.
func TestC08SpecificAndWildcardSideBySide(t *testing.T) {
	one := netip.MustParseAddr("198.51.100.1")
	for _, proto := range []uint8{tcp, udp} {
		for _, order := range [][2]netip.Addr{{one, everywhere}, {everywhere, one}} {
			for first := range 2 {
				inHost(t, Config{}, func(_ *netlab.NS, p *Ports) {
					var holds [2]*Hold
					for i, a := range order {
						h, err := p.Take(proto, a, 80, 82, Keeper{})
						if err != nil {
							t.Fatalf("%v after %v: %v", a, order[0], err)
						}
						holds[i] = h
						if _, err := p.Take(proto, a, 82, 90, Keeper{}); !errors.Is(err, ErrTaken) {
							t.Errorf("%v twice: %v", a, err)
						}
					}
					want := func(at string, taken bool) {
						t.Helper()
						for _, opts := range [][]int{nil, {unix.SO_REUSEADDR}, {unix.SO_REUSEPORT}} {
							err := listen(proto, netip.MustParseAddr(at), 81, opts)
							if errors.Is(err, unix.EADDRINUSE) != taken {
								t.Errorf("protocol %d, order %v: a program at %s with %v: %v", proto, order, at, opts, err)
							}
						}
					}
					want("198.51.100.1", true)
					want("127.0.0.1", true)
					want("::", true)
					if err := holds[first].Release(); err != nil {
						t.Fatal(err)
					}
					rest := order[1-first]
					want("198.51.100.1", true)
					want("127.0.0.1", !rest.IsValid())
					want("::1", !rest.IsValid())
					if err := holds[1-first].Release(); err != nil {
						t.Fatal(err)
					}
					want("198.51.100.1", false)
					want("::", false)
				})
			}
		}
	}
}
