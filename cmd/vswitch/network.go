package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

func newNetwork(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{Use: "network", Aliases: []string{"net"}, Short: "Make, show and remove networks"})
	cmd.AddCommand(newNetworkCreate(c), newNetworkLs(c), newNetworkInspect(c), newNetworkUpdate(c), newNetworkRm(c), newNetworkPrune(c),
		newNetworkConnect(c), newNetworkDisconnect(c))
	return cmd
}

func newNetworkCreate(c *cli) *cobra.Command {
	var (
		in               api.NetworkCreate
		reserved, labels []string
		v4, v6           bool
		icc, hostAccess  bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME [flags]",
		Short: "Make a network; containers of different networks do not reach each other",
		Example: `  vswitch network create backend
  vswitch network create blue --subnet 10.1.0.0/24 --reserve printer=10.1.0.9 --internal
  vswitch network create dual --ipv6
  vswitch network create six --subnet fd00:6::/64 --subnet 10.6.0.0/24 --mode-ipv6 routed`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if in.Reserved, err = parsePairs(reserved); err != nil {
				return usagef(cmd, "--reserve %w", err)
			}
			if in.Labels, err = parsePairs(labels); err != nil {
				return usagef(cmd, "--label %w", err)
			}
			if cmd.Flags().Changed("icc") {
				in.ICC = &icc
			}
			if cmd.Flags().Changed("host-access") {
				in.HostAccess = &hostAccess
			}
			in.Name = args[0]
			if cmd.Flags().Changed("ipv4") {
				in.IPv4 = &v4
			}
			if cmd.Flags().Changed("ipv6") {
				in.IPv6 = &v6
			}
			n, err := c.client(cmd).CreateNetwork(cmd.Context(), in)
			if err != nil {
				return err
			}
			return c.printOr(n, func() error { return printNetworks(c.stdout, []api.Network{n}) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&v4, "ipv4", true, "containers get an IPv4 address (default unless the only subnet is IPv6)")
	flags.BoolVar(&v6, "ipv6", false, "containers get an IPv6 address (default with an IPv6 subnet)")
	flags.StringArrayVar(&in.Subnets, "subnet", nil, "addresses of the network in CIDR form (default a free one of the daemon's pool; repeatable, one of each family)")
	flags.StringArrayVar(&in.Gateways, "gateway", nil, "the host's address in it (default the first; repeatable, one of each family)")
	flags.StringArrayVar(&in.IPRanges, "ip-range", nil, "part of the subnet that containers get addresses from (default all of it; repeatable, one of each family)")
	flags.StringArrayVar(&reserved, "reserve", nil, "NAME=ADDR, an address that no container gets (repeatable)")
	flags.IntVar(&in.MTU, "mtu", 0, "MTU of its interfaces (default that of the uplink)")
	flags.BoolVar(&in.Internal, "internal", false, "no way out: only its containers and the host")
	flags.StringVar(&in.Mode, "mode", "", "what the gateway does: nat, routed (no translation, needs a route back to the host) or isolated (no gateway at all) (default nat)")
	flags.StringVar(&in.ModeIPv4, "mode-ipv4", "", "the same for IPv4 alone")
	flags.StringVar(&in.ModeIPv6, "mode-ipv6", "", "the same for IPv6 alone")
	flags.BoolVar(&icc, "icc", true, "its containers reach each other; with --icc=false only the gateway and the world")
	flags.BoolVar(&hostAccess, "host-access", true, "its containers reach the services of the host; with --host-access=false only published ports")
	flags.BoolVar(&in.DisableDNS, "disable-dns", false, "its gateway answers no names")
	flags.StringArrayVar(&in.DNSServers, "dns", nil, "name server that is asked for names outside (repeatable; default the host's)")
	natFilter(cmd, &in.Filter, filterUsage+" (default apdf)")
	flags.StringArrayVar(&in.Exempt, "exempt", nil, "destinations that see the containers' own addresses, CIDR (repeatable)")
	flags.StringArrayVar(&labels, "label", nil, "KEY=VALUE shown by inspect (repeatable)")
	c.addFormat(cmd)
	return cmd
}

func newNetworkLs(c *cli) *cobra.Command {
	var list listFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List networks",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := c.client(cmd).Networks(cmd.Context())
			if err == nil {
				ns, err = list.networks(cmd, ns)
			}
			if err != nil {
				return err
			}
			if list.quiet {
				names := make([]string, len(ns))
				for i := range ns {
					names[i] = ns[i].Name
				}
				return printNames(c.stdout, names)
			}
			return c.printOr(listed(ns), func() error { return printNetworks(c.stdout, ns) })
		},
	}
	list.add(cmd, "name", "id", "label")
	c.addFormat(cmd)
	c.addWatch(cmd)
	return cmd
}

func printNetworks(w io.Writer, ns []api.Network) error {
	t := newTable(w, "NAME", "SUBNET", "GATEWAY", "INTERFACE", "MTU", "INTERNAL", "CONTAINERS")
	for _, n := range ns {
		name := n.Name
		if docker := n.Labels[api.LabelDockerNetwork]; docker != "" && docker != name {
			name += " (" + docker + ")"
		}
		t.row(name, subnets(n, subnetCIDR), subnets(n, subnetGateway), n.Interface, fmt.Sprint(n.MTU), yesNo(n.Internal), fmt.Sprint(len(n.Containers)))
	}
	return t.flush()
}

// subnets lists one thing of each subnet of a network.
func subnets(n api.Network, what func(api.Subnet) string) string {
	var list []string
	for _, s := range n.Subnets {
		if v := what(s); v != "" {
			list = append(list, v)
		}
	}
	return strings.Join(list, ",")
}

func subnetCIDR(s api.Subnet) string    { return s.Subnet }
func subnetGateway(s api.Subnet) string { return s.Gateway }
func subnetRange(s api.Subnet) string   { return s.IPRange }
func subnetMode(s api.Subnet) string    { return s.Mode }

func newNetworkInspect(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show all there is to know of a network",
		Args:  args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := c.client(cmd).Network(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.printOr(n, func() error { return printNetwork(c.stdout, n) })
		},
		ValidArgsFunction: complete(c.networks, noMore),
	}
	c.addFormat(cmd)
	return cmd
}

func printNetwork(w io.Writer, n api.Network) error {
	t := newTable(w)
	t.row("name:", n.Name)
	t.row("id:", n.ID)
	t.row("subnet:", subnets(n, subnetCIDR))
	t.row("ip range:", subnets(n, subnetRange))
	t.row("gateway:", subnets(n, subnetGateway))
	t.row("mode:", subnets(n, subnetMode))
	t.row("gateway mac:", n.GatewayMAC)
	t.row("interface:", n.Interface)
	t.row("mtu:", fmt.Sprint(n.MTU))
	t.row("internal:", yesNo(n.Internal))
	t.row("ephemeral:", yesNo(n.Ephemeral))
	t.row("icc:", yesNo(n.ICC))
	t.row("host access:", yesNo(n.HostAccess))
	t.row("names:", yesNo(!n.DisableDNS))
	t.row("name servers:", strings.Join(n.DNSServers, ","))
	t.row("filter:", n.Filter)
	t.row("exempt:", strings.Join(n.Exempt, ","))
	t.row("reserved:", pairs(n.Reserved))
	t.row("labels:", pairs(n.Labels))
	t.row("created:", n.Created.Format(time.RFC3339))
	if err := t.flush(); err != nil || len(n.Containers) == 0 {
		return err
	}
	sayf(w, "\n")
	t = newTable(w, "CONTAINER", "ADDRESS", "MAC")
	for _, m := range n.Containers {
		t.row(m.Name, strings.Join(m.Addresses, ","), m.MAC)
	}
	return t.flush()
}

func newNetworkRm(c *cli) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:     "rm NAME... [--force]",
		Aliases: []string{"remove"},
		Short:   "Remove networks that hold no container",
		Args:    args("NAME..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := c.client(cmd)
			return each(args, func(name string) error { return cl.RemoveNetwork(cmd.Context(), name, client.Force(force)) })
		},
		ValidArgsFunction: complete(c.networks),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also one that a runtime relies on: its containers do not start any more")
	return cmd
}

func newNetworkPrune(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove every network that holds no container, except the default one",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pruned, err := c.client(cmd).PruneNetworks(cmd.Context())
			if err != nil {
				return err
			}
			pruned.Networks = listed(pruned.Networks)
			return c.printOr(pruned, func() error {
				for _, name := range pruned.Networks {
					sayf(c.stdout, "%s\n", name)
				}
				return sayf(c.stdout, "%s removed\n", plural(len(pruned.Networks), "network"))
			})
		},
	}
	c.addFormat(cmd)
	return cmd
}

func newNetworkConnect(c *cli) *cobra.Command {
	var (
		in api.Connect
		l2 layer2Flags
	)
	cmd := &cobra.Command{
		Use:   "connect NETWORK CONTAINER [flags]",
		Short: "Give a container an interface in another network",
		Args:  args("NETWORK", "CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Network = args[0]
			l2.set(&in)
			ct, err := c.client(cmd).Connect(cmd.Context(), args[1], in)
			if err != nil {
				return err
			}
			return c.printOr(ct, func() error { return printEndpoints(c.stdout, ct) })
		},
		ValidArgsFunction: complete(c.networks, c.containers, noMore),
	}
	cmd.Flags().StringVar(&in.IP, "ip", "", "address in the network (default the next free one)")
	cmd.Flags().StringVar(&in.IP6, "ip6", "", "IPv6 address in the network (default the next free one)")
	cmd.Flags().StringVar(&in.MAC, "mac", "", "Ethernet address (default one of the switch's own)")
	cmd.Flags().StringVar(&in.Ifname, "ifname", "", "interface name in the container (default the next free of eth0, eth1, ...)")
	cmd.Flags().StringArrayVar(&in.Aliases, "alias", nil, "a further name in the network (repeatable)")
	cmd.Flags().IntVar(&in.MaxFlows, "max-flows", 0, maxFlowsUsage)
	cmd.Flags().IntVar(&in.FlowRate, "flow-rate", 0, flowRateUsage)
	cmd.Flags().StringVar(&in.Egress, "egress", "", egressUsage)
	l2.add(cmd)
	c.addFormat(cmd)
	return cmd
}

func newNetworkDisconnect(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "disconnect NETWORK CONTAINER",
		Short: "Take a container out of a network",
		Args:  args("NETWORK", "CONTAINER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.client(cmd).Disconnect(cmd.Context(), args[1], args[0])
		},
		ValidArgsFunction: complete(c.networks, c.containers, noMore),
	}
}
