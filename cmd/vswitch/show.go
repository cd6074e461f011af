package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

func newPs(c *cli) *cobra.Command {
	var filter api.ContainerFilter
	var list listFlags
	cmd := &cobra.Command{
		Use:     "ps [NAME]",
		Aliases: []string{"ls"},
		Short:   "List attached containers",
		Long: `List attached containers, or those that NAME means: a name, RUNTIME:NAME, an address, an
ID or its beginning, service:NAME, project:NAME, label:KEY or label:KEY=VALUE. A bare
word that no container has is that of a service, or else of a project.`,
		Example: `  vswitch ps
  vswitch ps project:shop`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				filter.Select = args[0]
			}
			if filter.Runtime != "" {
				if err := knownRuntime(cmd, "--runtime ", filter.Runtime); err != nil {
					return err
				}
			}
			cs, err := c.client(cmd).ContainersOf(cmd.Context(), filter)
			if err == nil {
				cs, err = list.containers(cmd, c, cs)
			}
			if err != nil {
				return err
			}
			if list.quiet {
				names := make([]string, len(cs))
				for i := range cs {
					names[i] = cs[i].Name
				}
				return printNames(c.stdout, names)
			}
			return c.printOr(listed(cs), func() error { return printContainers(c.stdout, cs, time.Now()) })
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	cmd.Flags().StringVar(&filter.Runtime, "runtime", "", "only what this runtime attached: "+strings.Join(api.Runtimes, ", "))
	cmd.Flags().StringVar(&filter.Network, "network", "", "only containers in this network")
	completeFlag(cmd, "network", c.networks)
	cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(api.Runtimes, cobra.ShellCompDirectiveNoFileComp))
	list.add(cmd, "name", "id", "label", "network", "runtime")
	c.addFormat(cmd)
	c.addWatch(cmd)
	return cmd
}

func printContainers(w io.Writer, cs []api.Container, now time.Time) error {
	t := newTable(w, "NAME", "NETWORK", "ADDRESS", "PORTS", "RUNTIME", "PID", "AGE")
	for _, ct := range cs {
		var nets, addrs []string
		for _, e := range ct.Endpoints {
			nets, addrs = append(nets, e.Network), append(addrs, e.Addresses...)
		}
		if len(ct.Endpoints) == 0 {
			nets = []string{modeName(ct)}
		}
		t.row(ct.Name, strings.Join(nets, ","), strings.Join(addrs, ","), portList(ct.Ports), runtimeName(ct), pidName(ct.PID), since(ct.Created, now))
	}
	return t.flush()
}

// runtimeName shows who attached a container, and as much of what it calls it
// as tells it from others; the rest is in inspect.
func runtimeName(ct api.Container) string {
	if ct.Runtime == "" {
		return ""
	}
	return ct.Runtime + ":" + ct.RuntimeID[:min(len(ct.RuntimeID), 12)]
}

func newInspect(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show all there is to know of a container",
		Args:  args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ct, err := c.client(cmd).Meant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.printOr(ct, func() error { return printContainer(c.stdout, ct) })
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	c.addFormat(cmd)
	return cmd
}

func printContainer(w io.Writer, ct api.Container) error {
	t := newTable(w)
	t.row("name:", ct.Name)
	t.row("id:", ct.ID)
	t.row("runtime:", ct.Runtime)
	t.row("runtime id:", ct.RuntimeID)
	t.row("mode:", modeName(ct))
	t.row("namespace:", ct.Netns)
	t.row("pid:", pidName(ct.PID))
	t.row("created:", ct.Created.Format(time.RFC3339))
	t.row("labels:", pairs(ct.Labels))
	t.row("exposes:", strings.Join(ct.Expose, ","))
	for _, e := range ct.Endpoints {
		if e.MaxFlows != 0 || e.FlowRate != 0 {
			t.row("limits of "+e.Interface+":", "connections "+limitName(e.MaxFlows)+", new each second "+limitName(e.FlowRate))
		}
		if e.Egress != "" {
			way := e.Egress
			if e.EgressAway != "" {
				way += " (nothing leaves: " + e.EgressAway + ")"
			}
			t.row("egress of "+e.Interface+":", way)
		}
	}
	if err := t.flush(); err != nil || len(ct.Endpoints)+len(ct.Ports) == 0 {
		return err
	}
	sayf(w, "\n")
	return printEndpoints(w, ct)
}

// printEndpoints shows what a container got: its interfaces and ports.
func printEndpoints(w io.Writer, ct api.Container) error {
	t := newTable(w, "INTERFACE", "NETWORK", "ADDRESS", "GATEWAY", "MAC", "MTU", "VLAN", "GUARD", "HOST INTERFACE")
	for _, e := range ct.Endpoints {
		gw := strings.Join(e.Gateways, ",")
		if gw != "" && !e.DefaultRoute {
			gw += " (unused)"
		}
		t.row(e.Interface, e.Network, strings.Join(e.Addresses, ","), gw, e.MAC, fmt.Sprint(e.MTU), vlans(e), e.Guard, e.HostInterface)
	}
	if err := t.flush(); err != nil || len(ct.Ports) == 0 {
		return err
	}
	sayf(w, "\n")
	return printPorts(w, []string{ct.Name}, [][]api.PortMapping{ct.Ports})
}

// vlans shows the VLAN of untagged frames, and behind a plus those of a trunk.
func vlans(e api.Endpoint) string {
	s := ""
	if e.VLAN != 0 {
		s = fmt.Sprint(e.VLAN)
	}
	if e.Trunk != "" {
		s += "+" + e.Trunk
	}
	return s
}

func limitName(n int) string {
	switch n {
	case 0:
		return "default"
	case -1:
		return "no limit"
	}
	return fmt.Sprint(n)
}

func modeName(ct api.Container) string {
	if ct.Mode == api.ModeContainer {
		return ct.Mode + ":" + ct.Peer
	}
	return ct.Mode
}

func pidName(pid int) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprint(pid)
}

func newFDB(c *cli) *cobra.Command {
	var network string
	cmd := &cobra.Command{
		Use:   "fdb",
		Short: "Show the MAC table: which address is behind which port",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl := c.client(cmd)
			if network != "" {
				// The table knows only networks that have entries.
				n, err := cl.Network(cmd.Context(), network)
				if err != nil {
					return err
				}
				network = n.Name
			}
			fdb, err := cl.FDB(cmd.Context())
			if err != nil {
				return err
			}
			if network != "" {
				fdb = slices.DeleteFunc(fdb, func(e api.FDBEntry) bool { return e.Network != network })
			}
			return c.printOr(listed(fdb), func() error { return printFDB(c.stdout, fdb) })
		},
	}
	cmd.Flags().StringVar(&network, "network", "", "only this network")
	completeFlag(cmd, "network", c.networks)
	c.addFormat(cmd)
	c.addWatch(cmd)
	return cmd
}

func printFDB(w io.Writer, fdb []api.FDBEntry) error {
	t := newTable(w, "NETWORK", "VLAN", "MAC", "CONTAINER", "PORT", "TYPE", "AGE")
	for _, e := range fdb {
		kind, age := "learned", seconds(e.Age)
		if e.Static {
			kind, age = "static", ""
		}
		vlan := ""
		if e.VLAN != 0 {
			vlan = fmt.Sprint(e.VLAN)
		}
		t.row(e.Network, vlan, e.MAC, e.Container, e.Port, kind, age)
	}
	return t.flush()
}

func newNAT(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{Use: "nat", Short: "Show and forget translated connections"})
	var container, flushProto string
	var limit int
	ls := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the connections whose addresses are translated",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef(cmd, "--limit %d: must be a number of connections", limit)
			}
			nat, err := c.client(cmd).NAT(cmd.Context(), api.NATQuery{Container: container, Limit: limit})
			if err != nil {
				return err
			}
			return c.printOr(listed(nat), func() error { return printNAT(c.stdout, nat) })
		},
	}
	ls.Flags().StringVar(&container, "container", "", "only connections of this container")
	ls.Flags().IntVar(&limit, "limit", 0, "so many at most, the oldest (default all)")
	completeFlag(ls, "container", c.containers)
	c.addFormat(ls)
	c.addWatch(ls)

	var flushOf string
	flush := &cobra.Command{
		Use:   "flush",
		Short: "Forget translated connections; their next packet starts anew",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := c.client(cmd).FlushNAT(cmd.Context(), api.NATFlush{Container: flushOf, Proto: flushProto})
			if err != nil {
				return err
			}
			return c.printOr(n, func() error {
				return sayf(c.stdout, "%s forgotten\n", plural(n.Count, "connection"))
			})
		},
	}
	flush.Flags().StringVar(&flushOf, "container", "", "only connections of this container")
	flush.Flags().StringVar(&flushProto, "proto", "", "only this protocol: tcp, udp, icmp or sctp")
	completeFlag(flush, "container", c.containers)
	c.addFormat(flush)
	cmd.AddCommand(ls, flush)
	return cmd
}

// printNAT shows a connection as its first packet came and as that left.
func printNAT(w io.Writer, nat []api.NATEntry) error {
	t := newTable(w, "KIND", "PROTO", "CONTAINER", "FROM", "TO", "FROM AFTER", "TO AFTER", "STATE", "PACKETS", "BYTES", "EXPIRES")
	for _, e := range nat {
		if e.Shared {
			e.NATSource += " shared"
		}
		t.row(e.Kind, e.Proto, e.Container, e.Source, e.Dest, e.NATSource, e.NATDest, e.State,
			count(e.Packets), count(e.Bytes), seconds(e.Expires))
	}
	return t.flush()
}

func newStats(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats [NAME]",
		Short: "Show the counters of every port, or of a container's, and why frames were dropped",
		Args:  args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var q api.StatsQuery
			if len(args) == 1 {
				q.Container = args[0]
			}
			st, err := c.client(cmd).Stats(cmd.Context(), q)
			if err != nil {
				return err
			}
			st.Ports = listed(st.Ports)
			return c.printOr(st, func() error { return printStats(c.stdout, st, q.Container == "") })
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	c.addFormat(cmd)
	c.addWatch(cmd)
	return cmd
}

func printStats(w io.Writer, st api.Stats, whole bool) error {
	t := newTable(w, "PORT", "KIND", "NETWORK", "CONTAINER", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES", "DROPPED", "KERNEL DROPPED")
	for _, p := range st.Ports {
		var dropped uint64
		for _, n := range p.Drops {
			dropped += n
		}
		t.row(p.Port, p.Kind, p.Network, p.Container, count(p.RxFrames), count(p.RxBytes),
			count(p.TxFrames), count(p.TxBytes), count(dropped), count(p.KernelDrops))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := printDrops(w, st); err != nil || !whole {
		return err
	}
	return sayf(w, "\n%s tracked; RX came in from the port, TX went out to it\n", plural(st.Connections, "connection"))
}

// printDrops lists the reasons that occurred, most frequent first, and the
// ports whose frames they hit.
func printDrops(w io.Writer, st api.Stats) error {
	reasons := slices.Sorted(maps.Keys(st.Drops))
	reasons = slices.DeleteFunc(reasons, func(r string) bool { return st.Drops[r] == 0 })
	if len(reasons) == 0 {
		return nil
	}
	slices.SortStableFunc(reasons, func(a, b string) int { return cmp.Compare(st.Drops[b], st.Drops[a]) })
	sayf(w, "\n")
	t := newTable(w, "DROP REASON", "FRAMES", "CAME IN AT")
	for _, r := range reasons {
		var from []string
		for _, p := range st.Ports {
			if n := p.Drops[r]; n > 0 {
				from = append(from, fmt.Sprintf("%s (%d)", cmp.Or(p.Container, p.Port), n))
			}
		}
		t.row(r, count(st.Drops[r]), strings.Join(from, ", "))
	}
	return t.flush()
}
