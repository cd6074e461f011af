package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

func newAttach(c *cli) *cobra.Command {
	var (
		netns string
		pid   int
		ep    endpointFlags
	)
	cmd := &cobra.Command{
		Use:   "attach NAME --netns PATH|--pid N [flags]",
		Short: "Give a network namespace an interface on the switch",
		Long: `Give a network namespace an interface on the switch: a veth pair whose end in
the namespace becomes eth0, with an address, the network's MTU and a default
route. It fails as a whole or not at all, and repeated it changes nothing.

The namespace is a path, such as one that "ip netns add" makes, or that of a
process. Both are looked up by the daemon: a pid is one of the daemon's own pid
namespace.

Files are not touched: the output ends with what the container's /etc/resolv.conf has to
say for it to find others by name.`,
		Example: `  vswitch attach web --netns /run/netns/web -p 8080:80
  vswitch attach db --pid 4711 --network backend --ip 10.89.0.10`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.Attach{Name: args[0], PID: pid}
			switch {
			case netns == "" && pid == 0:
				return usagef(cmd, "%s: which namespace: --netns PATH or --pid N is missing", args[0])
			case netns != "" && pid != 0:
				return usagef(cmd, "%s: --netns and --pid exclude each other", args[0])
			case pid < 0:
				return usagef(cmd, "--pid %d: must be the number of a process", pid)
			case netns != "":
				path, err := filepath.Abs(netns) // the daemon has a directory of its own
				if err != nil {
					return fmt.Errorf("--netns %s: %w", netns, err)
				}
				// /proc/self is us, not the daemon.
				if rest, ok := strings.CutPrefix(path, "/proc/self/"); ok {
					path = fmt.Sprintf("/proc/%d/%s", os.Getpid(), rest)
				}
				req.Netns = path
			}
			if err := ep.attach(cmd, &req); err != nil {
				return err
			}
			at, err := c.client(cmd).Attach(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.printOr(at, func() error {
				if err := printEndpoints(c.stdout, at); err != nil {
					return err
				}
				return printResolvConf(c.stdout, at)
			})
		},
	}
	cmd.Flags().StringVar(&netns, "netns", "", "path of the network namespace")
	cmd.Flags().IntVar(&pid, "pid", 0, "a process in the network namespace")
	ep.add(cmd, "a network's name or name=NET,ip=ADDR,ip6=ADDR,mac=MAC,ifname=IF (repeatable; default the default network)")
	completeFlag(cmd, "network", c.networks)
	c.addFormat(cmd)
	return cmd
}

func newDetach(c *cli) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "detach NAME... [--force]",
		Short: "Undo attach; a container that is not attached is no error",
		Args:  args("NAME..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := c.client(cmd)
			return each(args, func(name string) error {
				_, err := cl.Container(cmd.Context(), name)
				if err := cl.Detach(cmd.Context(), name, client.Force(force)); err != nil {
					return err
				}
				if client.IsNotFound(err) {
					return sayf(c.stdout, "%s is not attached\n", name)
				}
				return nil
			})
		},
		ValidArgsFunction: complete(c.containers),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also what a runtime has attached: its container goes on without that network")
	return cmd
}
