package relay

import (
	"net/netip"
	"testing"
)

func TestWays(t *testing.T) {
	way := func(proto uint8, addr string, first, last uint16, to string) Way {
		return Way{proto, netip.MustParseAddr(addr), first, last, netip.MustParseAddrPort(to)}
	}
	all, one := way(6, "0.0.0.0", 8000, 8009, "10.1.0.2:80"), way(6, "127.0.0.1", 8005, 8005, "10.1.0.3:99")
	six := way(6, "::", 8000, 8009, "10.1.0.2:80")
	w := NewWays([]Way{all, one, six, way(17, "0.0.0.0", 8000, 8000, "10.1.0.4:1")})
	want := func(proto uint8, local, to string) {
		t.Helper()
		got, ok := w.Resolve(proto, netip.MustParseAddrPort(local))
		if ok != (to != "") || ok && got.String() != to {
			t.Errorf("%s leads to %v, %t, want %q", local, got, ok, to)
		}
	}
	want(6, "127.0.0.1:8000", "10.1.0.2:80")
	want(6, "127.0.0.2:8009", "10.1.0.2:89")
	want(6, "127.0.0.1:8005", "10.1.0.3:99") // the address before all
	want(6, "[::ffff:127.0.0.1]:8005", "10.1.0.3:99")
	want(6, "[::1]:8001", "10.1.0.2:81")
	want(17, "127.0.0.1:8000", "10.1.0.4:1")
	want(6, "127.0.0.1:7999", "")
	want(6, "127.0.0.1:8010", "")
	want(17, "[::1]:8000", "")
	w.Change([]Way{one}, []Way{way(6, "127.0.0.1", 9, 9, "10.1.0.9:9")})
	want(6, "127.0.0.1:8005", "10.1.0.2:85")
	want(6, "127.0.0.1:9", "10.1.0.9:9")
	w.Set([]Way{six})
	want(6, "127.0.0.1:8005", "")
	want(6, "[::1]:8005", "10.1.0.2:85")
}
