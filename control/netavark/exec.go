package netavark

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

// exec is what setup and teardown read.
type exec struct {
	ContainerID   string        `json:"container_id"`
	ContainerName string        `json:"container_name"`
	Ports         []portMapping `json:"port_mappings"`
	Network       network       `json:"network"`
	Options       struct {
		Aliases   []string          `json:"aliases"`
		Ifname    string            `json:"interface_name"`
		StaticIPs []string          `json:"static_ips"`
		StaticMAC string            `json:"static_mac"`
		Options   map[string]string `json:"options"`
	} `json:"network_options"`
}

type portMapping struct {
	ContainerPort int    `json:"container_port"`
	HostIP        string `json:"host_ip"`
	HostPort      int    `json:"host_port"`
	Protocol      string `json:"protocol"`
	Range         int    `json:"range"`
}

// network is a network as Podman remembers it.
type network struct {
	Name     string   `json:"name"`
	Subnets  []subnet `json:"subnets"`
	IPv6     bool     `json:"ipv6_enabled"`
	Internal bool     `json:"internal"`
	DNS      *bool    `json:"dns_enabled"`
	Routes   []struct {
		Destination string `json:"destination"`
		Gateway     string `json:"gateway"`
		Metric      int    `json:"metric"`
	} `json:"routes"`
	Options map[string]string `json:"options"`
}

type subnet struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway"`
}

// options are the words behind `podman network create -o`.
type options struct {
	socket, network          string
	mtu                      int
	mode, modeIPv4, modeIPv6 string
	icc, hostAccess          *bool
	guard, trunk             string
	vlan                     int
}

func parseOptions(in map[string]string) (o options, err error) {
	number := func(dst *int, v string) {
		if *dst, err = strconv.Atoi(v); err != nil {
			err = fmt.Errorf("%q is no number", v)
		}
	}
	truth := func(dst **bool, v string) {
		b, perr := strconv.ParseBool(v)
		if *dst = &b; perr != nil {
			err = fmt.Errorf("%q is neither true nor false", v)
		}
	}
	for key, v := range in {
		switch key {
		case "socket":
			o.socket = v
		case "network":
			o.network = v
		case "mtu":
			number(&o.mtu, v)
		case "mode":
			o.mode = v
		case "mode_ipv4":
			o.modeIPv4 = v
		case "mode_ipv6":
			o.modeIPv6 = v
		case "icc":
			truth(&o.icc, v)
		case "host_access":
			truth(&o.hostAccess, v)
		case "guard":
			o.guard = v
		case "vlan":
			number(&o.vlan, v)
		case "trunk":
			o.trunk = strings.ReplaceAll(v, ";", ",")
		default:
			err = fmt.Errorf("use socket, network, mtu, mode, mode_ipv4, mode_ipv6, icc, host_access, guard, vlan or trunk")
		}
		if err != nil {
			return o, fmt.Errorf("option %s=%s: %w", key, v, err)
		}
	}
	return o, nil
}

// wanted is the daemon's network for one of Podman's.
func (n *network) wanted(o options) (api.NetworkCreate, error) {
	in := api.NetworkCreate{
		Name: n.Name, MTU: o.mtu, Internal: n.Internal, Mode: o.mode, ModeIPv4: o.modeIPv4, ModeIPv6: o.modeIPv6,
		ICC: o.icc, HostAccess: o.hostAccess, Ephemeral: true, DisableDNS: n.DNS != nil && !*n.DNS,
		Labels: map[string]string{"org.vswitch.runtime": api.RuntimePodman},
	}
	if o.network != "" {
		in.Name = o.network
	}
	for _, s := range n.Subnets {
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return in, fmt.Errorf("network %s: subnet %q is malformed: write it like 10.1.0.0/24", n.Name, s.Subnet)
		}
		in.Subnets = append(in.Subnets, p.Masked().String())
		if s.Gateway != "" {
			in.Gateways = append(in.Gateways, s.Gateway)
		}
	}
	return in, nil
}

// request is what setup asks the daemon for.
func (e *exec) request(netns string, o options) (at api.Attach, in api.NetworkCreate, err error) {
	if in, err = e.Network.wanted(o); err != nil {
		return at, in, err
	}
	conn := api.Connect{
		Network: in.Name, RuntimeNetwork: e.Network.Name, Ifname: e.Options.Ifname, MAC: e.Options.StaticMAC,
		Guard: o.guard, VLAN: o.vlan, Trunk: o.trunk, Aliases: e.Options.Aliases,
	}
	for _, r := range e.Network.Routes {
		conn.Routes = append(conn.Routes, api.Route{To: r.Destination, Via: r.Gateway, Metric: r.Metric})
	}
	for _, s := range e.Options.StaticIPs {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return at, in, fmt.Errorf("network %s: address %q is not an IP address", e.Network.Name, s)
		}
		dst := &conn.IP
		if a = a.Unmap(); a.Is6() {
			dst = &conn.IP6
		}
		if *dst != "" {
			return at, in, fmt.Errorf("network %s: addresses %s and %s: an interface has one of each family", e.Network.Name, *dst, a)
		}
		*dst = a.String()
	}
	at = api.Attach{
		Name: client.FriendlyName(e.ContainerName), Runtime: api.RuntimePodman, RuntimeID: e.ContainerID,
		Netns: netns, Networks: []api.Connect{conn},
	}
	for _, p := range e.Ports {
		rule, err := p.rule()
		if err != nil {
			return at, in, fmt.Errorf("container %s: %w", e.ContainerName, err)
		}
		at.Publish = append(at.Publish, rule...)
	}
	return at, in, nil
}

// rule writes a mapping as after -p. A protocol may be several, with commas.
func (p portMapping) rule() (rules []string, err error) {
	n := max(p.Range, 1) - 1
	if p.HostPort < 1 || p.ContainerPort < 1 || p.HostPort+n > 65535 || p.ContainerPort+n > 65535 {
		return nil, fmt.Errorf("port %d to %d, %d of them: ports are 1 to 65535", p.HostPort, p.ContainerPort, n+1)
	}
	span := func(first int) string {
		if n == 0 {
			return strconv.Itoa(first)
		}
		return fmt.Sprintf("%d-%d", first, first+n)
	}
	host := ""
	if p.HostIP != "" {
		host = p.HostIP + ":"
		if strings.Contains(p.HostIP, ":") {
			host = "[" + strings.Trim(p.HostIP, "[]") + "]:"
		}
	}
	for proto := range strings.SplitSeq(p.Protocol, ",") {
		if proto == "" {
			proto = "tcp"
		}
		rules = append(rules, host+span(p.HostPort)+":"+span(p.ContainerPort)+"/"+strings.ToLower(proto))
	}
	return rules, nil
}

// status is the answer to setup. With no server in it the container keeps the host's.
type status struct {
	DNSSearchDomains []string                   `json:"dns_search_domains"`
	DNSServerIPs     []string                   `json:"dns_server_ips"`
	Interfaces       map[string]statusInterface `json:"interfaces"`
}

type statusInterface struct {
	MAC     string         `json:"mac_address"`
	Subnets []statusSubnet `json:"subnets"`
}

type statusSubnet struct {
	Gateway string `json:"gateway,omitempty"`
	IPNet   string `json:"ipnet"`
}

// statusOf is the answer for an interface. A container of a network with names has them first where it
// searches, so that a neighbour's name is asked nowhere else.
func statusOf(ct api.Container, n network, ifname string) (st status, err error) {
	st = status{DNSSearchDomains: []string{}, DNSServerIPs: []string{}, Interfaces: map[string]statusInterface{}}
	for _, e := range ct.Endpoints {
		if e.Interface != ifname {
			continue
		}
		if n.DNS != nil && *n.DNS && len(e.NameServers) > 0 {
			st.DNSServerIPs, st.DNSSearchDomains = e.NameServers, []string{e.Network}
		}
		in := statusInterface{MAC: e.MAC}
		for _, s := range e.Addresses {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return st, err
			}
			sub := statusSubnet{IPNet: s}
			for _, g := range e.Gateways {
				if a, err := netip.ParseAddr(g); err == nil && a.Is4() == p.Addr().Is4() {
					sub.Gateway = g
				}
			}
			in.Subnets = append(in.Subnets, sub)
		}
		st.Interfaces[ifname] = in
		return st, nil
	}
	return st, fmt.Errorf("container %s: the daemon's answer lacks interface %s", ct.Name, ifname)
}

func overlap(a, b string) bool {
	p, err1 := netip.ParsePrefix(a)
	q, err2 := netip.ParsePrefix(b)
	return err1 == nil && err2 == nil && p.Overlaps(q)
}
