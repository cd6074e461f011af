package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

// hostState is what a daemon could have changed in a namespace, a line for each
// fact.
type hostState []string

// readHostState reads links, addresses, routes and sysctls of ns.
func readHostState(ns *netlab.NS) (s hostState, err error) {
	err = ns.Do(func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, l := range links {
			s = append(s, fmt.Sprintf("link %s mtu %d %s %s", l.Name, l.MTU, l.HardwareAddr, l.Flags))
			addrs, err := l.Addrs()
			if err != nil {
				return err
			}
			for _, a := range addrs {
				s = append(s, fmt.Sprintf("address %s on %s", a, l.Name))
			}
		}
		for _, route := range readLines("/proc/thread-self/net/route") {
			s = append(s, "route "+strings.Join(strings.Fields(route), " "))
		}
		for _, route := range readLines("/proc/thread-self/net/ipv6_route") {
			// Two of the columns count uses.
			if f := strings.Fields(route); len(f) == 10 && !followsAddress(f[0], f[8]) {
				s = append(s, fmt.Sprintf("route %s/%s via %s dev %s", f[0], f[1], f[4], f[9]))
			}
		}
		for _, pattern := range []string{"ip_forward", "ip_local_port_range", "ip_local_reserved_ports", "conf/*/*"} {
			files, _ := filepath.Glob("/proc/sys/net/ipv4/" + pattern)
			for _, f := range files {
				s = append(s, fmt.Sprintf("sysctl %s = %s", f, strings.Join(readLines(f), " ")))
			}
		}
		return nil
	})
	slices.Sort(s)
	return s, err
}

// followsAddress reports whether the kernel makes an IPv6 route by itself for an
// address, which is a line of its own. That happens some time after the link is
// up: link-local, when nobody else turns out to have the address (RFC 4862
// section 5.4); local and anycast, on a work queue. Flags are in hex.
func followsAddress(dst, flags string) bool {
	const anycast = 0x00100000 // RTF_ANYCAST of linux/ipv6_route.h
	f, err := strconv.ParseUint(flags, 16, 32)
	return strings.HasPrefix(dst, "fe8") || err == nil && f&(unix.RTF_LOCAL|anycast) != 0
}

func readLines(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil // not every entry is readable
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// diff says how after differs, "" if it does not.
func (s hostState) diff(after hostState) string {
	var words []string
	for _, line := range after {
		if !slices.Contains(s, line) {
			words = append(words, "new: "+line)
		}
	}
	for _, line := range s {
		if !slices.Contains(after, line) {
			words = append(words, "gone: "+line)
		}
	}
	return strings.Join(words, ", ")
}

// programsGone checks that the kernel has let go of BPF programs, which it does
// a moment after their last user.
func programsGone(ids []uint32) error {
	deadline := time.Now().Add(time.Second)
	for _, id := range ids {
		for {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				return fmt.Errorf("BPF program %d: %w", id, err)
			}
			p.Close()
			if time.Now().After(deadline) {
				return fmt.Errorf("BPF program %d is still loaded", id)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}
