package resolver

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// mostServers is how many name servers are asked; glibc asks three.
const mostServers = 8

// servers are the name servers of a resolv.conf, followed as it changes.
type servers struct {
	path string

	mu     sync.Mutex
	looked time.Time
	was    os.FileInfo
	list   []netip.AddrPort
}

// now reads the file again if it is another, once a second at most. Links are followed, so that
// also what systemd-resolved and resolvconf(8) put in its place is seen.
func (s *servers) now(at time.Time) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil && at.Sub(s.looked) < time.Second {
		return s.list
	}
	s.looked = at
	is, err := os.Stat(s.path)
	if err == nil && s.was != nil && os.SameFile(is, s.was) && is.ModTime().Equal(s.was.ModTime()) && is.Size() == s.was.Size() {
		return s.list
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(s.path)
	}
	if err != nil && s.list != nil {
		return s.list // it is being replaced
	}
	s.was, s.list = is, nameservers(string(b))
	return s.list
}

// nameservers reads the servers of a resolv.conf. Without any it is the host itself (resolv.conf(5)).
func nameservers(text string) (list []netip.AddrPort) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(list) == mostServers {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			if at := netip.AddrPortFrom(a.Unmap(), 53); !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	if list == nil {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return list
}
