package others

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What asks nftables for its chains (linux/netfilter/nf_tables.h).
const nftGetChain, nftNewChain, nftChainName = 4, 3, 3

// Of ip_tables: the calls for a table and its rules, and the head of what the second writes.
const (
	iptGetInfo, iptGetEntries = 64, 65
	iptInfoLen, iptHeadLen    = 84, 40
	iptInfoSize               = 80 // where iptGetInfo has the length of the rules
)

// HasChain reports whether a firewall of IPv4 has a chain of a name, by nftables or by the older
// ip_tables. Where ip_tables is not loaded it stays so.
func HasChain(name string) bool {
	return slices.Contains(nftChains(), name) || bytes.Contains(iptables("filter"), append([]byte(name), 0))
}

func nftChains() (names []string) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|nftGetChain, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET})
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|nftNewChain)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		if a, err := attrs(m[nl.SizeofNfgenmsg:]); err == nil {
			names = append(names, string(bytes.TrimRight(a[nftChainName], "\x00")))
		}
	}
	return names
}

// iptables is a table of ip_tables as the kernel has it, with the names of its chains.
func iptables(table string) []byte {
	loaded, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(loaded)), table) {
		return nil // asking would load it
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil
	}
	defer unix.Close(s)
	info := make([]byte, iptInfoLen)
	copy(info, table)
	if !get(s, iptGetInfo, info) {
		return nil
	}
	size := nl.NativeEndian().Uint32(info[iptInfoSize:])
	rules := make([]byte, iptHeadLen+int(size))
	copy(rules, table)
	nl.NativeEndian().PutUint32(rules[32:], size)
	if !get(s, iptGetEntries, rules) {
		return nil
	}
	return rules
}

// get is getsockopt(2) with a buffer that is read and written.
func get(s, option int, buf []byte) bool {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), unix.IPPROTO_IP, uintptr(option), uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0)
	return errno == 0
}
