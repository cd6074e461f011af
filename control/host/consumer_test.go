package host

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestConsumers: raw sockets, tunnels and security associations are found with what they
// take; what only sends, and what a module made by itself, is none.
func TestConsumers(t *testing.T) {
	w := labtest.NewWorld(t)
	peer := netip.MustParseAddr("198.51.100.9")
	takes := func(list []Consumer, err error, proto uint8, remote netip.Addr) bool {
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(list, Consumer{Proto: proto}) || slices.Contains(list, Consumer{Proto: proto, Remote: remote})
	}
	inHost(t, w.Host, func(h *Host) {
		raw := func(proto uint8) bool { list, err := h.RawSockets(); return takes(list, err, proto, peer) }
		tunnel := func(proto uint8, remote string) bool {
			list, err := h.Tunnels()
			return takes(list, err, proto, netip.MustParseAddr(remote))
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			if raw(89) {
				t.Fatal("there is a raw socket already")
			}
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 89)
			if err != nil {
				t.Fatal(err)
			}
			if !raw(89) || raw(47) {
				t.Errorf("family %d: OSPF %v, GRE %v", family, raw(89), raw(47))
			}
			unix.Close(fd)
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if raw(unix.IPPROTO_RAW) {
			t.Error("a socket that only sends takes packets")
		}
		for _, tc := range []struct {
			add        []string
			proto      uint8
			remote     string
			everywhere bool
		}{
			{[]string{"link", "add", "t0", "type", "gre", "local", "198.51.100.1", "remote", "198.51.100.9"}, 47, "198.51.100.9", false},
			{[]string{"link", "add", "t0", "type", "ipip", "local", "198.51.100.1", "remote", "198.51.100.9"}, 4, "198.51.100.9", false},
			{[]string{"link", "add", "t0", "type", "sit", "local", "198.51.100.1", "remote", "198.51.100.9"}, 41, "198.51.100.9", false},
			{[]string{"xfrm", "state", "add", "src", "198.51.100.9", "dst", "198.51.100.1", "proto", "esp", "spi", "1", "mode", "tunnel", "enc", "cipher_null", ""}, 50, "198.51.100.9", false},
			// The kernel finds an association by its number, whoever sends.
			{[]string{"xfrm", "state", "allocspi", "src", "0.0.0.0", "dst", "198.51.100.1", "proto", "ah", "mode", "tunnel", "min", "256", "max", "300"}, 51, "198.51.100.9", true},
			{[]string{"xfrm", "state", "allocspi", "src", "2001:db8::9", "dst", "2001:db8::1", "proto", "esp", "mode", "tunnel", "min", "256", "max", "300"}, 50, "2001:db8::9", false},
		} {
			out, err := w.Host.Command("ip", tc.add...).CombinedOutput()
			if err != nil {
				t.Logf("ip %v: %s: the kernel here has none", tc.add, out)
				continue
			}
			if !tunnel(tc.proto, tc.remote) || tunnel(tc.proto, "198.51.100.8") != tc.everywhere || tunnel(99, tc.remote) {
				list, _ := h.Tunnels()
				t.Errorf("%v: %v", tc.add, list)
			}
			if tc.add[0] == "link" {
				run(t, w.Host, "ip", "link", "del", "t0")
			}
		}
	})
}

// TestServesFamily: a family counts when the kernel has a socket of it, not a program.
func TestServesFamily(t *testing.T) {
	const list = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n" +
		"00000000dcfec468 0   0          00000000 0        0        0     2        0        4       \n" +
		"00000000dcfec469 12  812        00000000 0        0        0     2        0        41      \n" +
		"000000009bd938af 6   0          00000000 0        0        0     2        0        1515    \n"
	for family, want := range map[int]bool{unix.NETLINK_ROUTE: true, unix.NETLINK_XFRM: true, unix.NETLINK_NETFILTER: false, unix.NETLINK_GENERIC: false} {
		if got := servesFamily([]byte(list), family); got != want {
			t.Errorf("family %d: %v", family, got)
		}
	}
}

// TestIPsecOpensLate: the socket for security associations is opened by the first who reads
// them, and only where the kernel serves it.
func TestIPsecOpensLate(t *testing.T) {
	w := labtest.NewWorld(t)
	inHost(t, w.Host, func(h *Host) {
		if h.xfrm != nil {
			t.Error("New has opened it")
		}
		if _, err := h.Tunnels(); err != nil {
			t.Fatal(err)
		}
		if h.serves(unix.NETLINK_XFRM) != (h.xfrm != nil) {
			t.Errorf("the kernel serves it: %v, it is open: %v", h.serves(unix.NETLINK_XFRM), h.xfrm != nil)
		}
	})
}

// TestNoChainsIsRemembered: a kernel that had no nftables is not asked again at once, unless
// the module has been loaded.
func TestNoChainsIsRemembered(t *testing.T) {
	w := labtest.NewWorld(t)
	_, err := os.Stat("/sys/module/nf_tables")
	loaded := err == nil
	inHost(t, w.Host, func(h *Host) {
		served := h.serves(unix.NETLINK_NETFILTER)
		if got := h.chains.ask(h); got != served {
			t.Errorf("netfilter is served: %v, asked for the first time: %v", served, got)
		}
		h.chains.none()
		if got := h.chains.ask(h); got != (served && loaded) {
			t.Errorf("the module is loaded: %v, asked again at once: %v", loaded, got)
		}
	})
}
