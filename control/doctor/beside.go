package doctor

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/host/others"
)

// hostsNetwork is the way out for a container that has to go where the host's programs go.
const hostsNetwork = "what has to go that way runs in the host's network: vswitch run --network host -- COMMAND"

// beside looks for ways by which the host's own packets leave and containers' do not.
func (x *exam) beside() {
	before := len(x.list)
	rules, err := others.Rules()
	if err != nil {
		x.add(Note, "routing", "", "%v", err)
	}
	for _, r := range rules {
		x.add(Note, "routing", "ip route get DESTINATION from CONTAINER iif vs-NETWORK shows a container's way; "+hostsNetwork,
			"containers follow this rule of policy routing, as packets without a mark: %s; where it leads to no uplink they have no way", r)
	}
	ups := x.uplinkNames()
	routes, err := x.host.Routes()
	if err != nil {
		x.add(Note, "routing", "", "%v", err)
	}
	for _, r := range routes {
		i := slices.IndexFunc(x.links, func(l host.Link) bool { return l.Index == r.Ifindex })
		// The halves of a default route are what VPNs set above it.
		if r.Kind != host.Unicast || r.Prefix.Bits() > 1 || i < 0 || len(ups) == 0 || ups[x.links[i].Name] {
			continue
		}
		if l := x.links[i]; r.Prefix.Bits() == 1 {
			x.add(Warn, "routing", hostsNetwork, "%s leads by %s, which is no uplink, as VPNs do: containers have no way there", r.Prefix, l.Name)
		}
	}
	x.fine(before, "routing", "containers leave as the host does")
}

func (x *exam) uplinkNames() map[string]bool {
	names := make(map[string]bool)
	if x.Daemon != nil {
		for _, u := range x.Daemon.Info.Uplinks {
			names[u.Interface] = true
		}
		return names
	}
	if list, err := x.host.Uplinks(nil); err == nil {
		for _, l := range list {
			names[l.Name] = true
		}
	}
	return names
}

// firewall looks for kubelet's rule about 127.0.0.0/8.
func (x *exam) firewall() {
	switch {
	case !others.HasChain("KUBE-FIREWALL"):
		x.add(OK, "firewall", "", "no chain KUBE-FIREWALL")
	case x.Daemon != nil && x.Daemon.Info.NoConnectHooks == "":
		x.add(OK, "firewall", "", "ports published at 127.0.0.1 are reached beside kubelet's chain KUBE-FIREWALL: connections go to the container itself")
	default:
		x.add(Note, "firewall", "connect from 127.0.0.1, or to another address of the host",
			"kubelet's chain KUBE-FIREWALL drops what goes to 127.0.0.0/8 from another address: ports published there are not reached so")
	}
}

// manager is a program that configures interfaces that it finds.
type manager struct {
	comm  string // of its process
	name  string
	dirs  []string // where it reads what to leave alone
	write string   // the command that says so
}

var managers = []manager{
	{
		"NetworkManager", "NetworkManager", []string{"/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d"},
		`printf '[keyfile]\nunmanaged-devices+=interface-name:vs-*;driver:veth\n' > /etc/NetworkManager/conf.d/90-vswitch.conf, then nmcli general reload`,
	},
	{
		"systemd-network", "systemd-networkd", []string{"/etc/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network", "/run/systemd/network"},
		`printf '[Match]\nName=vs-* veth*\n\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/05-vswitch.network, then networkctl reload`,
	},
	{
		"dhcpcd", "dhcpcd", []string{"/etc/dhcpcd.conf", "/etc/dhcpcd.conf.d"},
		`echo 'denyinterfaces vs-* veth*' >> /etc/dhcpcd.conf, then dhcpcd --rebind`,
	},
}

// grabs looks for managers of networks that run in this namespace and were not told to leave the
// switch's interfaces alone.
func (x *exam) grabs() {
	before := len(x.list)
	running := processes()
	for _, m := range managers {
		if running[m.comm] && !m.leaves("/") {
			x.add(Warn, "managers", m.write, "%s runs and may configure the switch's interfaces: nothing in %s says that it leaves them alone", m.name, m.dirs[0])
		}
	}
	x.fine(before, "managers", "no manager of networks takes the switch's interfaces")
}

// leaves reports whether a file says that the switch's interfaces are left alone.
func (m *manager) leaves(root string) bool {
	for _, dir := range m.dirs {
		for _, pattern := range []string{dir, dir + "/*"} {
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, f := range files {
				if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "vs-*") {
					return true
				}
			}
		}
	}
	return false
}

// processes are the names of those that run in this network namespace.
func processes() map[string]bool {
	names := make(map[string]bool)
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return names
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if ns, err := os.Readlink(p + "/ns/net"); err == nil && ns == own {
			if b, err := os.ReadFile(p + "/comm"); err == nil {
				names[strings.TrimSpace(string(b))] = true
			}
		}
	}
	return names
}

// pathMTU looks for routes that take smaller packets than the networks behind which they lie.
func (x *exam) pathMTU() {
	list, err := others.MTUs()
	if err != nil {
		x.add(Note, "mtu", "", "%v", err)
	}
	ups := x.uplinkNames()
	for _, m := range list {
		i := slices.IndexFunc(x.links, func(l host.Link) bool { return l.Index == m.Ifindex && ups[l.Name] })
		if i < 0 {
			continue
		}
		for _, n := range x.Daemon.Networks {
			if !n.Internal && m.MTU < n.MTU {
				x.add(Warn, "mtu", fmt.Sprintf("make a network with --mtu %d: vswitch network create --mtu %d NAME", m.MTU, m.MTU),
					"the host's route to %s has MTU %d, network %s %d: containers send packets that the path does not take", m.Prefix, m.MTU, n.Name, n.MTU)
			}
		}
	}
}

// addresses looks for published ports whose address the host does not have.
func (x *exam) addresses() {
	if x.Daemon == nil {
		return
	}
	addrs, err := x.host.Addrs()
	if err != nil {
		x.add(Note, "addresses", "", "%v", err)
		return
	}
	before := len(x.list)
	for _, c := range x.Daemon.Containers {
		for _, m := range c.Ports {
			ip, err := netip.ParseAddr(m.HostIP)
			if err != nil || ip.IsUnspecified() || ip.IsLoopback() ||
				slices.ContainsFunc(addrs, func(a host.Addr) bool { return a.Prefix.Addr() == ip }) {
				continue
			}
			x.add(Warn, "addresses", fmt.Sprintf("ip addr add %s/%d dev INTERFACE, or publish it at another: vswitch port add %s %d:%d/%s", ip, ip.BitLen(), c.Name, m.HostPort, m.Port, m.Proto),
				"port %d/%s of %s waits for %s, which no interface of the host has", m.HostPort, m.Proto, c.Name, ip)
		}
	}
	x.fine(before, "addresses", "no published port waits for an address")
}
