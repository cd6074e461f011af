package underlay

import (
	"net/netip"
	"os"
	"strings"
)

// resolvConf are the files that name the host's resolvers. The second one has those that
// systemd-resolved asks, where the first has its own address.
var resolvConf = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// Resolvers returns the name servers of the host (resolv.conf(5)), of both families. A
// file that cannot be read names none.
func Resolvers() (list []netip.Addr) {
	for _, name := range resolvConf {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "nameserver" {
				continue
			}
			if a, err := netip.ParseAddr(f[1]); err == nil {
				list = append(list, a.Unmap())
			}
		}
	}
	return list
}
