package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
)

// uplink looks for a way out.
func (x *exam) uplink() {
	var ups []host.Link
	if x.Daemon == nil {
		list, err := x.host.Uplinks(nil)
		if err != nil {
			x.add(Note, "uplink", "", "%v", err)
			return
		}
		if ups = list; len(ups) == 0 {
			x.add(Warn, "uplink", "ip route add default via GATEWAY dev INTERFACE, or name one with vswitch daemon --uplink",
				"no Ethernet interface that is up holds a default route: containers would not get out")
			return
		}
	} else {
		for _, u := range x.Daemon.Info.Uplinks {
			if l, ok := x.link(u.Interface); ok {
				ups = append(ups, l)
			}
		}
		if len(ups) == 0 {
			x.add(Fail, "uplink", "ip route add default via GATEWAY dev INTERFACE, or name one with vswitch daemon --uplink",
				"the daemon has no uplink: containers do not get out")
			return
		}
	}
	before, names := len(x.list), []string{}
	for _, l := range ups {
		names = append(names, l.Name)
		switch {
		case !l.Up:
			x.add(Fail, "uplink", "ip link set "+l.Name+" up", "%s is down", l.Name)
		case !l.Running:
			x.add(Fail, "uplink", "look at the cable and the other end: ip link show "+l.Name, "%s has no carrier", l.Name)
		}
	}
	if x.Daemon != nil {
		for _, u := range x.Daemon.Info.Uplinks {
			if len(u.Addresses) == 0 {
				x.add(Fail, "uplink", "ip addr add ADDRESS/LEN dev "+u.Interface, "%s has no address that containers could go out with", u.Interface)
			}
		}
	}
	x.fine(before, "uplink", "%s", strings.Join(names, ", "))
}

// networks looks after the TAP of each network.
func (x *exam) networks() {
	if x.Daemon == nil {
		return
	}
	before := len(x.list)
	addrs, err := x.host.Addrs()
	if err != nil {
		x.add(Note, "network", "", "%v", err)
		return
	}
	for _, n := range x.Daemon.Networks {
		l, ok := x.link(n.Interface)
		switch {
		case !ok:
			x.add(Fail, "network", "restart the daemon", "the device %s of network %s has vanished", n.Interface, n.Name)
			continue
		case !l.Up:
			x.add(Fail, "network", "ip link set "+n.Interface+" up", "the device %s of network %s is down", n.Interface, n.Name)
		}
		for _, s := range n.Subnets {
			prefix, err := netip.ParsePrefix(s.Subnet)
			gw, err2 := netip.ParseAddr(s.Gateway)
			if err != nil || err2 != nil { // isolated: the host is not there
				continue
			}
			if !slices.ContainsFunc(addrs, func(a host.Addr) bool { return a.Ifindex == l.Index && a.Prefix.Addr() == gw }) {
				x.add(Fail, "network", fmt.Sprintf("ip addr add %s/%d dev %s", gw, prefix.Bits(), n.Interface),
					"%s has lost the gateway's address %s: the host is not reached in network %s", n.Interface, gw, n.Name)
			}
		}
	}
	x.fine(before, "network", "%d, each with its device", len(x.Daemon.Networks))
}

// mtu looks for links that are narrower than what lies before them.
func (x *exam) mtu() {
	if x.Daemon == nil {
		return
	}
	before := len(x.list)
	sizes := make(map[string]int)
	for _, n := range x.Daemon.Networks {
		sizes[n.Name] = n.MTU
		for _, u := range x.Daemon.Info.Uplinks {
			if !n.Internal && u.MTU < n.MTU {
				x.add(Warn, "mtu", fmt.Sprintf("make a network with --mtu %d: vswitch network create --mtu %d NAME", u.MTU, u.MTU),
					"network %s has MTU %d, uplink %s %d: packets between are cut, or their sender is told", n.Name, n.MTU, u.Interface, u.MTU)
			}
		}
	}
	for _, c := range x.Daemon.Containers {
		for _, e := range c.Endpoints {
			if l, ok := x.link(e.HostInterface); ok && l.MTU != sizes[e.Network] {
				x.add(Warn, "mtu", fmt.Sprintf("ip link set %s mtu %d", e.HostInterface, sizes[e.Network]),
					"%s, the host's end of %s, has MTU %d, network %s %d: larger packets are lost", e.HostInterface, c.Name, l.MTU, e.Network, sizes[e.Network])
			}
		}
	}
	x.pathMTU()
	x.fine(before, "mtu", "networks and uplinks fit")
}

// containers looks after seal, addresses and routes of each container.
func (x *exam) containers() {
	if x.Daemon == nil {
		return
	}
	before := len(x.list)
	for _, c := range x.Daemon.Containers {
		if err := x.Daemon.Broken[c.Name]; err != nil {
			fix := "vswitch detach " + c.Name + ", then attach it again"
			if c.Runtime == "docker" || c.Runtime == "podman" {
				fix = c.Runtime + " restart " + c.Name
			}
			x.add(Fail, "container", fix, "%s: %v", c.Name, err)
		}
	}
	x.fine(before, "container", "%d, each sealed and wired", len(x.Daemon.Containers))
}

// ports looks for programs that hold a published port.
func (x *exam) ports() {
	if x.Daemon == nil {
		return
	}
	sockets, err := x.host.Sockets()
	if err != nil {
		x.add(Note, "ports", "", "%v", err)
		return
	}
	before, count := len(x.list), 0
	own := socketsOf(x.Daemon.Info.PID)
	for _, c := range x.Daemon.Containers {
		for _, m := range c.Ports {
			count++
			for _, s := range sockets {
				if protoName(s.Proto) != m.Proto || s.Port < m.HostPort || s.Port > m.HostPortEnd || !meets(m.HostIP, s.Addr) || own[s.Inode] {
					continue
				}
				owner := reserve.Owner(s.Inode)
				if owner == "" {
					continue
				}
				x.add(Fail, "ports", "stop it, or vswitch port rm "+c.Name+" "+specOf(&m),
					"port %d/%s is published to %s and held by %s: the host's own connections reach that", s.Port, m.Proto, c.Name, owner)
			}
		}
	}
	x.fine(before, "ports", "%d mappings, none held by another program", count)
}

// specOf is a published port as it is written.
func specOf(m *api.PortMapping) string {
	spec := fmt.Sprintf("%d:%d/%s", m.HostPort, m.Port, m.Proto)
	if m.HostPortEnd > m.HostPort {
		spec = fmt.Sprintf("%d-%d:%d-%d/%s", m.HostPort, m.HostPortEnd, m.Port, m.PortEnd, m.Proto)
	}
	switch ip, err := netip.ParseAddr(m.HostIP); {
	case err != nil:
		return spec
	case ip.Is6():
		return "[" + m.HostIP + "]:" + spec
	}
	return m.HostIP + ":" + spec
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(pid int) map[uint32]bool {
	own := make(map[uint32]bool)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, _ := os.ReadDir(dir) // it may have ended
	for _, fd := range list {
		var inode uint32
		link, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		if _, err := fmt.Sscanf(link, "socket:[%d]", &inode); err == nil {
			own[inode] = true
		}
	}
	return own
}

func protoName(p uint8) string {
	return map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}[p]
}

// meets reports whether a socket's address is one that a mapping is for.
func meets(hostIP string, a netip.Addr) bool {
	ip, err := netip.ParseAddr(hostIP)
	return err != nil || ip.IsUnspecified() || !a.IsValid() || a.IsUnspecified() || a == ip
}

// onTheWay looks for programs that see what goes into a container, and for chains that would
// miss what the kernel carries out of an uplink.
func (x *exam) onTheWay(l host.Link, programs map[int]host.Program) {
	p := programs[l.Index]
	if l.Kind != "veth" || !strings.HasPrefix(l.Alias, "vswitch:") {
		if p.Misses {
			x.add(Note, "programs", "remove it if it is not meant", "%s sees what leaves by %s: the kernel does not carry flows that leave there, for the chain would miss them", p.Name, l.Name)
		}
		return
	}
	name := p.Name
	if tcx, err := kernel.FirstTCXEgress(l.Index); name == "" && err == nil && tcx != "" {
		name = "BPF program " + tcx
	}
	way := "are carried by way of it, which is slower"
	if p.Misses {
		way = "are not carried by the kernel, which would pass it by"
	}
	if name != "" {
		x.add(Note, "programs", "remove it if it is not meant", "%s sees what goes into the container at %s: flows to it %s", name, l.Name, way)
	}
}

// programs looks for other software that sees packets before the switch does.
func (x *exam) programs() {
	before, seen := len(x.list), 0
	found, err := x.host.Programs(func(int) bool { return true })
	if err != nil {
		x.add(Note, "programs", "", "what sees frames on their way out of interfaces is not known: %v", err)
	}
	look := func(name string) {
		l, ok := x.link(name)
		if !ok {
			return
		}
		seen++
		if l.XDP {
			x.add(Warn, "programs", "ip link set "+name+" xdp off, if it is not meant", "an XDP program on %s may take packets before the switch sees them", name)
		}
		first, err := kernel.FirstTCX(l.Index)
		if err == nil && first != "" && !strings.HasPrefix(first, "vsw_") {
			x.add(Warn, "programs", "look who attached it: bpftool net show dev "+name, "BPF program %s is first at the ingress of %s: what it decides the shield does not hear of", first, name)
		}
		x.onTheWay(l, found)
		foreign, err := x.host.ForeignFilters(l.Index)
		if err != nil {
			x.add(Note, "programs", "", "%s: %v", name, err)
		}
		for _, f := range foreign {
			x.add(Warn, "programs", "tc filter show dev "+name+" ingress shows it, tc filter del removes it", "another filter is at the ingress of %s: %s", name, f)
		}
	}
	if x.Daemon != nil {
		for _, u := range x.Daemon.Info.Uplinks {
			look(u.Interface)
		}
		for _, c := range x.Daemon.Containers {
			for _, e := range c.Endpoints {
				look(e.HostInterface)
			}
		}
	} else if ups, err := x.host.Uplinks(nil); err == nil {
		for _, l := range ups {
			look(l.Name)
		}
	}
	x.fine(before, "programs", "no foreign program or filter on %d interfaces", seen)
}

// leftovers looks for links that nobody looks after.
func (x *exam) leftovers() {
	before := len(x.list)
	known, own := make(map[string]bool), ""
	var running map[string]bool
	if x.Daemon == nil {
		running = x.running()
	} else {
		for _, n := range x.Daemon.Networks {
			known[n.Interface] = true
			if l, ok := x.link(n.Interface); ok {
				own = identity(l.Alias)
			}
		}
		for _, c := range x.Daemon.Containers {
			for _, e := range c.Endpoints {
				known[e.HostInterface] = true
			}
		}
	}
	for _, l := range x.links {
		id := identity(l.Alias)
		switch {
		case id == "" || known[l.Name]:
		case running[id]:
			x.add(Note, "leftovers", "", "%s belongs to a daemon that runs and was not asked (state %s)", l.Name, id)
		case x.Daemon == nil:
			x.add(Warn, "leftovers", x.startAgain(),
				"%s belongs to a daemon that does not run here (state %s)", l.Name, id)
		case id == own:
			x.add(Warn, "leftovers", unknown(&l), "%s was made by this daemon, which does not know it", l.Name)
		default:
			x.add(Note, "leftovers", "", "%s belongs to another daemon (state %s)", l.Name, id)
		}
	}
	x.fine(before, "leftovers", "no link without a daemon")
}

// running has the identities of daemons that run: the device of a network has a carrier for
// as long as a process has it open, the daemon or the holder that it has left.
func (x *exam) running() map[string]bool {
	ids, held := make(map[string]bool), held()
	for _, l := range x.links {
		if id := identity(l.Alias); id != "" && l.Kind == "tun" && l.Carrier && !held[l.Name] {
			ids[id] = true
		}
	}
	return ids
}

// identity is that of the state directory a link was made for.
func identity(alias string) string {
	rest, ok := strings.CutPrefix(alias, "vswitch:")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, ":")
	return id
}

// reserved looks for ports that a killed daemon left in the host's sysctl.
func (x *exam) reserved() {
	if x.Daemon != nil {
		x.add(OK, "reserved", "", "the daemon looks after net.ipv4.ip_local_reserved_ports")
		return
	}
	c, err := state.Peek(x.StateDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		x.add(OK, "reserved", "", "no state in %s", x.StateDir)
		return
	case err != nil:
		x.add(Note, "reserved", "", "%v", err)
		return
	}
	before := len(x.list)
	now, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		x.add(Note, "reserved", "", "%v", err)
		return
	}
	for _, r := range c.Reserved {
		if overlaps(string(now), r.First, r.Last) {
			x.add(Warn, "reserved", "start the daemon again, or take them out: vswitch down",
				"ports %d-%d are reserved by a daemon that has ended", r.First, r.Last)
		}
	}
	x.fine(before, "reserved", "nothing is left in net.ipv4.ip_local_reserved_ports")
}

// overlaps reports whether a list as in the sysctl has a port of an interval.
func overlaps(list string, first, last uint16) bool {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		var a, b uint16
		if n, _ := fmt.Sscanf(part, "%d-%d", &a, &b); n == 1 {
			b = a
		} else if n == 0 {
			continue
		}
		if a <= last && first <= b {
			return true
		}
	}
	return false
}

// stateFile is where the state is.
func (x *exam) stateFile() string { return filepath.Join(x.StateDir, state.FileName) }
