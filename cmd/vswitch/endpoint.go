package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

// endpointFlags are what attach and run have in common.
type endpointFlags struct {
	networks   []string
	publish    []string
	publishAll bool
	expose     []string
	ip, ip6    string
	mac        string
	ifname     string
	layer2     layer2Flags
	maxFlows   int
	flowRate   int
	egress     string
	labels     []string
	aliases    []string
	hostname   string
	dns        api.DNS
}

func (e *endpointFlags) add(cmd *cobra.Command, networks string) {
	flags := cmd.Flags()
	flags.StringArrayVar(&e.networks, "network", nil, networks)
	flags.StringArrayVarP(&e.publish, "publish", "p", nil,
		"publish ports: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp] (repeatable)")
	flags.BoolVarP(&e.publishAll, "publish-all", "P", false, "publish every exposed port on a random port of the host")
	flags.StringArrayVar(&e.expose, "expose", nil, "a port that -P publishes: PORT[-END][/tcp|udp|sctp] (repeatable)")
	flags.StringVar(&e.ip, "ip", "", "address in the network (default the next free one)")
	flags.StringVar(&e.ip6, "ip6", "", "IPv6 address in the network (default the next free one)")
	flags.StringVar(&e.mac, "mac", "", "Ethernet address (default one of the switch's own)")
	flags.StringVar(&e.ifname, "ifname", "", "interface name in the container (default eth0)")
	e.layer2.add(cmd)
	flags.IntVar(&e.maxFlows, "max-flows", 0, maxFlowsUsage)
	flags.IntVar(&e.flowRate, "flow-rate", 0, flowRateUsage)
	flags.StringVar(&e.egress, "egress", "", egressUsage)
	flags.StringArrayVar(&e.aliases, "network-alias", nil, "a further name in its network (repeatable)")
	flags.StringVar(&e.hostname, "hostname", "", "a further name in all its networks, and with run its own name for itself")
	flags.StringArrayVar(&e.dns.Servers, "dns", nil, "name server that is asked for names outside (repeatable; default the network's, or the host's)")
	flags.StringArrayVar(&e.dns.Search, "dns-search", nil, "domain that is searched after its network, . for none (repeatable; default the host's)")
	flags.StringArrayVar(&e.dns.Options, "dns-option", nil, "option of resolv.conf (repeatable; default the host's)")
	flags.StringArrayVar(&e.dns.Hosts, "add-host", nil, "a name for it alone: NAME:ADDR or NAME:host-gateway (repeatable)")
	flags.StringArrayVar(&e.labels, "label", nil, "KEY=VALUE shown by inspect (repeatable)")
}

// attach fills in the request. Names and addresses go to the daemon as they are;
// only what the command line itself contradicts is refused here.
func (e *endpointFlags) attach(cmd *cobra.Command, req *api.Attach) error {
	for _, n := range e.networks {
		conn, err := parseConnect(n)
		if err != nil {
			return usagef(cmd, "--network %s: %w", n, err)
		}
		req.Networks = append(req.Networks, conn)
	}
	if e.ip != "" || e.ip6 != "" || e.mac != "" || e.ifname != "" || e.layer2.given(cmd) || e.maxFlows != 0 || e.flowRate != 0 || e.egress != "" || len(e.aliases) > 0 {
		switch len(req.Networks) {
		case 0:
			req.Networks = []api.Connect{{}}
		case 1:
		default:
			return usagef(cmd, "--ip, --ip6, --mac, --ifname, --guard, --vlan, --trunk, --max-flows, --flow-rate, --egress and --network-alias need a single --network: with several write --network name=NET,ip=ADDR,ip6=ADDR,mac=MAC,ifname=IF,guard=off,vlan=N,trunk=LIST,max-flows=N,flow-rate=N,egress=WAY,alias=NAME")
		}
		c := &req.Networks[0]
		setIf(&c.IP, e.ip)
		setIf(&c.IP6, e.ip6)
		setIf(&c.MAC, e.mac)
		setIf(&c.Ifname, e.ifname)
		setIf(&c.Egress, e.egress)
		e.layer2.set(c)
		c.Aliases = append(c.Aliases, e.aliases...)
		if e.maxFlows != 0 {
			c.MaxFlows = e.maxFlows
		}
		if e.flowRate != 0 {
			c.FlowRate = e.flowRate
		}
	}
	var err error
	if req.Labels, err = parsePairs(e.labels); err != nil {
		return usagef(cmd, "--label %w", err)
	}
	if req.Hostname = e.hostname; len(e.dns.Servers)+len(e.dns.Search)+len(e.dns.Options)+len(e.dns.Hosts) > 0 {
		req.DNS = &e.dns
	}
	req.Publish, req.PublishAll, req.Expose = e.publish, e.publishAll, e.expose
	return nil
}

// layer2Flags say what a port may do at layer 2.
type layer2Flags struct {
	guard string
	vlan  int
	trunk string
}

func (l *layer2Flags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.guard, "guard", "", "on holds the container to its MAC and IP addresses, off is for virtual machines and routers in it (default on, off with --trunk)")
	flags.IntVar(&l.vlan, "vlan", 0, "VLAN of its untagged frames (default the network's own)")
	flags.StringVar(&l.trunk, "trunk", "", "VLANs it carries tagged besides: 10,20-29")
}

func (l *layer2Flags) given(cmd *cobra.Command) bool {
	f := cmd.Flags()
	return f.Changed("guard") || f.Changed("vlan") || f.Changed("trunk")
}

func (l *layer2Flags) set(c *api.Connect) {
	setIf(&c.Guard, l.guard)
	setIf(&c.Trunk, l.trunk)
	if l.vlan != 0 {
		c.VLAN = l.vlan
	}
}

// parseConnect reads NET or, as in Docker, name=NET,ip=ADDR,ip6=ADDR,mac=MAC,ifname=IF
// with guard, vlan, trunk, max-flows, flow-rate, egress and alias besides. A list has semicolons for commas
// here: trunk=10;20-29.
func parseConnect(s string) (api.Connect, error) {
	if !strings.Contains(s, "=") {
		if s == "" {
			return api.Connect{}, fmt.Errorf("empty name")
		}
		return api.Connect{Network: s}, nil
	}
	var c api.Connect
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "name":
			c.Network = value
		case "ip":
			c.IP = value
		case "ip6":
			c.IP6 = value
		case "mac", "mac-address":
			c.MAC = value
		case "ifname":
			c.Ifname = value
		case "guard":
			c.Guard = value
		case "alias":
			c.Aliases = append(c.Aliases, value)
		case "vlan", "max-flows", "flow-rate":
			n, err := strconv.Atoi(value)
			if err != nil {
				return c, fmt.Errorf("%s %q: must be a number", key, value)
			}
			*map[string]*int{"vlan": &c.VLAN, "max-flows": &c.MaxFlows, "flow-rate": &c.FlowRate}[key] = n
		case "trunk":
			c.Trunk = strings.ReplaceAll(value, ";", ",")
		case "egress":
			c.Egress = strings.ReplaceAll(value, ";", ",")
		default:
			return c, fmt.Errorf("unknown key %q: must be name, ip, ip6, mac, ifname, guard, vlan, trunk, max-flows, flow-rate, egress or alias", key)
		}
	}
	if c.Network == "" {
		return c, fmt.Errorf("name= is missing")
	}
	return c, nil
}

// parsePairs reads KEY=VALUE words; nil for none.
func parsePairs(words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(words))
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q: must be KEY=VALUE", w)
		}
		m[key] = value
	}
	return m, nil
}

const (
	maxFlowsUsage = "connections that it may have begun at a time, -1 for no limit (default 16384)"
	egressUsage   = "the way by which what it begins leaves: dev=INTERFACE, via=ADDRESS, source=ADDRESS or several with commas (default the host's)"
	flowRateUsage = "connections that it may begin each second, -1 for no limit (default 20000)"
)

func setIf(dst *string, value string) {
	if value != "" {
		*dst = value
	}
}
