package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

func newPort(c *cli) *cobra.Command {
	cmd := group(&cobra.Command{Use: "port", Short: "Publish ports of running containers"})
	cmd.AddCommand(newPortAdd(c), newPortRm(c), newPortLs(c))
	return cmd
}

func newPortAdd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]...",
		Short: "Publish ports, all or none",
		Example: `  vswitch port add web 8080:80
  vswitch port add web 127.0.0.1:8443:443 10000-20000:10000-20000/udp`,
		Args: args("NAME", "PORT..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			added, err := c.client(cmd).Publish(cmd.Context(), args[0], args[1:])
			if err != nil {
				return err
			}
			return c.printOr(listed(added), func() error {
				return printPorts(c.stdout, args[:1], [][]api.PortMapping{added})
			})
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	c.addFormat(cmd)
	return cmd
}

func newPortRm(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]...",
		Aliases: []string{"remove"},
		Short:   "Take published ports away, all or none",
		Args:    args("NAME", "PORT..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.client(cmd).Unpublish(cmd.Context(), args[0], args[1:])
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
}

func newPortLs(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls [NAME]",
		Aliases: []string{"list"},
		Short:   "List published ports, of one container or of all",
		Args:    args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := c.client(cmd)
			if len(args) == 1 {
				ports, err := cl.Ports(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.printOr(listed(ports), func() error {
					return printPorts(c.stdout, args, [][]api.PortMapping{ports})
				})
			}
			cs, err := cl.Containers(cmd.Context())
			if err != nil {
				return err
			}
			names, ports := make([]string, len(cs)), make([][]api.PortMapping, len(cs))
			byName := map[string][]api.PortMapping{}
			for i, ct := range cs {
				names[i], ports[i] = ct.Name, ct.Ports
				byName[ct.Name] = listed(ct.Ports)
			}
			return c.printOr(byName, func() error { return printPorts(c.stdout, names, ports) })
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	c.addFormat(cmd)
	c.addWatch(cmd)
	return cmd
}

// printPorts lists the ports of each container under its name.
func printPorts(w io.Writer, names []string, ports [][]api.PortMapping) error {
	t := newTable(w, "CONTAINER", "PROTO", "HOST", "TO", "CONTAINER ADDRESS", "BY HAND")
	for i, name := range names {
		for _, p := range ports[i] {
			byHand, host := "-", hostSide(p)
			if p.ByHand {
				byHand = "yes"
			}
			if p.Waits {
				host += " (waits: the host has no such address now)"
			}
			t.row(name, p.Proto, host, portRange(p.Port, p.PortEnd), strings.Join(p.Addresses, ","), byHand)
		}
	}
	return t.flush()
}

// portList is the short form in ps: 8080->80/tcp.
func portList(ports []api.PortMapping) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = fmt.Sprintf("%s->%s/%s", hostSide(p), portRange(p.Port, p.PortEnd), p.Proto)
	}
	return strings.Join(words, ",")
}

func hostSide(p api.PortMapping) string {
	ports := portRange(p.HostPort, p.HostPortEnd)
	switch addr, err := netip.ParseAddr(p.HostIP); {
	case p.HostIP == "":
		return ports
	case err == nil && addr.Is6():
		return "[" + p.HostIP + "]:" + ports
	}
	return p.HostIP + ":" + ports
}

func portRange(first, last uint16) string {
	if last <= first {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
