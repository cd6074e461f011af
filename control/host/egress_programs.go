package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Program is what others have hung up where frames leave an interface, such as the host end of
// a cable for the container, and that sees them there.
type Program struct {
	Name string // "" for none
	// Misses says that it does not see what another program has redirected: the kernel leaves
	// nftables' egress out there (nf_skip_egress).
	Misses bool
}

// program looks for a chain of nftables, a filter of tc, or an XDP program at the container's
// own end, in this order: the first says what becomes of flows. A filter of TCX has another
// door (control/kernel).
func (c *conn) program(l *Link, clsact bool, chains map[string]string) (Program, error) {
	if chain := chainAt(chains, l.Name); chain != "" {
		return Program{"nftables chain " + chain, true}, nil
	}
	if clsact {
		list, err := c.filters(l.Index, tcEgress)
		if err != nil {
			return Program{}, err
		}
		for _, f := range list {
			if f.handle != 0 || f.name != "" {
				return Program{Name: strings.TrimSpace("tc filter " + f.kind + " " + f.name)}, nil
			}
		}
	}
	if l.Kind == "veth" && l.mostMTU != 0 && l.mostMTU != maxMTU {
		return Program{Name: "XDP program of the container's interface"}, nil
	}
	return Program{}, nil
}

// maxMTU is that of a veth whose other end runs no XDP program (ETH_MAX_MTU): with one it
// takes only what fits into a page, or into a page with fragments, which is more than without
// (veth_xdp_set).
const maxMTU = 65535

// Of linux/netfilter/nf_tables.h.
const (
	nftGetChain, nftNewChain         = 4, 3
	nftChainTable, nftChainName      = 1, 3
	nftChainHook, nftHookNum         = 4, 1
	nftHookDev, nftHookDevs          = 3, 4
	nftDeviceName, nftDevicePrefix   = 1, 2
	nftFamilyNetdev, nftNetdevEgress = 5, 1
)

// chainsAge is how soon a kernel that had no nftables is asked again.
const chainsAge = time.Minute

// chainsAsked knows when the kernel last said that it has no nftables. Each such question
// makes it look for a module.
type chainsAsked struct {
	mu     sync.Mutex // guards noneAt
	noneAt time.Time
}

// ask reports whether to ask for chains: the module is there, or might be part of the
// kernel, which then need not appear in sysfs.
func (a *chainsAsked) ask(h *Host) bool {
	if !h.serves(unix.NETLINK_NETFILTER) {
		return false
	}
	if _, err := os.Stat("/sys/module/nf_tables"); err == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.noneAt) >= chainsAge
}

// none notes that there is no nftables.
func (a *chainsAsked) none() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noneAt = time.Now()
}

// everyDevice ends the name of interfaces that begin with it, as in a rule set.
const everyDevice = "*"

// chainAt finds the chain of an interface among those that egressChains returns.
func chainAt(chains map[string]string, name string) string {
	if chain := chains[name]; chain != "" {
		return chain
	}
	for device, chain := range chains {
		if prefix, every := strings.CutSuffix(device, everyDevice); every && strings.HasPrefix(name, prefix) {
			return chain
		}
	}
	return ""
}

// egressChains returns the chains of nftables at the egress of interfaces, "TABLE NAME" by
// interface or beginning of its name. A kernel without such chains has none.
func (h *Host) egressChains() (map[string]string, error) {
	if !h.chains.ask(h) {
		return nil, nil
	}
	c, err := dialAt(h.ns.fd, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, nil // no netfilter
	}
	defer c.close()
	msgs, err := c.dump(unix.NFNL_SUBSYS_NFTABLES<<8|nftGetChain, unix.NFNL_SUBSYS_NFTABLES<<8|nftNewChain, &nl.Nfgenmsg{NfgenFamily: nftFamilyNetdev})
	for _, none := range []error{unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if errors.Is(err, none) {
			h.chains.none()
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the chains of nftables: %w", err)
	}
	found := make(map[string]string)
	for _, m := range msgs {
		table, name, devices := egressChain(m)
		for _, d := range devices {
			found[d] = table + " " + name
		}
	}
	return found, nil
}

// egressChain reads a chain: the interfaces at whose egress it is, none when it is
// elsewhere.
func egressChain(m []byte) (table, name string, devices []string) {
	egress := false
	const header = 4 // struct nfgenmsg
	err := attrs(m, header, func(typ uint16, v []byte) {
		switch typ & nl.NLA_TYPE_MASK {
		case nftChainTable:
			table = text(v)
		case nftChainName:
			name = text(v)
		case nftChainHook:
			_ = attrs(v, 0, func(typ uint16, v []byte) {
				switch typ & nl.NLA_TYPE_MASK {
				case nftHookNum:
					egress = len(v) == 4 && binary.BigEndian.Uint32(v) == nftNetdevEgress
				case nftHookDev:
					devices = append(devices, text(v))
				case nftHookDevs:
					_ = attrs(v, 0, func(typ uint16, v []byte) {
						switch typ & nl.NLA_TYPE_MASK {
						case nftDeviceName:
							devices = append(devices, text(v))
						case nftDevicePrefix:
							devices = append(devices, text(v)+everyDevice)
						}
					})
				}
			})
		}
	})
	if err != nil || !egress {
		return table, name, nil
	}
	return table, name, devices
}
