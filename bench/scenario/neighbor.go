package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// neighbor is the Ethernet address that ns has for addr, asked for if need be.
func neighbor(ns *netlab.NS, addr netip.Addr) (mac net.HardwareAddr, err error) {
	conn, err := ns.Dial("udp", netip.AddrPortFrom(addr, 9).String(), time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for range 100 {
		conn.Write([]byte{0}) // an ICMP error from before is no news
		time.Sleep(10 * time.Millisecond)
		err = ns.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/arp")
			mac = arpEntry(string(b), addr)
			return err
		})
		if err != nil || mac != nil {
			return mac, err
		}
	}
	return nil, fmt.Errorf("%s: no answer to ARP for %s", ns.Name(), addr)
}

// arpEntry reads /proc/net/arp: address, type, flags, Ethernet address. nil
// when addr is not resolved.
func arpEntry(table string, addr netip.Addr) net.HardwareAddr {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != addr.String() || f[2] == "0x0" {
			continue
		}
		if mac, err := net.ParseMAC(f[3]); err == nil {
			return mac
		}
	}
	return nil
}
